"""Documents of Parquet files, read by record batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_data.errors import ConfigError, IxtError
from ixt_data.ingestion.fields import MESSAGES, TEXT, Fields, RejectedRecord, excerpt
from ixt_data.ingestion.text_files import printable
from ixt_data.records import Document

BATCH_BYTES = 16 << 20
BATCH_ROWS = 1024


class ParquetInput:
    """One Parquet file: one document per row, in the order of the rows.

    Timestamps and dates in `metadata` are `pyarrow.Scalar`, which preserves their type.

    Attributes:
        size: bytes of the file.
        consumed: estimated bytes read, in proportion to the rows.
    """

    def __init__(self, path: Path, fields: Fields) -> None:
        """Read the footer.

        Raises:
            ConfigError: the file lacks a column that `fields` names.
            IxtError: the file is not a readable Parquet file.
        """
        self.path = path
        self.file = printable(path)
        self.name = printable(path.name)
        self.size = path.stat().st_size
        self.consumed = 0
        self._fields = fields
        with self._open() as parquet:
            self._check(parquet.schema_arrow.names)

    def _open(self) -> Any:
        try:
            return pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            message = str(error).splitlines()[0]
            raise IxtError(f"{self.file} is not a readable Parquet file: {message}") from None

    def _check(self, columns: list[str]) -> None:
        for option, name in (("--text-field", self._fields.text), ("--id-field", self._fields.id)):
            # A table without texts may contain conversations.
            if name == TEXT and MESSAGES in columns:
                continue
            if name is not None and name not in columns:
                known = ", ".join(columns)
                raise ConfigError(
                    f"{self.file} has no column {name!r}; valid for {option}: {known}"
                )

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per row; a corrupt file ends with one rejection."""
        self.consumed = 0
        row = 0
        with self._open() as parquet:
            total = parquet.metadata.num_rows
            batches = parquet.iter_batches(batch_size=_batch_rows(parquet.metadata))
            while (batch := self._next(batches, row)) is not None:
                if isinstance(batch, RejectedRecord):
                    yield batch
                    break
                for record in _rows(batch):
                    row += 1
                    yield self._document(record, row)
                self.consumed = self.size * row // total
        self.consumed = self.size

    def _next(self, batches: Iterator[Any], row: int) -> Any:
        try:
            return next(batches, None)
        except (pa.ArrowException, OSError) as error:
            message = str(error).splitlines()[0]
            return RejectedRecord(self.file, row + 1, f"corrupt Parquet data: {message}")

    def _document(self, record: dict[str, Any], row: int) -> Document | RejectedRecord:
        text = record.get(self._fields.text)
        if isinstance(text, bytes):
            try:
                record[self._fields.text] = text.decode()
            except UnicodeDecodeError:
                return RejectedRecord(self.file, row, "not UTF-8", excerpt(text))
        document = self._fields.document(record, self.name, row)
        if isinstance(document, Document):
            return document
        return RejectedRecord(
            self.file, row, document, excerpt(text if isinstance(text, str) else "")
        )


def _batch_rows(metadata: Any) -> int:
    """Return the number of rows with about `BATCH_BYTES` uncompressed bytes."""
    groups = range(metadata.num_row_groups)
    size = sum(int(metadata.row_group(group).total_byte_size) for group in groups)
    rows = int(metadata.num_rows) * BATCH_BYTES // max(size, 1)
    return max(1, min(BATCH_ROWS, rows))


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    for values in zip(*map(_values, batch.columns), strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: Any) -> list[Any]:
    """Return Python values: Arrow scalars for times and dates, bytes for invalid UTF-8."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        return [scalar if scalar.is_valid else None for scalar in column]
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        binary = pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()
        return [_decoded(value) for value in column.cast(binary).to_pylist()]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value
