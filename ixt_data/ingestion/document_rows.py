"""Rows of `documents`: building them, and comparing them with the rows of a corpus."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ixt_data.conversation import is_conversation
from ixt_data.ingestion.column_values import ColumnTypes, JsonText
from ixt_data.ingestion.columns import RESERVED, ColumnNames, metadata_columns
from ixt_data.ingestion.seen_ids import SeenIds
from ixt_data.log import Entry, RowsFile, Snapshot
from ixt_data.records import ID_BYTES, Document, as_text
from ixt_data.sql import ColumnType, common_schema, parse_type
from ixt_data.storage import Storage
from ixt_data.store import Transaction

_NUMBERS = frozenset({int, float, bool, type(None)})


@dataclass
class DocumentRows:
    """Rows of `documents` for one shard, column by column."""

    ids: list[bytes] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    source_ids: list[str] = field(default_factory=list)
    n_bytes: list[int] = field(default_factory=list)
    n_chars: list[int] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    conversations: list[bool] = field(default_factory=list)
    metadata_size: int = 0

    def add(self, documents: Sequence[Document]) -> None:
        """Add a row for each document."""
        texts = [document.text for document in documents]
        self.ids += [document.doc_id for document in documents]
        self.sources += [document.source for document in documents]
        self.source_ids += [document.source_id for document in documents]
        self.conversations += map(is_conversation, texts)
        self.n_chars += map(len, texts)
        self.n_bytes += [len(t) if t.isascii() else len(t.encode()) for t in texts]
        for document in documents:
            self._add_metadata(dict(document.metadata))

    def _add_metadata(self, metadata: dict[str, Any]) -> None:
        for name, value in metadata.items():
            kind = type(value)
            if kind is str:
                self.metadata_size += len(value)
            elif kind is list or kind is dict:
                # Nested values become text: it uses less memory, and its size is known.
                metadata[name] = text = JsonText(as_text(value))
                self.metadata_size += len(text)
            elif kind not in _NUMBERS:
                self.metadata_size += _size(value)
        self.metadata.append(metadata)

    def table(
        self,
        corpus: str,
        stage: str | None,
        shard: str,
        names: ColumnNames,
        types: ColumnTypes,
        positions: Sequence[int] | None = None,
    ) -> Any:
        """Return the rows as an Arrow table.

        Args:
            corpus: corpus of the documents.
            stage: stage of training; None: sft for conversations, pretrain for other documents.
            shard: path of the text shard.
            names: see `metadata_columns`.
            types: see `metadata_columns`.
            positions: row of each document in the shard; by default 0, 1, 2, ...
        """
        n = len(self.ids)
        ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(self.ids, pa.binary(ID_BYTES)))
        columns = {
            "doc_id": ids,
            "corpus": pa.repeat(corpus, n),
            "stage": pa.repeat(stage, n) if stage else self._stages(),
            "source": pa.array(self.sources, pa.string()),
            "source_id": pa.array(self.source_ids, pa.string()),
            "n_bytes": pa.array(self.n_bytes, pa.int64()),
            "n_chars": pa.array(self.n_chars, pa.int64()),
            "shard": pa.repeat(shard, n),
            "row": pa.array(range(n) if positions is None else positions, pa.int32()),
        }
        own = metadata_columns(self.metadata, names, types)
        fields = [pa.field(name, column.type) for name, column in columns.items()]
        schema = pa.schema([*fields, *(field for field, _ in own)])
        return pa.table([*columns.values(), *(array for _, array in own)], schema=schema)

    def _stages(self) -> Any:
        return pa.array(["sft" if is_sft else "pretrain" for is_sft in self.conversations])


def _size(value: Any) -> int:
    """Return the bytes of a value that may be large."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, pa.Scalar) and not pa.types.is_primitive(value.type):
        return int(pa.array([value], value.type).nbytes)
    return 0


@dataclass(frozen=True, slots=True)
class OmittedRows:
    """Rows removed from a transaction: number of documents, UTF-8 bytes of their texts."""

    documents: int = 0
    bytes: int = 0


def drop_committed_rows(txn: Transaction, corpus: str, newer: Entry) -> OmittedRows:
    """Drop the rows of documents that a newer commit contains already.

    Their samples stay in the shards of the transaction without a row, as orphans.
    """
    theirs = documents_of(corpus, newer.rows_add)
    if not theirs:
        return OmittedRows()
    documents = size = 0
    with SeenIds() as committed:
        for ids in read_stored_ids(txn.storage, theirs):
            committed.add_batch(ids)
        for file in documents_of(corpus, txn.added_rows):
            with txn.storage.local(file.path) as path, pq.ParquetFile(path) as parquet:
                rows = parquet.read()
            keep = committed.add_batch(ids_of(rows["doc_id"]))
            if keep.all():
                continue
            dropped = rows.filter(pa.array(~keep))
            txn.replace_rows(file, rows.filter(pa.array(keep)))
            txn.count_orphans(Counter(dropped["shard"].to_pylist()))
            documents += dropped.num_rows
            size += sum(dropped["n_bytes"].to_pylist())
    return OmittedRows(documents, size)


def documents_of(corpus: str, files: Iterable[RowsFile]) -> list[RowsFile]:
    """Return the files of rows of a corpus' documents."""
    return [file for file in files if file.table == "documents" and file.partition == corpus]


def metadata_types(snapshot: Snapshot) -> dict[str, ColumnType]:
    """Return the types of the metadata columns in a snapshot, by name."""
    files = [file for file in snapshot.rows.values() if file.table == "documents"]
    kinds = common_schema(files, {})
    return {name: parse_type(kind) for name, kind in kinds.items() if name not in RESERVED}


def read_stored_ids(storage: Storage, files: Iterable[RowsFile]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the doc_ids in files of rows, in batches of uint8[n, 16]."""
    for file in files:
        with storage.local(file.path) as path, pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(columns=["doc_id"]):
                yield ids_of(batch.column(0))


def ids_of(column: Any) -> npt.NDArray[np.uint8]:
    """Convert a column of doc_ids to uint8[n, 16]."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    return id_array(b"".join(storage.to_pylist()))


def id_array(ids: bytes) -> npt.NDArray[np.uint8]:
    """Convert concatenated doc_ids to uint8[n, 16]."""
    return np.frombuffer(ids, np.uint8).reshape(-1, ID_BYTES)
