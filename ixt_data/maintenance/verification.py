"""Checks that a store is what its log says, and mends what can be mended without guessing."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from ixt_data.critique_runs import unit_name
from ixt_data.errors import CorruptError
from ixt_data.log import (
    TEXT,
    TOKENS,
    RowsFile,
    ShardInfo,
    Snapshot,
    checkpoint,
    commit_log,
    tokens_unit,
)
from ixt_data.mds import read_shard
from ixt_data.records import ProgressCallback
from ixt_data.store import CHANGED, Store, read_adopted, sizes_of

PLACES = ("shards", "meta", "_tmp")
"""Where files are that a version holds, or that nothing holds any more."""


@dataclass(frozen=True, slots=True)
class VerifyProblem:
    """Something in the store that is not as the log says.

    Attributes:
        path: which file.
        what: what is wrong with it.
        documents: how many documents it touches.
        remedy: the command that mends it, or what else to do.
    """

    path: str
    what: str
    documents: int
    remedy: str


@dataclass
class VerifyReport:
    """What `verify` found.

    Attributes:
        version: of the snapshot that was checked.
        files: how many files were checked, `bytes` in all.
        problems: what is wrong.
        orphans: files that no version holds: left by writers that died, or by old versions.
        repaired: paths that were mended.
    """

    version: int = 0
    files: int = 0
    bytes: int = 0
    problems: list[VerifyProblem] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the command line."""
        return {**asdict(self), "ok": not self.problems}


def verify(
    store: Store,
    *,
    at: int | str | None = None,
    fast: bool = False,
    progress: ProgressCallback = lambda done, total: None,
) -> VerifyReport:
    """Checks log, checkpoints, rows, shards, indexes and the alignment of families.

    Args:
        store: which.
        at: only what this version or tag holds; by default what any does that is kept or pinned.
        fast: sizes only, nothing is read.
        progress: called as bytes are checked.

    Raises:
        SnapshotError: there is no such version or tag.
    """
    report = VerifyReport()
    report.problems += check_log(store)
    whole = not report.problems
    pins, problems = check_pins(store)
    report.problems += problems
    # What follows needs the state; the log's own trouble must not hide the rest.
    newest = state = readable_state(store)
    report.problems += check_checkpoints(store, newest.version)
    if whole:
        state = store.snapshot(at) if at is not None else held(store, newest, pins)
    report.version = newest.version if at is None else state.version
    files: list[RowsFile | ShardInfo] = [*state.rows.values(), *state.shards]
    total = sum(_size(file) for file in files)
    sizes = {file.key: file.size for place in PLACES for file in store.storage.list(place)}
    # While entries are lost, nobody can tell whose files these are.
    if whole and at is None:
        report.orphans = sorted(sizes.keys() - _known(state))
    sizes |= sizes_of(shard for shard in state.shards if shard.is_external)
    identities: dict[str, str] = {}
    for file in files:
        found = _check_file(store, state, file, sizes, fast, identities)
        known = file.path in newest.rows or file.path in newest.shards_by_path
        report.problems += found if known else map(_of_older, found)
        report.files += 1
        report.bytes += _size(file)
        progress(report.bytes, total)
    report.problems += check_indexes(store, state)
    report.problems += check_rows(state)
    return report


def check_pins(store: Store) -> tuple[list[int], list[VerifyProblem]]:
    """The versions that pins hold, and what is wrong with pins."""
    try:
        pins = store.pins.all().values()
    except CorruptError as error:
        path, _, what = str(error).partition(": ")
        what, _, remedy = what.partition(". ")
        return [], [VerifyProblem(path, what, 0, remedy)]
    newest, now = readable_state(store).version, datetime.now(UTC)
    versions = {pin.version for pin in pins if pin.is_valid(now)}
    remedy = "restore the log from a backup, or remove the pin"
    return sorted(v for v in versions if 0 < v <= newest), [
        VerifyProblem(
            f"_pins/{pin.name}.json", f"keeps version {pin.version}, which is not there", 0, remedy
        )
        for pin in pins
        if pin.version > newest
    ]


def held(store: Store, newest: Snapshot, pinned: Iterable[int]) -> Snapshot:
    """The newest state, and with it what only older ones hold that are kept or pinned.

    What was given up as lost is not in it: a repair took it out of the state.
    """
    older = [store.snapshot(v) for v in sorted({newest.min_version, *pinned}) if v]
    lost: set[str] = set()
    rows: dict[str, RowsFile] = {}
    shards: dict[str, ShardInfo] = {}
    first = min((state.version for state in older), default=0)
    for entry in store.log.entries(first + 1, newest.version):
        lost.update(entry.shards_remove if entry.op == "repair" else ())
        if entry.version > newest.min_version:
            rows |= {file.path: file for file in entry.rows_add}
            shards |= {shard.path: shard for shard in entry.shards_add}
    for state in older:
        rows, shards = state.rows | rows, state.shards_by_path | shards
    shards = {path: shard for path, shard in shards.items() if path not in lost}
    state = newest.copy()
    state.rows = rows | newest.rows
    # Text shards first, as in every state: those that are aligned with them are compared.
    state.shards_by_path = shards | newest.shards_by_path
    return state


def check_log(store: Store) -> Iterator[VerifyProblem]:
    """Torn or changed entries, gaps between them, and entries that are lost at the end."""
    present = {file.key for file in store.storage.list("_log") if file.key.endswith(".json")}
    newest = max((int(PurePosixPath(key).stem) for key in present), default=0)
    remedy = "restore this file from a backup; every later version depends on it"
    for start in range(1, newest + 1, commit_log.READ_BATCH):
        versions = range(start, min(start + commit_log.READ_BATCH, newest + 1))
        for version, data in zip(
            versions, store.storage.read_all(map(commit_log.key, versions)), strict=True
        ):
            key = commit_log.key(version)
            if data is None:
                yield VerifyProblem(key, "missing, but newer entries are there", 0, remedy)
                continue
            try:
                commit_log.parse(version, data)
            except CorruptError as error:
                yield VerifyProblem(key, _without(key, str(error)), 0, remedy)
    witnesses = {commit_log.LAST: store.log.hint()} | {
        file.key: int(folder)
        for file in store.storage.list("_checkpoint")
        if (folder := file.key.split("/")[1]).isdigit() and file.key.endswith("/state.json")
    }
    for witness, version in witnesses.items():
        if version > newest:
            yield VerifyProblem(
                commit_log.key(version), f"missing, but {witness} is of it", 0, remedy
            )


def readable_state(store: Store) -> Snapshot:
    """The newest state; where its log or checkpoints are damaged, what the other entries say."""
    try:
        return store.snapshot()
    except CorruptError:
        pass
    state = Snapshot()
    keys = sorted(file.key for file in store.storage.list("_log") if file.key.endswith(".json"))
    for key in keys:
        version = int(PurePosixPath(key).stem)
        try:
            state.apply(store.log.read(version))
        except CorruptError:
            state.version = version
    return state


def check_checkpoints(store: Store, newest: int) -> Iterator[VerifyProblem]:
    """Checkpoints whose files are not what their state.json says."""
    remedy = "ixt verify --repair writes it anew from the log"
    for version in range(checkpoint.EVERY, newest + 1, checkpoint.EVERY):
        try:
            checkpoint.read(store.storage, version)
        except FileNotFoundError:
            continue
        except (CorruptError, ValueError, KeyError) as error:
            path = str(error).split(": ")[0]
            if not path.startswith("_checkpoint/"):
                path = checkpoint.key(version, "state.json")
            yield VerifyProblem(path, "torn, changed or missing", 0, remedy)


def _of_older(problem: VerifyProblem) -> VerifyProblem:
    what = f"{problem.what}; only older snapshots hold it"
    remedy = "restore this file from a backup, or remove the tags of these snapshots and `ixt gc`"
    return replace(problem, what=what, remedy=remedy)


def _size(file: RowsFile | ShardInfo) -> int:
    return file.bytes if isinstance(file, RowsFile) else file.stored.bytes


def _check_file(
    store: Store,
    state: Snapshot,
    file: RowsFile | ShardInfo,
    sizes: Mapping[str, int],
    fast: bool,
    identities: dict[str, str],
) -> Iterator[VerifyProblem]:
    try:
        if file.path not in sizes:
            raise FileNotFoundError(file.path)
        size = sizes[file.path]
        what = "" if size == _size(file) else f"{size} bytes instead of {_size(file)}"
        if not what and not fast:
            # Not a copy of it: damage may be newer.
            with store.original(file) as path:
                what = _read(path, state, file, identities)
    except FileNotFoundError:
        what = "missing"
    if what:
        yield VerifyProblem(file.path, what, _documents(file), _remedy(file))


def _read(
    path: Path, state: Snapshot, file: RowsFile | ShardInfo, identities: dict[str, str]
) -> str:
    """What is wrong with the content of a file, empty if nothing is."""
    if isinstance(file, RowsFile):
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return "" if digest == file.sha256 else f"its sha256 is not {file.sha256}"
    try:
        shard = read_adopted(file, path) if file.is_external else read_shard(path, file.index)
    except CorruptError as error:
        return _without(file.path, _without(str(path), str(error)))
    if "doc_id" not in shard.columns:
        return ""
    # Text shards come first in every state, so an aligned shard finds the ids of its own.
    identity = hashlib.sha256(b"".join(shard.column("doc_id"))).hexdigest()
    identities[file.path] = identity
    if (
        file.aligned_with is None
        or file.aligned_with not in identities
        or identities[file.aligned_with] == identity
    ):
        return ""
    samples = state.shards_by_path[file.aligned_with].samples
    if shard.samples != samples:
        return (
            f"{shard.samples} samples; {file.aligned_with}, which it is aligned with, has {samples}"
        )
    return f"its documents are not those of {file.aligned_with} in the same order"


def _documents(file: RowsFile | ShardInfo) -> int:
    return file.rows if isinstance(file, RowsFile) else file.samples


def _remedy(file: RowsFile | ShardInfo) -> str:
    if isinstance(file, ShardInfo) and file.aligned_with is not None:
        verb = "tokenize" if file.family.startswith(f"{TOKENS}/") else "critique"
        return f"ixt verify --repair, then `ixt {verb}` does this unit again"
    if isinstance(file, ShardInfo) and file.is_external:
        return f"{CHANGED}; nothing else holds these documents"
    what = "rows" if isinstance(file, RowsFile) else "documents"
    return f"restore this file from a backup: nothing else in the store holds these {what}"


def check_indexes(store: Store, state: Snapshot) -> Iterator[VerifyProblem]:
    """Folders whose index.json is missing, torn, or says other than the log."""
    remedy = "ixt verify --repair writes it anew"
    folders = _folders(state)
    keys = [f"{folder}/index.json" for folder in folders]
    indexes = store.storage.read_all(keys)
    for key, data, shards in zip(keys, indexes, folders.values(), strict=True):
        documents = sum(shard.samples for shard in shards)
        if data is None:
            yield VerifyProblem(key, "missing", documents, remedy)
            continue
        try:
            entries = orjson.loads(data)["shards"]
            found = {entry["raw_data"]["basename"]: entry for entry in entries}
        except (ValueError, KeyError, TypeError):
            yield VerifyProblem(key, "torn or changed: not an index", documents, remedy)
            continue
        if any(found.get(shard.raw.basename) != shard.index for shard in shards):
            yield VerifyProblem(key, "says other than the log", documents, remedy)


def check_rows(state: Snapshot) -> Iterator[VerifyProblem]:
    """Critique shards of another length than their text shard, by the log alone."""
    for shard in state.shards:
        text = state.shards_by_path.get(shard.aligned_with or "")
        if text is not None and text.samples != shard.samples:
            what = f"{shard.samples} samples; its text shard {text.path} has {text.samples}"
            yield VerifyProblem(shard.path, what, text.samples, _remedy(shard))


def _folders(state: Snapshot) -> dict[str, list[ShardInfo]]:
    folders: dict[str, list[ShardInfo]] = {}
    for shard in state.shards:
        if not shard.is_external:
            folders.setdefault(str(PurePosixPath(shard.path).parent), []).append(shard)
    return folders


def _known(state: Snapshot) -> set[str]:
    known = {*state.rows, *state.shards_by_path}
    return known | {f"{folder}/index.json" for folder in _folders(state)}


def _without(path: str, message: str) -> str:
    return message.removeprefix(f"{path}: ")


def repair(store: Store, report: VerifyReport) -> VerifyReport:
    """Mends what can be rebuilt, deletes nothing else, and says what it mended.

    An index.json is written anew from the log; a checkpoint too. A unit whose critique shard is
    lost is put back into the queue: its rows stay until the new ones replace them. While entries of
    the log are damaged only indexes are mended.
    """
    paths = [problem.path for problem in report.problems]
    whole = not any(path.startswith("_log/") for path in paths)
    if whole:
        report.repaired += _rewrite_checkpoints(store, paths)
    newest = readable_state(store)
    folders = _folders(held(store, newest, check_pins(store)[0]) if whole else newest)
    for path in paths:
        folder = path.removesuffix("/index.json")
        if folder != path and folder in folders:
            index = {"version": 2, "shards": [shard.index for shard in folders[folder]]}
            store.storage.replace(path, orjson.dumps(index, option=orjson.OPT_SORT_KEYS))
            report.repaired.append(path)
        shard = newest.shards_by_path.get(path)
        if whole and shard is not None and shard.family != TEXT:
            _requeue(store, newest, shard)
            report.repaired.append(path)
    return report


def _rewrite_checkpoints(store: Store, paths: Iterable[str]) -> list[str]:
    """Writes damaged checkpoints anew from the log; returns the paths that were damaged."""
    damaged = [path for path in paths if path.startswith("_checkpoint/")]
    versions = sorted({int(path.split("/")[1]) for path in damaged})
    # All of them first, since the state of one may be built from another.
    for version in versions:
        files = store.storage.list(f"_checkpoint/{version:020d}")
        store.storage.delete(*[file.key for file in files])
    for version in versions:
        checkpoint.write(store.storage, store.snapshot(version))
    return damaged


def _requeue(store: Store, state: Snapshot, shard: ShardInfo) -> None:
    kind, _, critic = shard.family.partition("/")
    if kind == TOKENS:
        lost, unit = [shard.path], tokens_unit(shard.family, shard.aligned_with or "")
    else:
        families = (f"critique/{critic}", f"thinking/{critic}")
        lost = [
            s.path
            for s in state.shards
            if s.aligned_with == shard.aligned_with and s.family in families
        ]
        unit = unit_name(critic, state.shards_by_path[shard.aligned_with or ""])
    # The tokens of what is lost are of no use to what comes in its place.
    lost += [s.path for s in state.shards if s.aligned_with in lost]
    head = store.snapshot()
    if not all(path in head.shards_by_path for path in lost):
        return
    with store.begin("repair", base=head.version) as txn:
        txn.entry.shards_remove = lost
        txn.entry.units_remove = [unit]
        txn.commit(requeued=txn.entry.units_remove)
