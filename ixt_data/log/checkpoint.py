"""Checkpoints: the complete state of a version in Parquet. Readers need not replay a long log.

A checkpoint is `_checkpoint/<version>/{files,shards,commits,units}.parquet` and `state.json`. The
writer creates `state.json` last. It contains the other fields and the SHA-256 of the Parquet
files. A checkpoint without it does not exist.
"""

import gc
import hashlib
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from ixt_data.errors import CorruptError
from ixt_data.log.snapshot import (
    CriticInfo,
    FileInfo,
    RowsFile,
    SavedSelection,
    ShardInfo,
    Snapshot,
)
from ixt_data.storage import Storage, remove_scratch

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
EVERY = 50
"""Commits between checkpoints."""


def key(version: int, name: str) -> str:
    """Return the key of a file of a checkpoint."""
    return f"_checkpoint/{version:020d}/{name}"


def is_state(path: str) -> bool:
    """Return True if a key is the `state.json` of a checkpoint."""
    return path.startswith("_checkpoint/") and path.endswith("/state.json")


def write(storage: Storage, state: Snapshot) -> None:
    """Write the checkpoint of a state, unless another process has written it already."""
    import pyarrow.parquet as pq

    scratch = storage.scratch(f"checkpoint-{state.version}")
    try:
        hashes, files = {}, {}
        for name, table in _tables(state).items():
            path = scratch / name
            pq.write_table(table, path, compression="zstd")
            hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            files[key(state.version, name)] = path
        if storage.exists(key(state.version, "state.json")):
            return
        storage.publish(files)
        rest = {
            "version": state.version,
            "min_version": state.min_version,
            "requeued": sorted(state.requeued),
            "critics": [asdict(critic) for critic in state.critics.values()],
            "selections": [asdict(saved) for saved in state.selections.values()],
            "sha256": hashes,
        }
        storage.create(key(state.version, "state.json"), orjson.dumps(rest))
    finally:
        remove_scratch(scratch)


def load(storage: Storage, version: int, above: int) -> Snapshot | None:
    """Read the newest checkpoint at or below `version` and above `above`; None without one.

    Raises:
        CorruptError: see `read`.
    """
    newest = version // EVERY * EVERY
    for candidate in range(newest, above, -EVERY):
        try:
            return read(storage, candidate)
        except FileNotFoundError:
            continue
    return None


def read(storage: Storage, version: int) -> Snapshot:
    """Read the checkpoint of a version.

    Raises:
        FileNotFoundError: the version has no checkpoint.
        CorruptError: a file differs from what was written; the message names its path.
    """
    rest = orjson.loads(storage.read(key(version, "state.json")))
    tables = {name: _read(storage, version, name, rest) for name in rest["sha256"]}
    with _collector_paused():
        return _state(rest, tables)


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


def _read(storage: Storage, version: int, name: str, rest: dict[str, Any]) -> "pa.Table":
    import pyarrow.parquet as pq

    path = key(version, name)
    try:
        data = storage.read(path)
    except FileNotFoundError:
        if not storage.exists(key(version, "state.json")):
            # Garbage collection deleted the checkpoint in the meantime.
            raise
        raise CorruptError(f"{path}: missing. {_REMEDY}") from None
    if hashlib.sha256(data).hexdigest() != rest["sha256"][name]:
        raise CorruptError(f"{path}: truncated or changed. {_REMEDY}")
    return pq.read_table(io.BytesIO(data))


_REMEDY = "Rebuild the checkpoint from the log: ixt verify --repair"


_TEXT_COLUMNS = ("path", "family", "corpus", "aligned_with", "config")


def _tables(state: Snapshot) -> "dict[str, pa.Table]":
    # Column by column: a dict per record would take ten times as long.
    import pyarrow as pa

    files, shards = state.rows.values(), state.shards_by_path.values()
    to_json = _Encoder()
    text, number = pa.string(), pa.int64()
    rows_types = dict.fromkeys(("path", "table", "partition", "sha256"), text)
    rows_types |= dict.fromkeys(("rows", "bytes", "generation"), number)
    rows_columns = {name: _column(files, name, kind) for name, kind in rows_types.items()}
    rows_columns["schema"] = pa.array([to_json(file.schema) for file in files], text)
    shard_types = dict.fromkeys(_TEXT_COLUMNS, text)
    shard_types |= dict.fromkeys(("samples", "orphans"), number)
    shard_columns = {name: _column(shards, name, kind) for name, kind in shard_types.items()}
    shard_columns |= {
        "raw": _files_column([shard.raw for shard in shards]),
        "packed": _files_column([shard.packed for shard in shards]),
        "fields": pa.array([shard.fields and to_json(shard.fields) for shard in shards], text),
    }
    versions = [version for version, _ in state.commits.values()]
    units = [unit for _, unit in state.commits.values()]
    return {
        "files.parquet": pa.table(rows_columns),
        "shards.parquet": pa.table(shard_columns),
        "commits.parquet": pa.table(
            {
                "txn": pa.array(list(state.commits), text),
                "version": pa.array(versions, number),
                "unit": pa.array(units, text),
            }
        ),
        "units.parquet": pa.table(
            {
                "unit": pa.array(list(state.units), text),
                "txn": pa.array(list(state.units.values()), text),
            }
        ),
    }


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


def _state(rest: dict[str, Any], tables: "dict[str, pa.Table]") -> Snapshot:
    files, shards = tables["files.parquet"], tables["shards.parquet"]
    rows = _records(
        RowsFile,
        files,
        {field: _parsed(files[field]) if field == "schema" else None for field in _ROWS_FIELDS},
    )
    converted = {
        "raw": _file_infos(shards["raw"]),
        "packed": _file_infos(shards["packed"]),
        "fields": _parsed(shards["fields"]),
        "config": _shared(shards["config"]),
    }
    own_shards = _records(ShardInfo, shards, {name: converted.get(name) for name in _SHARD_FIELDS})
    commits, units = tables["commits.parquet"], tables["units.parquet"]
    # Checkpoints written before selections existed have no such key.
    selections = [SavedSelection(**saved) for saved in rest.get("selections", [])]
    critics = [CriticInfo(**critic) for critic in rest["critics"]]
    values = zip(commits["version"].to_pylist(), commits["unit"].to_pylist(), strict=True)
    return Snapshot(
        rest["version"],
        {file.path: file for file in rows},
        {shard.path: shard for shard in own_shards},
        dict(zip(commits["txn"].to_pylist(), values, strict=True)),
        dict(zip(units["unit"].to_pylist(), units["txn"].to_pylist(), strict=True)),
        set(rest["requeued"]),
        {critic.id: critic for critic in critics},
        rest["min_version"],
        {saved.name: saved for saved in selections},
    )


_ROWS_FIELDS = tuple(field.name for field in fields(RowsFile))
_SHARD_FIELDS = tuple(field.name for field in fields(ShardInfo))


def _records(
    record: type[T], table: "pa.Table", columns: dict[str, Sequence[Any] | None]
) -> Iterator[T]:
    """Yield records of a class from their columns; None is a column of the table as it is."""
    values = [table[name].to_pylist() if v is None else v for name, v in columns.items()]
    return map(record, *values)


def _shared(column: "pa.ChunkedArray") -> list[Any]:
    """Return the values of a column; equal ones are one object."""
    encoded = column.combine_chunks().dictionary_encode()
    values = [value and sys.intern(value) for value in encoded.dictionary.to_pylist()]
    return [None if i is None else values[i] for i in encoded.indices.to_pylist()]


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
