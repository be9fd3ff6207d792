"""Formats of files: which reader reads a file, by its first bytes, its name, or the user's word."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import Fields, RejectedRecord
from ixt_data.ingestion.json_files import looks_like_json, open_json
from ixt_data.ingestion.source_files import SourceFile, check_encoding
from ixt_data.ingestion.table_files import (
    ARROW_FILE,
    ARROW_STREAM,
    FEATHER_1,
    ArrowInput,
    CsvInput,
    ParquetInput,
)
from ixt_data.ingestion.text_files import TextFileInput
from ixt_data.ingestion.web_pages import HtmlInput, WarcInput
from ixt_data.plugins import find_plugins
from ixt_data.records import Document

TEXT_FORMAT = "text"
# PDF, RTF, Avro and Postscript may have no byte that a text cannot have.
OTHER_FORMATS = (b"%PDF-", b"{\\rtf", b"Obj\x01", b"%!PS")


class Input(Protocol):
    """One input. Iteration yields each record once, as a document or as rejected."""

    @property
    def size(self) -> int:
        """Bytes of the input as stored, perhaps compressed."""

    @property
    def consumed(self) -> int:
        """Number of these bytes that were read."""

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield the records in their order."""


@dataclass(frozen=True)
class Reader:
    """A format of files. A plugin registers an instance under `ixt.readers`.

    Attributes:
        suffixes: lower-case endings of file names, such as `.jsonl`, without a compression.
        open: returns the input of a file; `Fields` names the fields of text, id and source.
        recognizes: whether the first decoded bytes, at most 64 KiB, are of this format; None: the
            name alone decides.
        records: whether a file contains records; a file of text is one document.
    """

    suffixes: tuple[str, ...]
    open: Callable[[SourceFile, Fields], Input]
    recognizes: Callable[[bytes], bool] | None = None
    records: bool = True


def readers() -> dict[str, Reader]:
    """Return the installed readers by the name of their format.

    Raises:
        ConfigError: a plugin is not a `Reader`.
        PluginError: a plugin cannot be loaded.
    """
    found = {}
    for name, plugin in find_plugins("ixt.readers").items():
        reader = plugin.load()
        if not isinstance(reader, Reader):
            raise ConfigError(f"reader {name!r}: {plugin.target} is not a Reader")
        found[name] = reader
    return found


def find_reader(source: SourceFile, format: str | None = None) -> Reader:
    """Return the reader of a file.

    Args:
        source: the file.
        format: name of the format; None: the first bytes decide, then the name. A file of another
            name is text if it is UTF-8 without zero bytes.

    Raises:
        ConfigError: the format is not known, or the file could be of two formats.
    """
    known = readers()
    if format is not None:
        if format not in known:
            raise ConfigError(f"format {format!r}: use one of {', '.join(sorted(known))}")
        return known[format]
    head = source.head
    names = ", ".join(sorted(known))
    for reader in known.values():
        if reader.recognizes is not None and reader.recognizes(head):
            return reader
    if head.startswith(OTHER_FORMATS):
        raise ConfigError(f"input {source.file} is of no known format; --format can be: {names}")
    for reader in known.values():
        if source.suffix in reader.suffixes:
            return reader
    check_encoding(source)
    if not is_text(head):
        raise ConfigError(f"input {source.file} is of no known format; --format can be: {names}")
    if looks_like_json(head):
        if source.file == "stdin":
            return known["jsonl"]
        raise ConfigError(
            f"input {source.file} contains JSON, but its name does not say so: use --format jsonl "
            "for records, or --format text for one document"
        )
    return known[TEXT_FORMAT]


def is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are UTF-8 text; zero bytes are not text."""
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut.
        return error.start >= len(head) - 3 and error.reason == "unexpected end of data"
    return True


def _starts(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


JSONL = Reader((".jsonl", ".ndjson"), open_json)
JSON = Reader((".json",), open_json)
CSV = Reader((".csv", ".tsv"), CsvInput)
PARQUET = Reader((".parquet",), ParquetInput, _starts(b"PAR1"))
ARROW = Reader(
    (".arrow", ".feather", ".ipc"), ArrowInput, _starts(ARROW_FILE, ARROW_STREAM, FEATHER_1)
)
TEXT = Reader((), TextFileInput, records=False)
HTML = Reader((".html", ".htm", ".xhtml"), HtmlInput, records=False)
WARC = Reader((".warc",), WarcInput, _starts(b"WARC/"))
