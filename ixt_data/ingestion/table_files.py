"""Documents of tables: Parquet, Arrow IPC and CSV files, read by record batches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from ixt_data.errors import ConfigError, IxtError
from ixt_data.ingestion.arrow_columns import StoredColumns
from ixt_data.ingestion.fields import Fields, RejectedRecord, excerpt
from ixt_data.ingestion.source_files import SourceFile
from ixt_data.records import Document
from ixt_data.sql import CsvFile
from ixt_data.storage import TruncatedStream

BATCH_BYTES = 16 << 20
BATCH_ROWS = 1024


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

    @abstractmethod
    def _columns(self) -> list[str]:
        """Return the names of the columns."""

    @abstractmethod
    def _batches(self) -> Iterator[tuple[Any, float]]:
        """Yield record batches, each with the part of the file that is read by then."""

    def _rejections(self) -> Iterator[RejectedRecord]:
        """Yield the rows that are not in any batch, after the last one."""
        return iter(())

    def _unreadable(self, error: Exception) -> IxtError:
        return IxtError(f"{self.file} is not a readable {self.kind} file: {_first_line(error)}")

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per row; a corrupt file ends with one rejection."""
        self.consumed = 0
        row = 0
        try:
            columns: StoredColumns | None = None
            for batch, share in self._batches():
                columns = columns or StoredColumns(batch.schema, self._fields)
                for record in columns.records(batch):
                    row += 1
                    yield self._document(record, row)
                self.consumed = int(self.size * share)
        except (pa.ArrowException, OSError) as error:
            reason = f"corrupt {self.kind} data: {_first_line(error)}"
            yield RejectedRecord(self.file, row + 1, reason)
        yield from self._rejections()
        self.consumed = self.size

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


class ParquetInput(TableInput):
    """One Parquet file."""

    kind = "Parquet"

    def _open(self) -> Any:
        try:
            return pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def _columns(self) -> list[str]:
        with self._open() as parquet:
            return list(parquet.schema_arrow.names)

    def _batches(self) -> Iterator[tuple[Any, float]]:
        row = 0
        with self._open() as parquet:
            total = parquet.metadata.num_rows
            for batch in parquet.iter_batches(batch_size=_batch_rows(parquet.metadata)):
                row += batch.num_rows
                yield batch, row / total


class ArrowInput(TableInput):
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


class CsvInput(TableInput):
    """One CSV file with the names of its columns in the first line."""

    kind = "CSV"

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Read the first line and find the delimiter; the arguments are those of the class above.

        Raises:
            ConfigError: the first line lacks a column that `fields` names.
            IxtError: the file cannot be read as CSV.
        """
        self._delimiter = "\t" if source.suffix == ".tsv" else fields.delimiter
        super().__init__(source, fields)

    def _columns(self) -> list[str]:
        self._csv = CsvFile(self.path, self.file, self._delimiter)
        return self._csv.columns

    def _batches(self) -> Iterator[tuple[Any, float]]:
        yield from self._csv.batches(BATCH_ROWS)

    def _rejections(self) -> Iterator[RejectedRecord]:
        for line, reason, text in self._csv.rejected_lines():
            yield RejectedRecord(self.file, line, reason, excerpt(text))


ARROW_FILE, ARROW_STREAM, FEATHER_1 = b"ARROW1", b"\xff\xff\xff\xff", b"FEA1"
"""First bytes of the kinds of Arrow files."""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _batch_rows(metadata: Any) -> int:
    """Return the number of rows with about `BATCH_BYTES` uncompressed bytes."""
    groups = range(metadata.num_row_groups)
    size = sum(int(metadata.row_group(group).total_byte_size) for group in groups)
    rows = int(metadata.num_rows) * BATCH_BYTES // max(size, 1)
    return max(1, min(BATCH_ROWS, rows))
