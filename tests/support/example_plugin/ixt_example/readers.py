"""A reader: texts that `|` divides, in files that end with .pipes."""

from collections.abc import Iterator

from ixt_data.ingestion import Fields, Reader, RejectedRecord, SourceFile
from ixt_data.records import Document


class PipesInput:
    """One file."""

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        self.source, self.fields = source, fields
        self.size = source.size

    @property
    def consumed(self) -> int:
        """Number of stored bytes that were read."""
        return self.source.consumed

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document, or a rejected record with its reason, per part."""
        whole = b"".join(self.source.stream).decode()
        for number, text in enumerate(whole.split("|"), 1):
            document = self.fields.document({"text": text.strip()}, self.source.name, number)
            if isinstance(document, str):
                yield RejectedRecord(self.source.file, number, document)
            else:
                yield document


PIPES = Reader((".pipes",), PipesInput)
