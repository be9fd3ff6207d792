"""Checkpoints: the state of a version. Readers need not replay a long log.

A complete checkpoint is `_checkpoint/<version>/{files,shards,commits,units}.parquet` and
`state.json`. One of a long history is `entries-<base>.jsonl.zst` and `state.json`: the entries
since the complete checkpoint of version `base`. The writer creates `state.json` last. It contains
the other fields and the SHA-256 of the files. A checkpoint without it does not exist.
"""

import gc
import hashlib
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import zstandard

from ixt_data.errors import CorruptError
from ixt_data.log.snapshot import (
    CriticInfo,
    Entry,
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
RECORDS_PER_ENTRY = 500
"""Records of a complete checkpoint per entry that may follow it before the next complete one.

A record takes about 3 us to write, so complete checkpoints cost each commit 1.5 ms at any length of
the history. An entry takes about 40 us to read: these then cost a tenth of reading the records.
"""
_ENTRIES = re.compile(r"_checkpoint/\d{20}/entries-(\d+)\.jsonl\.zst")


def key(version: int, name: str) -> str:
    """Return the key of a file of a checkpoint."""
    return f"_checkpoint/{version:020d}/{name}"


def is_state(path: str) -> bool:
    """Return True if a key is the `state.json` of a checkpoint."""
    return path.startswith("_checkpoint/") and path.endswith("/state.json")


def base_of(path: str) -> int | None:
    """Return the version of the complete checkpoint that a file of entries belongs to."""
    match = _ENTRIES.fullmatch(path)
    return match and int(match[1])


def write(storage: Storage, state: Snapshot) -> None:
    """Write the complete checkpoint of a state, unless another process has written one already."""
    import pyarrow.parquet as pq

    files = {}
    for name, table in _tables(state).items():
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        files[name] = buffer.getvalue()
    rest = {
        "version": state.version,
        "min_version": state.min_version,
        "requeued": sorted(state.requeued),
        "critics": [asdict(critic) for critic in state.critics.values()],
        "selections": [asdict(saved) for saved in state.selections.values()],
        "records": len(state.rows) + len(state.shards_by_path) + len(state.commits),
    }
    _publish(storage, state.version, files, rest)


def write_entries(storage: Storage, version: int, entries: Iterable[Entry]) -> bool:
    """Write a checkpoint of the entries since the last complete one; return False if it is old.

    Its cost does not depend on the length of the history.

    Args:
        storage: the storage.
        version: version of the checkpoint.
        entries: the last `EVERY` entries up to this version.
    """
    try:
        previous = _read_json(storage, version - EVERY)
        base = previous.get("base", version - EVERY)
        if (version - base) * RECORDS_PER_ENTRY > previous["records"]:
            return False
        lines = _read_lines(storage, version - EVERY, previous) if "base" in previous else []
    except (FileNotFoundError, CorruptError, KeyError):
        return False
    lines += [orjson.dumps(entry.to_json()) for entry in entries]
    name = f"entries-{base}.jsonl.zst"
    data = zstandard.ZstdCompressor(level=3).compress(b"\n".join(lines))
    rest = {"version": version, "base": base, "records": previous["records"]}
    _publish(storage, version, {name: data}, rest)
    return True


def _publish(storage: Storage, version: int, files: dict[str, bytes], rest: dict[str, Any]) -> None:
    scratch = storage.scratch(f"checkpoint-{version}")
    try:
        for name, data in files.items():
            (scratch / name).write_bytes(data)
        if storage.exists(key(version, "state.json")):
            return
        storage.publish({key(version, name): scratch / name for name in files})
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        storage.create(key(version, "state.json"), orjson.dumps(rest | {"sha256": hashes}))
    finally:
        remove_scratch(scratch)


def load(storage: Storage, version: int, known: Snapshot) -> Snapshot | None:
    """Read the newest checkpoint at or below `version` and above a known state; None without one.

    Raises:
        CorruptError: see `read`.
    """
    newest = version // EVERY * EVERY
    for candidate in range(newest, known.version, -EVERY):
        try:
            return read(storage, candidate, known)
        except FileNotFoundError:
            continue
    return None


def read(storage: Storage, version: int, known: Snapshot | None = None) -> Snapshot:
    """Read the checkpoint of a version.

    Args:
        storage: the storage.
        version: the version.
        known: an earlier state, which may save reading the complete checkpoint.

    Raises:
        FileNotFoundError: the version has no checkpoint.
        CorruptError: a file differs from what was written; the message names its path.
    """
    rest = _read_json(storage, version)
    if "base" in rest:
        lines = _read_lines(storage, version, rest)
        if known is not None and known.version >= rest["base"]:
            state = known.copy()
        else:
            state = _read_base(storage, version, rest["base"])
        for line in lines[state.version - rest["base"] :]:
            state.apply(Entry.from_json(orjson.loads(line)))
        return state
    tables = {name: _read_table(storage, version, name, rest) for name in rest["sha256"]}
    with _collector_paused():
        return _state(rest, tables)


def _read_base(storage: Storage, version: int, base: int) -> Snapshot:
    try:
        return read(storage, base)
    except FileNotFoundError:
        if not storage.exists(key(version, "state.json")):
            # Garbage collection deleted both in the meantime.
            raise
        raise CorruptError(f"{key(base, 'state.json')}: missing. {_REMEDY}") from None


def _read_json(storage: Storage, version: int) -> dict[str, Any]:
    rest: dict[str, Any] = orjson.loads(storage.read(key(version, "state.json")))
    return rest


def _read_lines(storage: Storage, version: int, rest: dict[str, Any]) -> list[bytes]:
    (name,) = rest["sha256"]
    data = _read(storage, version, name, rest)
    return zstandard.ZstdDecompressor().decompress(data).split(b"\n")


def _read_table(storage: Storage, version: int, name: str, rest: dict[str, Any]) -> "pa.Table":
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(_read(storage, version, name, rest)))


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


def _read(storage: Storage, version: int, name: str, rest: dict[str, Any]) -> bytes:
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
    return data


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
