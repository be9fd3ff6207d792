"""A reader: texts that `|` divides, in files that end with .pipes."""

from collections.abc import Iterator
from pathlib import Path

from ixt_data.ingestion import Fields, Reader, RejectedRecord
from ixt_data.records import Document


class PipesInput:
    """One file."""

    def __init__(self, path: Path, fields: Fields) -> None:
        self.path, self.fields = path, fields
        self.size, self.consumed = path.stat().st_size, 0

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document, or a rejected record with its reason, per part."""
        for number, text in enumerate(self.path.read_text().split("|"), 1):
            document = self.fields.document({"text": text.strip()}, self.path.name, number)
            if isinstance(document, str):
                yield RejectedRecord(str(self.path), number, document)
            else:
                yield document
        self.consumed = self.size


PIPES = Reader((".pipes",), PipesInput)
