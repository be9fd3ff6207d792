"""Rows of `documents`: building them, and comparing them with the rows of a corpus."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ixt_data.conversation import is_conversation
from ixt_data.ingestion.column_values import ColumnTypes, JsonText
from ixt_data.ingestion.columns import (
    RESERVED,
    FieldValues,
    field_values,
    merged_values,
    metadata_columns,
    selected,
)
from ixt_data.ingestion.seen_ids import SeenIds
from ixt_data.log import Entry, RowsFile, Snapshot
from ixt_data.records import ID_BYTES, Document
from ixt_data.sql import KIND, ColumnType, common_schema, parse_type
from ixt_data.storage import Storage
from ixt_data.store import Transaction

_NUMBERS = frozenset({int, float, bool, type(None)})


@dataclass(slots=True)
class DocumentRows:
    """Rows of `documents`, column by column.

    Attributes:
        ids, sources, source_ids, n_bytes, n_chars: one value per document.
        conversations: whether the text of each document is a conversation.
        fields: the user's own fields.
    """

    ids: list[bytes]
    sources: list[str]
    source_ids: list[str]
    n_bytes: list[int]
    n_chars: list[int]
    conversations: list[bool]
    fields: dict[str, FieldValues]

    @classmethod
    def of(cls, documents: Sequence[Document]) -> "DocumentRows":
        """Return a row for each document."""
        texts = [document.text for document in documents]
        return cls(
            [document.doc_id for document in documents],
            [document.source for document in documents],
            [document.source_id for document in documents],
            [len(t) if t.isascii() else len(t.encode()) for t in texts],
            list(map(len, texts)),
            list(map(is_conversation, texts)),
            field_values([document.metadata for document in documents]),
        )

    @classmethod
    def merge(cls, parts: Sequence[tuple["DocumentRows", Sequence[int]]]) -> "DocumentRows":
        """Return some rows of several parts: their indices, in ascending order."""

        def chosen(name: str) -> list[Any]:
            columns = (selected(getattr(rows, name), some) for rows, some in parts)
            return list(chain.from_iterable(columns))

        fields = merged_values([(rows.fields, some) for rows, some in parts])
        return cls(
            chosen("ids"),
            chosen("sources"),
            chosen("source_ids"),
            chosen("n_bytes"),
            chosen("n_chars"),
            chosen("conversations"),
            fields,
        )

    def metadata_sizes(self) -> npt.NDArray[np.int64]:
        """Return the approximate bytes of each document's own fields in memory, int64[n]."""
        sizes = np.zeros(len(self.ids), np.int64)
        for found in self.fields.values():
            kinds = set(map(type, found.values))
            if kinds <= _NUMBERS:
                continue
            is_text = kinds <= {str, JsonText}
            own = list(map(len, found.values)) if is_text else list(map(_size, found.values))
            sizes[slice(None) if found.rows is None else found.rows] += own
        return sizes

    def table(
        self,
        corpus: str,
        stage: str | None,
        shard: str,
        names: Mapping[str, str],
        types: ColumnTypes,
        positions: Sequence[int] | None = None,
    ) -> tuple[pa.Table, list[tuple[str, str, ColumnType]]]:
        """Return the rows as an Arrow table, with field, column and type of the user's columns.

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
        own = metadata_columns(self.fields, n, names, types)
        schema = [pa.field(name, column.type) for name, column in columns.items()]
        for column in own:
            kind = {KIND: str(column.kind)} if column.field is not None else None
            schema.append(pa.field(column.name, column.array.type, metadata=kind))
        arrays = [*columns.values(), *(column.array for column in own)]
        table = pa.table(arrays, schema=pa.schema(schema))
        return table, [(c.field, c.name, c.kind) for c in own if c.field is not None]

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
