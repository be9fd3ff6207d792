"""Verification of a store against its log, and repair of everything that can be rebuilt."""

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

PREFIXES = ("shards", "meta", "_tmp")
"""Prefixes of files that a version references, or that are orphaned."""


@dataclass(frozen=True, slots=True)
class VerifyProblem:
    """A difference between the store and its log.

    Attributes:
        path: key of the file.
        problem: what is wrong with it.
        documents: number of documents that it affects.
        remedy: the command that repairs it, or another remedy.
    """

    path: str
    problem: str
    documents: int
    remedy: str


@dataclass
class VerifyReport:
    """Result of `verify`.

    Attributes:
        version: of the snapshot that was checked.
        files: number of files that were checked; `bytes` in all.
        bytes: size of these files.
        problems: the differences.
        orphans: files that no version references: from crashed writers, or of expired versions.
        repaired: paths that were repaired.
    """

    version: int = 0
    files: int = 0
    bytes: int = 0
    problems: list[VerifyProblem] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the report as the command line prints it."""
        return {**asdict(self), "ok": not self.problems}


def verify(
    store: Store,
    *,
    at: int | str | None = None,
    fast: bool = False,
    progress: ProgressCallback = lambda done, total: None,
) -> VerifyReport:
    """Check log, checkpoints, rows, shards, indexes and the alignment of families.

    Args:
        store: the store.
        at: check only the files of this version or tag; by default those of all retained and pinned
            versions.
        fast: check sizes only, and read no file.
        progress: called with bytes checked and bytes in all.

    Raises:
        SnapshotError: the version or tag does not exist.
    """
    report = VerifyReport()
    report.problems += check_log(store)
    is_log_intact = not report.problems
    pins, problems = check_pins(store)
    report.problems += problems
    # The other checks need a state; a damaged log must not hide their problems.
    newest = state = readable_state(store)
    report.problems += check_checkpoints(store, newest.version)
    if is_log_intact:
        state = store.snapshot(at) if at is not None else retained_state(store, newest, pins)
    report.version = newest.version if at is None else state.version
    files: list[RowsFile | ShardInfo] = [*state.rows.values(), *state.shards]
    total = sum(_size(file) for file in files)
    sizes = {file.key: file.size for prefix in PREFIXES for file in store.storage.list(prefix)}
    # While entries are missing, the owners of files are unknown.
    if is_log_intact and at is None:
        report.orphans = sorted(sizes.keys() - _referenced_files(state))
    sizes |= sizes_of(shard for shard in state.shards if shard.is_external)
    identities: dict[str, str] = {}
    for file in files:
        file_problems = _check_file(store, state, file, sizes, fast, identities)
        known = file.path in newest.rows or file.path in newest.shards_by_path
        report.problems += file_problems if known else map(_of_older, file_problems)
        report.files += 1
        report.bytes += _size(file)
        progress(report.bytes, total)
    report.problems += check_indexes(store, state)
    report.problems += check_rows(state)
    return report


def check_pins(store: Store) -> tuple[list[int], list[VerifyProblem]]:
    """Return the versions of pins, and the problems of pins."""
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
            f"_pins/{pin.name}.json", f"pins version {pin.version}, which does not exist", 0, remedy
        )
        for pin in pins
        if pin.version > newest
    ]


def retained_state(store: Store, newest: Snapshot, pinned: Iterable[int]) -> Snapshot:
    """Return the latest state plus the files that only older retained or pinned versions reference.

    It does not contain files that a repair removed from the state.
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
    # Text shards first, as in every state: aligned shards are compared with them.
    state.shards_by_path = shards | newest.shards_by_path
    return state


def check_log(store: Store) -> Iterator[VerifyProblem]:
    """Yield truncated or changed entries, gaps, and entries that are missing at the end."""
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
                yield VerifyProblem(key, "missing, but newer entries exist", 0, remedy)
                continue
            try:
                commit_log.parse(version, data)
            except CorruptError as error:
                yield VerifyProblem(key, str(error).removeprefix(f"{key}: "), 0, remedy)
    references = {commit_log.LAST: store.log.hint()} | {
        file.key: int(folder)
        for file in store.storage.list("_checkpoint")
        if (folder := file.key.split("/")[1]).isdigit() and file.key.endswith("/state.json")
    }
    for reference, version in references.items():
        if version > newest:
            yield VerifyProblem(
                commit_log.key(version), f"missing, but {reference} refers to it", 0, remedy
            )


def readable_state(store: Store) -> Snapshot:
    """Return the latest state; if log or checkpoints are damaged, that of the readable entries."""
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
    """Yield checkpoints with files that do not match their state.json."""
    remedy = "ixt verify --repair rebuilds it from the log"
    for version in range(checkpoint.EVERY, newest + 1, checkpoint.EVERY):
        try:
            checkpoint.read(store.storage, version)
        except FileNotFoundError:
            continue
        except (CorruptError, ValueError, KeyError) as error:
            path = str(error).split(": ")[0]
            if not path.startswith("_checkpoint/"):
                path = checkpoint.key(version, "state.json")
            yield VerifyProblem(path, "truncated, changed or missing", 0, remedy)


def _of_older(problem: VerifyProblem) -> VerifyProblem:
    what = f"{problem.problem}; only older snapshots reference it"
    remedy = "restore this file from a backup, or remove the tags of these snapshots and `ixt gc`"
    return replace(problem, problem=what, remedy=remedy)


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
            # The original, because a cached copy may be older than the damage.
            with store.original(file) as path:
                what = _read(path, state, file, identities)
    except FileNotFoundError:
        what = "missing"
    if what:
        n_documents = file.rows if isinstance(file, RowsFile) else file.samples
        yield VerifyProblem(file.path, what, n_documents, _remedy(file))


def _read(
    path: Path, state: Snapshot, file: RowsFile | ShardInfo, identities: dict[str, str]
) -> str:
    """Return what is wrong with the content of a file, empty if it is intact."""
    if isinstance(file, RowsFile):
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return "" if digest == file.sha256 else f"its sha256 is not {file.sha256}"
    try:
        shard = read_adopted(file, path) if file.is_external else read_shard(path, file.index)
    except CorruptError as error:
        return str(error).removeprefix(f"{path}: ").removeprefix(f"{file.path}: ")
    if "doc_id" not in shard.columns:
        return ""
    # Text shards come first in every state, so their ids are known here.
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
        return f"{shard.samples} samples; its text shard {file.aligned_with} has {samples}"
    return f"its documents are not those of {file.aligned_with} in the same order"


def _remedy(file: RowsFile | ShardInfo) -> str:
    if isinstance(file, ShardInfo) and file.aligned_with is not None:
        verb = "tokenize" if file.family.startswith(f"{TOKENS}/") else "critique"
        return f"ixt verify --repair, then `ixt {verb}` redoes this unit"
    if isinstance(file, ShardInfo) and file.is_external:
        return f"{CHANGED}; no other file contains these documents"
    what = "rows" if isinstance(file, RowsFile) else "documents"
    return f"restore this file from a backup: no other file in the store contains these {what}"


def check_indexes(store: Store, state: Snapshot) -> Iterator[VerifyProblem]:
    """Yield folders whose index.json is missing, truncated, or differs from the log."""
    remedy = "ixt verify --repair rebuilds it"
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
            indexed = {entry["raw_data"]["basename"]: entry for entry in entries}
        except (ValueError, KeyError, TypeError):
            yield VerifyProblem(key, "truncated or changed: not an index", documents, remedy)
            continue
        if any(indexed.get(shard.raw.basename) != shard.index for shard in shards):
            yield VerifyProblem(key, "differs from the log", documents, remedy)


def check_rows(state: Snapshot) -> Iterator[VerifyProblem]:
    """Yield critique shards with another length than their text shard, by the log alone."""
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


def _referenced_files(state: Snapshot) -> set[str]:
    known = {*state.rows, *state.shards_by_path}
    return known | {f"{folder}/index.json" for folder in _folders(state)}


def repair(store: Store, report: VerifyReport) -> VerifyReport:
    """Rebuild everything that can be rebuilt, and add its paths to the report.

    It rebuilds an index.json or a checkpoint from the log. It requeues a unit with a lost critique
    shard; the unit's rows remain until new ones replace them. While entries of the log are damaged,
    it rebuilds only indexes. It deletes nothing else.
    """
    paths = [problem.path for problem in report.problems]
    is_log_intact = not any(path.startswith("_log/") for path in paths)
    if is_log_intact:
        report.repaired += _rebuild_checkpoints(store, paths)
    newest = readable_state(store)
    folders = _folders(
        retained_state(store, newest, check_pins(store)[0]) if is_log_intact else newest
    )
    for path in paths:
        folder = path.removesuffix("/index.json")
        if folder != path and folder in folders:
            index = {"version": 2, "shards": [shard.index for shard in folders[folder]]}
            store.storage.replace(path, orjson.dumps(index, option=orjson.OPT_SORT_KEYS))
            report.repaired.append(path)
        shard = newest.shards_by_path.get(path)
        if is_log_intact and shard is not None and shard.family != TEXT:
            _requeue(store, newest, shard)
            report.repaired.append(path)
    return report


def _rebuild_checkpoints(store: Store, paths: Iterable[str]) -> list[str]:
    """Rebuild damaged checkpoints from the log; return the paths that were damaged."""
    damaged = [path for path in paths if path.startswith("_checkpoint/")]
    versions = sorted({int(path.split("/")[1]) for path in damaged})
    # Delete all of them first, because one may be built from another.
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
    # Tokens of the lost critiques do not fit the new ones.
    lost += [s.path for s in state.shards if s.aligned_with in lost]
    head = store.snapshot()
    if not all(path in head.shards_by_path for path in lost):
        return
    with store.begin("repair", base=head.version) as txn:
        txn.remove_shards(lost)
        txn.requeue(unit)
        txn.commit(requeued=[unit])
