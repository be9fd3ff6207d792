"""The Parquet files of a complete checkpoint: records of a state as columns."""

import gc
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import orjson

from ixt_data.log.records import Records
from ixt_data.log.snapshot import FileInfo, RowsFile, ShardInfo, Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")


class CheckpointTable(ABC, Generic[T]):
    """The records of one file. They stay compressed until they are first used.

    Attributes:
        file: name of the file.
        key: column of the keys.
        shared: columns with few different values.
    """

    file: ClassVar[str]
    key: ClassVar[str]
    shared: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: bytes) -> None:
        """Set the bytes of the file."""
        self._data = data

    @cached_property
    def records(self) -> Mapping[str, T]:
        """The records by key, in the order of their addition."""
        with _collector_paused():
            return dict(self._decode(self._read()))

    def _read(self) -> "pa.Table":
        import pyarrow.parquet as pq

        return pq.read_table(io.BytesIO(self._data), read_dictionary=list(self.shared))

    @classmethod
    def of_records(cls, records: Records[T]) -> "pa.Table":
        """Return records as columns. Those of an earlier checkpoint never become objects."""
        import pyarrow as pa
        import pyarrow.compute as pc

        added = cls._encode(records.added)
        for name in cls.shared:
            at = added.schema.get_field_index(name)
            added = added.set_column(at, name, added[name].dictionary_encode())
        if not isinstance(records.base, CheckpointTable):
            return added
        known = records.base._read()
        replaced = pa.array([*records.removed, *records.added], pa.string())
        is_kept = pc.invert(pc.is_in(known[cls.key], replaced))
        if not pc.all(is_kept).as_py():
            known = known.filter(is_kept)
        return pa.concat_tables([known, added])

    @classmethod
    @abstractmethod
    def _encode(cls, records: Mapping[str, T]) -> "pa.Table":
        """Return records as columns. A dict per record would take ten times as long."""

    @classmethod
    @abstractmethod
    def _decode(cls, table: "pa.Table") -> Iterator[tuple[str, T]]:
        """Yield keys and records of columns."""


class FilesTable(CheckpointTable[RowsFile]):
    """The files of rows."""

    file, key, shared = "files.parquet", "path", ("table", "partition", "schema")

    @classmethod
    def _encode(cls, records: Mapping[str, RowsFile]) -> "pa.Table":
        import pyarrow as pa

        to_json, files = _Encoder(), records.values()
        text, number = pa.string(), pa.int64()
        types = dict.fromkeys(("path", "table", "partition", "sha256"), text)
        types |= dict.fromkeys(("rows", "bytes", "generation"), number)
        columns = {name: _column(files, name, kind) for name, kind in types.items()}
        columns["schema"] = pa.array([to_json(file.schema) for file in files], text)
        return pa.table(columns)

    @classmethod
    def _decode(cls, table: "pa.Table") -> Iterator[tuple[str, RowsFile]]:
        columns = {"schema": _parsed(table["schema"])}
        columns |= {name: _shared(table[name]) for name in ("table", "partition")}
        return _with_paths(RowsFile, table, columns)


class ShardsTable(CheckpointTable[ShardInfo]):
    """The shards."""

    file, key, shared = "shards.parquet", "path", ("family", "corpus", "config", "fields")

    @classmethod
    def _encode(cls, records: Mapping[str, ShardInfo]) -> "pa.Table":
        import pyarrow as pa

        to_json, shards = _Encoder(), records.values()
        text = pa.string()
        names = ("path", "family", "corpus", "aligned_with", "config")
        columns = {name: _column(shards, name, text) for name in names}
        columns |= {name: _column(shards, name, pa.int64()) for name in ("samples", "orphans")}
        columns["raw"] = _files_column([shard.raw for shard in shards])
        columns["packed"] = _files_column([shard.packed for shard in shards])
        columns["fields"] = pa.array([s.fields and to_json(s.fields) for s in shards], text)
        return pa.table(columns)

    @classmethod
    def _decode(cls, table: "pa.Table") -> Iterator[tuple[str, ShardInfo]]:
        columns: dict[str, list[Any]] = {
            "raw": _file_infos(table["raw"]),
            "packed": _file_infos(table["packed"]),
            "fields": _parsed(table["fields"]),
        }
        columns |= {name: _shared(table[name]) for name in ("family", "corpus", "config")}
        return _with_paths(ShardInfo, table, columns)


class CommitsTable(CheckpointTable[tuple[int, str | None]]):
    """Version and unit of each transaction."""

    file, key = "commits.parquet", "txn"

    @classmethod
    def _encode(cls, records: Mapping[str, tuple[int, str | None]]) -> "pa.Table":
        import pyarrow as pa

        columns = {
            "txn": pa.array(list(records), pa.string()),
            "version": pa.array([version for version, _ in records.values()], pa.int64()),
            "unit": pa.array([unit for _, unit in records.values()], pa.string()),
        }
        return pa.table(columns)

    @classmethod
    def _decode(cls, table: "pa.Table") -> Iterator[tuple[str, tuple[int, str | None]]]:
        txns, versions, units = (table[n].to_pylist() for n in ("txn", "version", "unit"))
        return zip(txns, zip(versions, units, strict=True), strict=True)


class UnitsTable(CheckpointTable[str]):
    """The transaction that published each unit."""

    file, key = "units.parquet", "unit"

    @classmethod
    def _encode(cls, records: Mapping[str, str]) -> "pa.Table":
        import pyarrow as pa

        units, txns = list(records), list(records.values())
        return pa.table({"unit": pa.array(units, pa.string()), "txn": pa.array(txns, pa.string())})

    @classmethod
    def _decode(cls, table: "pa.Table") -> Iterator[tuple[str, str]]:
        return zip(table["unit"].to_pylist(), table["txn"].to_pylist(), strict=True)


def encode_tables(state: Snapshot) -> tuple[dict[str, bytes], int]:
    """Return the files of a state by name, and the number of its rows files, shards and commits."""
    parts: list[tuple[type[CheckpointTable[Any]], Records[Any]]] = [
        (FilesTable, state.rows),
        (ShardsTable, state.shards_by_path),
        (CommitsTable, state.commits),
        (UnitsTable, state.units),
    ]
    # Arrow releases the interpreter's lock while it compresses.
    with ThreadPoolExecutor(len(parts)) as pool:
        encoded = list(pool.map(lambda part: _write(*part), parts))
    files = {kind.file: data for (kind, _), (data, _) in zip(parts, encoded, strict=True)}
    return files, sum(rows for _, rows in encoded[:3])


def _write(kind: type[CheckpointTable[T]], records: Records[T]) -> tuple[bytes, int]:
    import pyarrow.parquet as pq

    table = kind.of_records(records)
    buffer = io.BytesIO()
    # Dictionaries of columns without equal values, and statistics, would take a quarter longer.
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=list(kind.shared),
        write_statistics=False,
    )
    return buffer.getvalue(), table.num_rows


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's collector of cycles: over new records alone it takes half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Encoder:
    """An encoder of JSON that encodes an object that many records share only once."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def __call__(self, value: dict[str, str]) -> str:
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = orjson.dumps(value).decode()
        return known


def _column(records: Iterable[Any], name: str, kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    return pa.array(list(map(attrgetter(name), records)), kind)


def _files_column(files: list[FileInfo | None]) -> "pa.Array":
    import pyarrow as pa

    columns = {
        "basename": pa.array([file and file.basename for file in files], pa.string()),
        "bytes": pa.array([file and file.bytes for file in files], pa.int64()),
        "hashes": pa.array(
            [file and orjson.dumps(file.hashes).decode() for file in files], pa.string()
        ),
    }
    missing = pa.array([file is None for file in files], pa.bool_())
    return pa.StructArray.from_arrays(columns.values(), list(columns), mask=missing)


def _with_paths(
    record: type[T], table: "pa.Table", columns: Mapping[str, list[Any]]
) -> Iterator[tuple[str, T]]:
    """Yield the path and the record of each row; `columns` are those that are not plain values."""
    names = [field.name for field in fields(record)]  # type: ignore[arg-type]
    values = [columns.get(name) or table[name].to_pylist() for name in names]
    return zip(values[names.index("path")], map(record, *values), strict=True)


def _shared(column: "pa.ChunkedArray") -> list[Any]:
    """Return the values of a column with few different ones; equal ones are one object."""
    values: list[Any] = []
    for chunk in column.chunks:
        distinct = [value and sys.intern(value) for value in chunk.dictionary.to_pylist()]
        values += [None if i is None else distinct[i] for i in chunk.indices.to_pylist()]
    return values


def _parsed(column: "pa.ChunkedArray") -> list[Any]:
    """Return the values of a column of JSON; each different text is parsed once."""
    known: dict[str | None, Any] = {None: None}
    return [
        known[text] if text in known else known.setdefault(text, orjson.loads(text))
        for text in _shared(column)
    ]


def _file_infos(column: "pa.ChunkedArray") -> list[FileInfo | None]:
    struct = column.combine_chunks()
    names, sizes, hashes = (
        struct.field(name).to_pylist() for name in ("basename", "bytes", "hashes")
    )
    return [
        None if name is None else FileInfo(name, size, orjson.loads(text))
        for name, size, text in zip(names, sizes, hashes, strict=True)
    ]
