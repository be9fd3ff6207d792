"""Checkpoints: the complete state of a version in Parquet. Readers need not replay a long log.

A checkpoint is `_checkpoint/<version>/{files,shards,commits,units}.parquet` and `state.json`. The
writer creates `state.json` last. It contains the other fields and the SHA-256 of the Parquet
files. A checkpoint without it does not exist.
"""

import hashlib
import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

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
    return _state(rest, tables)


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


def _tables(state: Snapshot) -> "dict[str, pa.Table]":
    import pyarrow as pa

    files = [{**asdict(r), "schema": orjson.dumps(r.schema).decode()} for r in state.rows.values()]
    shards = [
        {
            "path": s.path,
            "family": s.family,
            "corpus": s.corpus,
            "samples": s.samples,
            "aligned_with": s.aligned_with,
            "config": s.config,
            "raw": _file(s.raw),
            "packed": _file(s.packed),
            "fields": s.fields and orjson.dumps(s.fields).decode(),
            "orphans": s.orphans,
        }
        for s in state.shards
    ]
    units = [{"txn": t, "version": v, "unit": u} for t, (v, u) in state.commits.items()]
    published = [{"unit": unit, "txn": txn} for unit, txn in state.units.items()]
    text, number = pa.string(), pa.int64()
    file = pa.struct({"basename": text, "bytes": number, "hashes": text})
    return {
        "files.parquet": pa.Table.from_pylist(
            files,
            pa.schema(
                {
                    "path": text,
                    "table": text,
                    "partition": text,
                    "rows": number,
                    "bytes": number,
                    "sha256": text,
                    "schema": text,
                    "generation": number,
                }
            ),
        ),
        "shards.parquet": pa.Table.from_pylist(
            shards,
            pa.schema(
                {
                    "path": text,
                    "family": text,
                    "corpus": text,
                    "samples": number,
                    "aligned_with": text,
                    "config": text,
                    "raw": file,
                    "packed": file,
                    "fields": text,
                    "orphans": number,
                }
            ),
        ),
        "commits.parquet": pa.Table.from_pylist(
            units, pa.schema({"txn": text, "version": number, "unit": text})
        ),
        "units.parquet": pa.Table.from_pylist(published, pa.schema({"unit": text, "txn": text})),
    }


def _file(file: FileInfo | None) -> dict[str, Any] | None:
    if file is None:
        return None
    return {**asdict(file), "hashes": orjson.dumps(file.hashes).decode()}


def _parsed(file: dict[str, Any] | None) -> dict[str, Any] | None:
    return file and {**file, "hashes": orjson.loads(file["hashes"])}


def _shard(record: dict[str, Any]) -> ShardInfo:
    packed, fields = _parsed(record["packed"]), record.get("fields")
    own = {"raw": _parsed(record["raw"]), "packed": packed}
    return ShardInfo.from_json({**record, **own, "fields": fields and orjson.loads(fields)})


def _state(rest: dict[str, Any], tables: "dict[str, pa.Table]") -> Snapshot:
    files = tables["files.parquet"].to_pylist()
    rows = [RowsFile(**{**file, "schema": orjson.loads(file["schema"])}) for file in files]
    shards = [_shard(record) for record in tables["shards.parquet"].to_pylist()]
    commits = tables["commits.parquet"].to_pydict()
    units = tables["units.parquet"].to_pydict()
    critics = [CriticInfo(**critic) for critic in rest["critics"]]
    # Checkpoints written before selections existed have no such key.
    selections = [SavedSelection(**saved) for saved in rest.get("selections", [])]
    return Snapshot(
        rest["version"],
        {file.path: file for file in rows},
        {shard.path: shard for shard in shards},
        dict(
            zip(commits["txn"], zip(commits["version"], commits["unit"], strict=True), strict=True)
        ),
        dict(zip(units["unit"], units["txn"], strict=True)),
        set(rest["requeued"]),
        {critic.id: critic for critic in critics},
        rest["min_version"],
        {saved.name: saved for saved in selections},
    )
