"""Rows of a table as documents, by record batches that several processes can convert."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from ixt_data.ingestion.arrow_columns import StoredColumns, row_bytes
from ixt_data.ingestion.fields import Fields, RejectedRecord, excerpt, too_long
from ixt_data.ingestion.remarks import Remarks
from ixt_data.records import Document

BATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class TableRecords:
    """Conversion of the rows of a table to documents.

    Attributes:
        kind: name of the format in messages.
        file: the file, as messages show it.
        name: name of the file, the default source of its documents.
        fields: the fields of text, id and source.
    """

    kind: str
    file: str
    name: str
    fields: Fields

    def documents(
        self, batches: Iterator[Any], row: int = 0
    ) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per row; corrupt batches end with one rejection.

        Args:
            batches: record batches of one schema.
            row: number of rows of the file before these.
        """
        try:
            columns: StoredColumns | None = None
            for batch in batches:
                if columns is None:
                    columns = StoredColumns(batch.schema, self.fields)
                    if row:
                        # What the first rows have said of the schema.
                        self.fields.remarks.take()
                sizes = row_bytes(batch)
                for start, end in _pieces(sizes):
                    fits = sizes[start:end] <= self.fields.max_bytes
                    piece = batch.slice(start, end - start)
                    records = columns.records(piece if fits.all() else piece.filter(pa.array(fits)))
                    for is_short in fits.tolist():
                        row += 1
                        if is_short:
                            yield self._document(next(records), row)
                        else:
                            reason = too_long(self.fields.max_bytes)
                            yield RejectedRecord(self.file, row, reason)
        except (pa.ArrowException, OSError) as error:
            reason = f"corrupt {self.kind} data: {first_line(error)}"
            yield RejectedRecord(self.file, row + 1, reason)

    def _document(self, record: dict[str, Any], row: int) -> Document | RejectedRecord:
        text = record.get(self.fields.text)
        if isinstance(text, bytes):
            try:
                record[self.fields.text] = text.decode()
            except UnicodeDecodeError:
                return RejectedRecord(self.file, row, "not UTF-8", excerpt(text))
        document = self.fields.document(record, self.name, row)
        if isinstance(document, Document):
            return document
        return RejectedRecord(
            self.file, row, document, excerpt(text if isinstance(text, str) else "")
        )


@dataclass
class RowsPortion(ABC):
    """Consecutive rows of one file, a `Portion` of it.

    Attributes:
        records: converts the rows.
        row: number of rows of the file before these.
        size: uncompressed bytes.
        consumed: see `Portion`.
    """

    records: TableRecords
    row: int
    size: int
    consumed: int
    movable: bool = field(default=True, init=False)
    slow: bool = field(default=False, init=False)

    @property
    def remarks(self) -> Remarks:
        """What the summary says about the records."""
        return self.records.fields.remarks

    @abstractmethod
    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per row."""


@dataclass
class Batches(RowsPortion):
    """Consecutive record batches of one file.

    Attributes:
        batches: the record batches.
        rejected: records that are in no batch, after the rows.
    """

    batches: list[Any]
    rejected: list[RejectedRecord] = field(default_factory=list)

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per row."""
        yield from self.records.documents(iter(self.batches), self.row)
        yield from self.rejected

    def __getstate__(self) -> dict[str, Any]:
        # Pickle would copy all of the memory that a slice belongs to.
        sink = pa.BufferOutputStream()
        if self.batches:
            with pa.ipc.new_stream(sink, self.batches[0].schema) as writer:
                for batch in self.batches:
                    writer.write_batch(batch)
        return {**self.__dict__, "batches": sink.getvalue().to_pybytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        data = state["batches"]
        self.__dict__ |= {**state, "batches": [*pa.ipc.open_stream(data)] if data else []}


def _pieces(sizes: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of rows whose sizes are `BATCH_BYTES` together, or of one row."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        end = int(np.searchsorted(ends, before + BATCH_BYTES, side="right"))
        end = max(end, start + 1)
        yield start, end
        start = end


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
