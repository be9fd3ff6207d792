"""Readers by kind of input, and the reader of JSON lines."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from ixt_data.errors import ConfigError, IxtError
from ixt_data.ingestion.fields import TOO_LONG, Fields, RejectedRecord, excerpt, kind_of
from ixt_data.ingestion.parquet_files import ParquetInput
from ixt_data.ingestion.text_files import FolderInput, TextFileInput, printable
from ixt_data.plugins import find_plugins
from ixt_data.records import Document
from ixt_data.storage import ByteStream, LongLine, TruncatedStream, split_lines

BOM = b"\xef\xbb\xbf"
JSON_LINES = (".jsonl", ".ndjson", ".json")
COMPRESSED = (".gz", ".zst", ".zstd")
ARCHIVES = (*COMPRESSED, ".bz2", ".xz", ".lz4", ".zip", ".tar", ".tgz", ".7z")


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
    """A kind of file. A plugin registers an instance under `ixt.readers`.

    Attributes:
        suffixes: lower-case endings of file names, such as `.jsonl`.
        open: returns the input of a file; `Fields` names the fields of text and id.
        reads_compressed: whether it also reads such files with `.gz` or `.zst` after the suffix.
    """

    suffixes: tuple[str, ...]
    open: Callable[[Path, Fields], Input]
    reads_compressed: bool = False


def open_inputs(
    paths: Sequence[str | Path], *, text_field: str = "text", id_field: str | None = None
) -> list[Input]:
    """Open inputs, and check everything that can be checked before reading them.

    Args:
        paths: files and folders. `.jsonl` (also `.gz`, `.zst`) and `.parquet` files contain
            records; another file is one document; a folder contains one document per file.
        text_field: field of the text in a record.
        id_field: field of the user's own id; None: the field `id`, if a record has it.

    Raises:
        IxtError: a path does not exist or cannot be read.
        ConfigError: a kind of file is not supported, or a Parquet file lacks a named column.
    """
    fields = Fields(text_field, id_field)
    return [_open(Path(path), fields) for path in paths]


def _open(path: Path, fields: Fields) -> Input:
    shown = printable(path)
    if not path.exists():
        raise IxtError(f"input {shown} does not exist")
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        raise IxtError(f"input {shown} cannot be read: permission denied")
    if path.is_dir():
        return FolderInput(path)
    if not path.is_file():
        raise IxtError(f"input {shown} is neither a file nor a folder")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    inner = suffixes[-2] if len(suffixes) > 1 and last in COMPRESSED else last
    for plugin in find_plugins("ixt.readers").values():
        reader = plugin.load()
        if not isinstance(reader, Reader):
            raise ConfigError(f"reader {plugin.name!r}: {plugin.target} is not a Reader")
        if (inner if reader.reads_compressed else last) in reader.suffixes:
            return reader.open(path, fields)
    if last in ARCHIVES:
        raise ConfigError(
            f"input {shown}: {last} is not supported; use .jsonl (also .gz or .zst), .parquet, "
            "a text file, or a folder"
        )
    return TextFileInput(path)


class JsonLinesInput:
    """One file with one JSON object per line, plain or compressed.

    Attributes:
        size: bytes of the file as stored.
    """

    def __init__(self, path: Path, fields: Fields) -> None:
        self.file = printable(path)
        self.name = printable(path.name)
        self._fields = fields
        self._stream = ByteStream(path)
        self.size = self._stream.size

    @property
    def consumed(self) -> int:
        """Number of stored bytes that were read."""
        return self._stream.consumed

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per line; a corrupt file ends with one rejection."""
        number = 0
        empty: RejectedRecord | None = None
        try:
            for number, line in enumerate(_without_bom(split_lines(self._stream)), 1):
                # An empty line is an error only where another one follows.
                if empty is not None:
                    yield empty
                    empty = None
                if line in (b"", b"\r"):
                    empty = RejectedRecord(self.file, number, "empty line")
                else:
                    yield self._document(line, number)
        except TruncatedStream as broken:
            if empty is not None:
                yield empty
            # The last line may be complete although the file is truncated.
            last = self._document(broken.rest, number + 1)
            if isinstance(last, Document):
                yield last
            yield RejectedRecord(self.file, number + 1, str(broken), excerpt(broken.rest))

    def _document(self, line: bytes, number: int) -> Document | RejectedRecord:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return RejectedRecord(self.file, number, _json_error(line, error), excerpt(line))
        if type(record) is not dict:
            reason = f"not a JSON object but {kind_of(record)}"
            return RejectedRecord(self.file, number, reason, excerpt(line))
        document = self._fields.document(record, self.name, number)
        if isinstance(document, str):
            return RejectedRecord(self.file, number, document, excerpt(line))
        return document


def _without_bom(lines: Iterable[bytes]) -> Iterator[bytes]:
    rest = iter(lines)
    for first in rest:
        yield first if isinstance(first, LongLine) else first.removeprefix(BOM)
        break
    yield from rest


def _json_error(line: bytes, error: orjson.JSONDecodeError) -> str:
    if isinstance(line, LongLine):
        return TOO_LONG
    if line.isspace():
        return "empty line"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    if "surrogate" in error.msg:
        return "not UTF-8: a lone surrogate"
    return f"not JSON: {error.msg} at column {error.colno}"


JSONL_READER = Reader(JSON_LINES, JsonLinesInput, reads_compressed=True)
PARQUET_READER = Reader((".parquet",), ParquetInput)
