"""Documents of tables: Parquet, Arrow IPC and CSV files, read by record batches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from ixt_data.errors import ConfigError, IxtError
from ixt_data.ingestion.fields import Fields, RejectedRecord, excerpt
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.source_files import BOMB, SourceFile
from ixt_data.ingestion.table_records import (
    BATCH_BYTES,
    Batches,
    RowsPortion,
    TableRecords,
    first_line,
)
from ixt_data.records import Document
from ixt_data.sql import CsvFile
from ixt_data.storage import TruncatedStream

BATCH_ROWS = 1024
PORTION_BYTES = 4 << 20
PAGE_BYTES = 64 << 20


class TableInput(ABC):
    """One file with a table: one document per row, in the order of the rows.

    Values in `metadata` that Python has no exact type for are `pyarrow.Scalar`.

    Attributes:
        size: bytes of the file.
        consumed: estimated bytes read, in proportion to the rows.
    """

    kind: str
    """Name of the format in messages."""

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Read the names of the columns.

        Raises:
            ConfigError: the file lacks a column that `fields` names.
            IxtError: the file is not a readable file of this format.
        """
        if fields.records:
            raise ConfigError(f"{source.file} is a table; --records is for JSON")
        self.file, self.name, self.size = source.file, source.name, source.size
        self.consumed = 0
        self._fields = fields
        try:
            self.path = source.decoded_path()
        except TruncatedStream as error:
            raise IxtError(f"{self.file} is not a readable {self.kind} file: {error}") from None
        # A decoded copy exists as long as its source.
        self._source = source
        fields.check_columns(self.file, self._columns())

    @property
    def identity(self) -> list[Any]:
        """Everything that the records depend on."""
        return [self.kind, *self._source.identity, *self._fields.identity]

    @abstractmethod
    def _columns(self) -> list[str]:
        """Return the names of the columns."""

    def _unreadable(self, error: Exception) -> IxtError:
        return IxtError(f"{self.file} is not a readable {self.kind} file: {first_line(error)}")

    def _records(self) -> TableRecords:
        fields = replace(self._fields, remarks=Remarks())
        return TableRecords(self.kind, self.file, self.name, fields)

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per row; a corrupt file ends with one rejection."""
        for portion in self.portions():
            yield from portion
            self._fields.remarks.update(portion.remarks)
            self.consumed = portion.consumed

    @abstractmethod
    def portions(self) -> Iterator[RowsPortion]:
        """Yield the rows in portions, which several processes can convert."""


class BatchedInput(TableInput):
    """One file with a table that is read from its start to its end, in record batches."""

    @abstractmethod
    def _batches(self) -> Iterator[tuple[Any, float]]:
        """Yield record batches, each with the part of the file that is read by then."""

    def _rejections(self) -> Iterator[RejectedRecord]:
        """Yield the rows that are not in any batch, after the last one."""
        return iter(())

    def portions(self) -> Iterator[Batches]:
        """Yield the rows in portions of consecutive batches."""
        row = size = 0
        batches: list[Any] = []
        consumed = 0
        rejected: list[RejectedRecord] = []
        try:
            for batch, share in self._batches():
                batches.append(batch)
                size += batch.nbytes
                consumed = int(self.size * share)
                if size >= PORTION_BYTES:
                    yield Batches(self._records(), row, size, consumed, batches)
                    row += sum(batch.num_rows for batch in batches)
                    batches, size = [], 0
        except (pa.ArrowException, OSError) as error:
            last = row + sum(batch.num_rows for batch in batches) + 1
            reason = f"corrupt {self.kind} data: {first_line(error)}"
            rejected.append(RejectedRecord(self.file, last, reason))
        rejected += self._rejections()
        yield Batches(self._records(), row, size, self.size, batches, rejected)


@dataclass
class RowGroups(RowsPortion):
    """Consecutive row groups of one Parquet file.

    Attributes:
        path: the file.
        groups: numbers of the row groups.
    """

    path: Path
    groups: list[int]

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per row."""
        return self.records.documents(self._batches(), self.row)

    def _batches(self) -> Iterator[Any]:
        with _open_parquet(self.path) as parquet:
            # A value that many rows share stays one value in memory.
            shared = _dictionaries(parquet, self.groups)
        with _open_parquet(self.path, shared) as parquet:
            rows = _batch_rows(parquet.metadata)
            yield from parquet.iter_batches(batch_size=rows, row_groups=self.groups)


class ParquetInput(TableInput):
    """One Parquet file."""

    kind = "Parquet"

    def _open(self) -> Any:
        try:
            return _open_parquet(self.path)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def _columns(self) -> list[str]:
        with self._open() as parquet:
            self._check_sizes(parquet.metadata)
            return list(parquet.schema_arrow.names)

    def _check_sizes(self, metadata: Any) -> None:
        """Refuse a file with a column that decodes to far more than is stored.

        A page is decoded before its values are measured, and a column may have one page.

        Raises:
            IxtError: a column of a row group decodes to more than the limit and `BOMB` times its
                bytes.
        """
        limit = max(self._fields.max_bytes, PAGE_BYTES)
        for number, group in enumerate(map(metadata.row_group, range(metadata.num_row_groups))):
            for column in map(group.column, range(group.num_columns)):
                decoded, stored = column.total_uncompressed_size, column.total_compressed_size
                if decoded > limit and decoded > BOMB * stored:
                    raise IxtError(
                        f"{self.file}: the column {column.path_in_schema} of row group {number} "
                        f"decodes from {stored:,} to {decoded:,} bytes, which no text does. Write "
                        "the file again with smaller row groups"
                    )

    def portions(self) -> Iterator[RowGroups]:
        """Yield the rows in portions of whole row groups, which several processes can read."""
        with self._open() as parquet:
            metadata = parquet.metadata
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
            rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        done = 0
        groups: list[int] = []
        for group in range(len(sizes)):
            groups.append(group)
            total = sum(sizes[i] for i in groups)
            if total < PORTION_BYTES and group + 1 < len(sizes):
                continue
            consumed = self.size * (group + 1) // len(sizes)
            yield RowGroups(self._records(), done, total, consumed, self.path, groups)
            done += sum(rows[i] for i in groups)
            groups = []


class ArrowInput(BatchedInput):
    """One Arrow IPC file or stream; a Feather file of version 2 is one."""

    kind = "Arrow"

    def _open(self) -> Any:
        """Return an iterable of record batches with a `schema`."""
        try:
            with self.path.open("rb") as file:
                head = file.read(8)
            if head.startswith(FEATHER_1):
                raise IxtError(
                    f"{self.file} is a Feather file of version 1; write it as version 2, or Parquet"
                )
            mapped = pa.memory_map(str(self.path))
            if head.startswith(ARROW_FILE):
                reader = pa.ipc.open_file(mapped)
                batches = map(reader.get_batch, range(reader.num_record_batches))
                return pa.RecordBatchReader.from_batches(reader.schema, batches)
            return pa.ipc.open_stream(mapped)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def _columns(self) -> list[str]:
        return list(self._open().schema.names)

    def _batches(self) -> Iterator[tuple[Any, float]]:
        n_bytes = 0
        for batch in self._open():
            n_bytes += batch.nbytes
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(start, BATCH_ROWS), min(n_bytes / max(self.size, 1), 1.0)


class CsvInput(BatchedInput):
    """One CSV file with the names of its columns in the first line."""

    kind = "CSV"

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Read the first line and find the delimiter; the arguments are those of the class above.

        Raises:
            ConfigError: the first line lacks a column that `fields` names.
            IxtError: the file cannot be read as CSV.
        """
        self._delimiter = fields.delimiter or ("\t" if source.suffix == ".tsv" else None)
        super().__init__(source, fields)

    def _columns(self) -> list[str]:
        limit = self._fields.max_bytes
        self._csv = CsvFile(self.path, self.file, self._delimiter, limit)
        return self._csv.columns

    def _batches(self) -> Iterator[tuple[Any, float]]:
        yield from self._csv.batches(BATCH_ROWS, self._fields.is_metadata)

    def _rejections(self) -> Iterator[RejectedRecord]:
        for line, reason, text in self._csv.rejected_lines():
            yield RejectedRecord(self.file, line, reason, excerpt(text))


ARROW_FILE, ARROW_STREAM, FEATHER_1 = b"ARROW1", b"\xff\xff\xff\xff", b"FEA1"
"""First bytes of the kinds of Arrow files."""


def _open_parquet(path: Path, dictionaries: list[str] | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, read_dictionary=dictionaries)


def _dictionaries(parquet: pq.ParquetFile, groups: list[int]) -> list[str]:
    """Return the columns of text whose dictionary is most of their bytes in some row groups."""
    found: dict[str, None] = {}
    for group in map(parquet.metadata.row_group, groups):
        for column in map(group.column, range(group.num_columns)):
            start = column.dictionary_page_offset
            if column.physical_type == "BYTE_ARRAY" and start is not None:
                size = column.data_page_offset - start
                if 2 * size > column.total_compressed_size:
                    found[column.path_in_schema] = None
    return list(found)


def _batch_rows(metadata: Any) -> int:
    """Return the number of rows with about `BATCH_BYTES` uncompressed bytes."""
    groups = range(metadata.num_row_groups)
    size = sum(int(metadata.row_group(group).total_byte_size) for group in groups)
    rows = int(metadata.num_rows) * BATCH_BYTES // max(size, 1)
    return max(1, min(BATCH_ROWS, rows))
