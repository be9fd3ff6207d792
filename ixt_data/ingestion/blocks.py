"""Blocks: consecutive documents of an input, encoded; a shard consists of parts of blocks."""

import hashlib
import marshal
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from ixt_data.ingestion.column_values import ColumnTypes, JsonText, TypeOptions
from ixt_data.ingestion.columns import FieldValues, selected
from ixt_data.ingestion.document_rows import DocumentRows
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.portions import Portion
from ixt_data.ingestion.remarks import Remarks
from ixt_data.log import RowsFile
from ixt_data.mds import TEXT_COLUMNS, ShardFormat
from ixt_data.records import Document
from ixt_data.sql import ColumnType, field_type

# A block ends at the first limit: records, or characters of text.
BLOCK_RECORDS = 8192
BLOCK_CHARS = 4 << 20


_COLUMNS = ("ids", "sources", "source_ids", "n_bytes", "n_chars", "conversations")
_PIECES = 256
_HEAD = struct.Struct("<cQ")


class Content(NamedTuple):
    """The documents of a block: the bytes of each sample, and the rows."""

    samples: Sequence[bytes | memoryview]
    rows: DocumentRows


@dataclass(frozen=True, slots=True)
class Block:
    """What the process that decides about shards needs to know of a block.

    Attributes:
        ids: doc_ids, one after another.
        sizes: bytes that each document adds to a shard and its rows, int64[n].
        fields: rows of the block that have each of the user's fields; None: all.
        rejected: records that are not documents.
        remarks: what the summary says of these records.
        content: the documents, or the file that contains them.
    """

    ids: bytes
    sizes: npt.NDArray[np.int64]
    fields: dict[str, Sequence[int] | None]
    rejected: list[RejectedRecord]
    remarks: Remarks
    content: Content | Path

    def __len__(self) -> int:
        return len(self.sizes)


def read_blocks(portion: Portion) -> Iterator[Block]:
    """Yield the documents and rejected records of a portion in blocks, at least one."""
    documents: list[Document] = []
    rejected: list[RejectedRecord] = []
    chars = 0
    for item in portion:
        if isinstance(item, RejectedRecord):
            rejected.append(item)
        else:
            documents.append(item)
            chars += len(item.text)
        if chars >= BLOCK_CHARS or len(documents) + len(rejected) >= BLOCK_RECORDS:
            yield _encoded(documents, rejected, portion.remarks.take())
            documents, rejected, chars = [], [], 0
    yield _encoded(documents, rejected, portion.remarks.take())


def write_blocks(portion: Portion, folder: Path, number: int) -> list[Block]:
    """Return the blocks of a portion, with their documents in files of a folder.

    The files are named after the portion's number.
    """
    return [
        stored(block, folder / f"{number}-{i}.block")
        for i, block in enumerate(read_blocks(portion))
    ]


def stored(block: Block, path: Path) -> Block:
    """Write the documents of a block to a file; return the block without them."""
    assert isinstance(block.content, Content)
    samples, rows = block.content
    fields = {
        name: (found.rows if found.rows is None else list(found.rows), *_plain(found.values))
        for name, found in rows.fields.items()
    }
    columns = [getattr(rows, name) for name in _COLUMNS]
    content = (list(map(len, samples)), columns, fields)
    try:
        kind, head = b"m", marshal.dumps(content)
    except ValueError:
        # Values that have an Arrow type.
        kind, head = b"p", pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    pieces = (_HEAD.pack(kind, len(head)), head, *samples)
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(pieces), _PIECES):
            file.write(b"".join(pieces[start : start + _PIECES]))
    return Block(block.ids, block.sizes, block.fields, block.rejected, block.remarks, path)


def _plain(values: list[Any]) -> tuple[bool, list[Any]]:
    """Return whether all values are JSON, and the values without a class of ours then."""
    if set(map(type, values)) - {type(None)} != {JsonText}:
        return False, values
    return True, [None if value is None else value[:] for value in values]


def _content(where: Content | Path) -> Content:
    if isinstance(where, Content):
        return where
    data = memoryview(where.read_bytes())
    kind, size = _HEAD.unpack_from(data)
    start = _HEAD.size + size
    loads = marshal.loads if kind == b"m" else pickle.loads
    lengths, columns, fields = loads(data[_HEAD.size : start])
    ends = list(accumulate(lengths, initial=start))
    samples = [data[a:b] for a, b in pairwise(ends)]
    values = {
        name: FieldValues(rows, [v and JsonText(v) for v in values] if is_json else values)
        for name, (rows, is_json, values) in fields.items()
    }
    return Content(
        samples, DocumentRows(fields=values, **dict(zip(_COLUMNS, columns, strict=True)))
    )


def _encoded(documents: list[Document], rejected: list[RejectedRecord], remarks: Remarks) -> Block:
    rows = DocumentRows.of(documents)
    samples = ShardFormat(TEXT_COLUMNS).encode(
        {
            "doc_id": rows.ids,
            "source": rows.sources,
            "source_id": rows.source_ids,
            "text": [document.text for document in documents],
        }
    )
    sizes = np.fromiter(map(len, samples), np.int64, len(samples)) + rows.metadata_sizes()
    fields = {name: found.rows for name, found in rows.fields.items()}
    return Block(b"".join(rows.ids), sizes, fields, rejected, remarks, Content(samples, rows))


@dataclass(frozen=True)
class ShardPlan:
    """One shard to write: which documents it has, and where it goes.

    Attributes:
        folder: folder for the shard.
        number: number of the shard.
        path: path of the shard in the store.
        rows_key, rows_path: key of the file of rows in the store, and where to write it.
        corpus, stage: see `DocumentRows.table`.
        parts: the documents: the content of a block, and the chosen rows.
        names: column by field.
        types: what decides the types of the user's columns.
    """

    folder: Path
    number: int
    path: str
    rows_key: str
    rows_path: Path
    corpus: str
    stage: str | None
    parts: list[tuple[Content | Path, Sequence[int]]]
    names: Mapping[str, str]
    types: TypeOptions


@dataclass(frozen=True, slots=True)
class BuiltShard:
    """A shard and its rows, both in files.

    Attributes:
        index: the shard's entry of index.json.
        rows: the file of rows.
        kinds: field, column and type of the user's columns.
        remarks: what the summary says of their values.
        bytes: UTF-8 bytes of the texts.
    """

    index: dict[str, Any]
    rows: RowsFile
    kinds: list[tuple[str, str, ColumnType]]
    remarks: Remarks
    bytes: int


def build_shard(plan: ShardPlan) -> BuiltShard:
    """Write a shard and its file of rows.

    Raises:
        ConfigError: DuckDB cannot cast a column to the type that the user names.
    """
    parts = [(_content(where), chosen) for where, chosen in plan.parts]
    samples = [s for (all_, _), chosen in parts for s in selected(all_, chosen)]
    rows = DocumentRows.merge([(rows, chosen) for (_, rows), chosen in parts])
    index = ShardFormat(TEXT_COLUMNS).write(plan.folder, plan.number, samples)
    del parts, samples
    remarks = Remarks()
    types = ColumnTypes(plan.rows_path.parent, plan.types, remarks)
    table, kinds = rows.table(plan.corpus, plan.stage, plan.path, plan.names, types)
    pq.write_table(table, plan.rows_path, compression="zstd")
    with plan.rows_path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    schema = {field.name: field_type(field) for field in table.schema}
    size = plan.rows_path.stat().st_size
    file_ = RowsFile(
        plan.rows_key, "documents", plan.corpus, table.num_rows, size, digest, schema, 0
    )
    return BuiltShard(index, file_, kinds, remarks, sum(rows.n_bytes))
