"""Documents of text files: one per file."""

from collections.abc import Iterator

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import Fields, RejectedRecord, excerpt, too_long
from ixt_data.ingestion.source_files import SourceFile, SourceInput
from ixt_data.records import Document, document_id
from ixt_data.storage import HEAD, TruncatedStream


class TextFileInput(SourceInput):
    """One text file, plain or compressed: one document, with the file's name as source and id."""

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Keep the file; `fields` are for files of records.

        Raises:
            ConfigError: a field is named, which a text has not.
        """
        if fields != Fields():
            raise ConfigError(
                f"{source.file} is read as text; options of fields are for files of records"
            )
        super().__init__(source)
        self._limit = fields.max_bytes

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield the document, or the rejected record."""
        name = self._source.name
        yield read_text(self._source, source=name, source_id=name, limit=self._limit)


def read_text(
    source_file: SourceFile, *, source: str, source_id: str, limit: int
) -> Document | RejectedRecord:
    """Read a file as a document with its relative path as metadata `path`, or reject it.

    A file of more than `limit` bytes is rejected.
    """
    file = source_file.file
    parts: list[bytes] = []
    n_bytes = 0
    try:
        for chunk in source_file.stream:
            parts.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > limit:
                return RejectedRecord(file, 0, too_long(limit))
    except TruncatedStream as error:
        return RejectedRecord(file, 0, str(error))
    raw = b"".join(parts)
    # UTF-16 text, or an archive, may be valid UTF-8, but text has no zero bytes.
    if b"\0" in raw:
        return RejectedRecord(file, 0, "not text: contains zero bytes", excerpt(raw[:HEAD]))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return RejectedRecord(file, line, "not UTF-8", excerpt(raw[:HEAD]))
    if not text or text.isspace():
        return RejectedRecord(file, 0, "empty text")
    return Document(document_id(text), text, source, source_id, {"path": source_id})
