"""Checkpoints: the state of a version. Readers need not replay a long log.

A complete checkpoint is `_checkpoint/<version>/{files,shards,commits,units}.parquet` and
`state.json`. One of a long history is `entries-<base>.jsonl.zst` and `state.json`: the entries
since the complete checkpoint of version `base`. The writer creates `state.json` last. It contains
the other fields and the SHA-256 of the files. A checkpoint without it does not exist.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import orjson
import zstandard

from ixt_data.errors import CorruptError
from ixt_data.log.checkpoint_tables import (
    CommitsTable,
    FilesTable,
    ShardsTable,
    UnitsTable,
    encode_tables,
)
from ixt_data.log.records import Records
from ixt_data.log.saved import SavedQuery, SavedSelection
from ixt_data.log.snapshot import CriticInfo, Entry, Snapshot
from ixt_data.storage import Storage, remove_scratch

EVERY = 50
"""Commits between checkpoints."""
RECORDS_PER_ENTRY = 500
"""Records of a complete checkpoint per entry that may follow it before the next complete one.

A record takes about 1 us to write, so complete checkpoints cost each commit 0.5 ms at any length of
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
    files, records = encode_tables(state)
    rest = {
        "version": state.version,
        "min_version": state.min_version,
        "requeued": sorted(state.requeued),
        "critics": [asdict(critic) for critic in state.critics.values()],
        "selections": [asdict(saved) for saved in state.selections.values()],
        "queries": [asdict(saved) for saved in state.queries.values()],
        "records": records,
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
    files = {name: _read(storage, version, name, rest) for name in rest["sha256"]}
    # Checkpoints written before selections or queries existed have no such keys.
    selections = [SavedSelection(**saved) for saved in rest.get("selections", [])]
    queries = [SavedQuery(**saved) for saved in rest.get("queries", [])]
    critics = [CriticInfo(**critic) for critic in rest["critics"]]
    return Snapshot(
        rest["version"],
        Records(FilesTable(files[FilesTable.file])),
        Records(ShardsTable(files[ShardsTable.file])),
        Records(CommitsTable(files[CommitsTable.file])),
        Records(UnitsTable(files[UnitsTable.file])),
        set(rest["requeued"]),
        {critic.id: critic for critic in critics},
        rest["min_version"],
        {saved.name: saved for saved in selections},
        {saved.name: saved for saved in queries},
    )


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
