"""Verification of a store against its log, and repair of everything that can be rebuilt."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import orjson

from ixt_data.errors import CorruptError
from ixt_data.log import (
    SEARCH,
    TEXT,
    TOKENS,
    RowsFile,
    ShardInfo,
    Snapshot,
    checkpoint,
    family_unit,
)
from ixt_data.maintenance.garbage_collection import transaction_of
from ixt_data.maintenance.log_checks import (
    check_checkpoints,
    check_log,
    check_pins,
    readable_state,
    retained_state,
)
from ixt_data.maintenance.verify_report import VerifyProblem, VerifyReport
from ixt_data.mds import read_shard
from ixt_data.records import ProgressCallback
from ixt_data.store import CHANGED, INGESTS, Store, human_critic, read_adopted, sizes_of, unit_name
from ixt_data.worker_processes import cores

_File = RowsFile | ShardInfo

_VERBS = {TOKENS: "tokenize", SEARCH: "search --index"}
"""The verb that writes the shards of a family again, by the first part of its name."""
PREFIXES = ("shards", "meta", "_tmp")
"""Prefixes of files that a version references, or that are orphaned."""


def verify(
    store: Store,
    *,
    at: int | str | None = None,
    fast: bool = False,
    workers: int | None = None,
    progress: ProgressCallback = lambda done, total: None,
) -> VerifyReport:
    """Check log, checkpoints, rows, shards, indexes and the alignment of families.

    Args:
        store: the store.
        at: check only the files of this version or tag; by default those of all retained and pinned
            versions.
        fast: check sizes only, and read no file.
        workers: number of files that are read at a time; None: one per core.
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
    damaged = list(check_checkpoints(store, newest.version))
    report.problems += damaged
    # Older states may need a damaged checkpoint.
    is_log_intact &= not damaged
    if is_log_intact:
        state = store.snapshot(at) if at is not None else retained_state(store, newest, pins)
    report.version = newest.version if at is None else state.version
    files: list[_File] = [*state.rows.values(), *state.shards]
    total = sum(_size(file) for file in files)
    sizes = {file.key: file.size for prefix in PREFIXES for file in store.storage.list(prefix)}
    # While entries are missing, the owners of files are unknown.
    if is_log_intact and at is None:
        unreferenced = sorted(sizes.keys() - _referenced_files(state))
        ingests = _unfinished_ingests(store, newest)
        report.unfinished = [key for key in unreferenced if _is_of(key, ingests)]
        report.orphans = [key for key in unreferenced if not _is_of(key, ingests)]
    sizes |= sizes_of(shard for shard in state.shards if shard.is_external)
    identities: dict[str, str] = {}
    # Hashes and decompression release Python's lock.
    workers = workers or cores()
    with ThreadPoolExecutor(workers) as pool:
        contents = _in_order(
            pool, lambda file: _check_file(store, file, sizes, fast), files, workers
        )
        for file, content in zip(files, contents, strict=True):
            what = content.problem or _misalignment(state, file, content, identities)
            if what:
                n_documents = file.rows if isinstance(file, RowsFile) else file.samples
                problem = VerifyProblem(file.path, what, n_documents, _remedy(file))
                known = file.path in newest.rows or file.path in newest.shards_by_path
                report.problems.append(problem if known else _of_older(problem))
            report.files += 1
            report.bytes += _size(file)
            progress(report.bytes, total)
    report.problems += check_indexes(store, state)
    report.problems += check_rows(state)
    return report


def _unfinished_ingests(store: Store, newest: Snapshot) -> set[str]:
    """Return the transactions that have a journal and no commit."""
    keys = (file.key for file in store.storage.list(INGESTS))
    return {transaction_of(key) or "" for key in keys} - {*newest.commits}


def _is_of(key: str, transactions: set[str]) -> bool:
    # A killed process leaves temporary files, which no other one uses.
    return not key.startswith("_tmp/") and transaction_of(key) in transactions


def _of_older(problem: VerifyProblem) -> VerifyProblem:
    what = f"{problem.problem}; only older snapshots reference it"
    remedy = "restore this file from a backup, or remove the tags of these snapshots and `ixt gc`"
    return replace(problem, problem=what, remedy=remedy)


def _size(file: _File) -> int:
    return file.bytes if isinstance(file, RowsFile) else file.stored.bytes


class _Content(NamedTuple):
    """What is wrong with a file, empty if nothing is; samples and a hash of a shard's doc_ids."""

    problem: str = ""
    samples: int = 0
    identity: str = ""


def _in_order(
    pool: ThreadPoolExecutor,
    check: Callable[[_File], _Content],
    files: Sequence[_File],
    ahead_of: int,
) -> Iterator[_Content]:
    """Yield the contents in order; few files are read ahead, because each needs memory."""
    ahead: deque[Future[_Content]] = deque()
    for file in files:
        ahead.append(pool.submit(check, file))
        if len(ahead) > ahead_of:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _check_file(store: Store, file: _File, sizes: Mapping[str, int], fast: bool) -> _Content:
    try:
        if file.path not in sizes:
            raise FileNotFoundError(file.path)
        size = sizes[file.path]
        if size != _size(file):
            return _Content(f"{size} bytes instead of {_size(file)}")
        if fast:
            return _Content()
        # The original, because a cached copy may be older than the damage.
        with store.original(file) as path:
            return _read(path, file)
    except FileNotFoundError:
        return _Content("missing")


def _read(path: Path, file: _File) -> _Content:
    """Read and check the content of a file."""
    if isinstance(file, RowsFile):
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return _Content("" if digest == file.sha256 else f"its sha256 is not {file.sha256}")
    try:
        shard = read_adopted(file, path) if file.is_external else read_shard(path, file.index)
    except CorruptError as error:
        return _Content(str(error).removeprefix(f"{path}: ").removeprefix(f"{file.path}: "))
    if "doc_id" not in shard.columns:
        return _Content()
    identity = hashlib.sha256(b"".join(shard.column("doc_id"))).hexdigest()
    return _Content("", shard.samples, identity)


def _misalignment(
    state: Snapshot, file: _File, content: _Content, identities: dict[str, str]
) -> str:
    """Return how a shard differs from the one that it is aligned with; keep its identity."""
    if isinstance(file, RowsFile) or not content.identity:
        return ""
    # Text shards come first in every state, so their ids are known here.
    identities[file.path] = content.identity
    expected = identities.get(file.aligned_with or "", content.identity)
    if file.aligned_with is None or expected == content.identity:
        return ""
    samples = state.shards_by_path[file.aligned_with].samples
    if content.samples != samples:
        return f"{content.samples} samples; its text shard {file.aligned_with} has {samples}"
    return f"its documents are not those of {file.aligned_with} in the same order"


def _remedy(file: _File) -> str:
    if isinstance(file, ShardInfo) and file.family == f"critique/{human_critic().id}":
        return "ixt verify --repair, then the next label of its documents restores it from the rows"
    if isinstance(file, ShardInfo) and file.aligned_with is not None:
        verb = _VERBS.get(file.family.partition("/")[0], "critique")
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
    if kind in _VERBS:
        lost, unit = [shard.path], family_unit(shard.family, shard.aligned_with or "")
    else:
        families = (f"critique/{critic}", f"thinking/{critic}")
        lost = [
            s.path
            for s in state.shards
            if s.aligned_with == shard.aligned_with and s.family in families
        ]
        unit = unit_name(critic, state.shards_by_path[shard.aligned_with or ""])
    # Tokens and indexes of the lost critiques do not fit the new ones.
    lost += [s.path for s in state.shards if s.aligned_with in lost]
    head = store.snapshot()
    if not all(path in head.shards_by_path for path in lost):
        return
    with store.begin("repair", base=head.version) as txn:
        txn.remove_shards(lost)
        txn.requeue(unit)
        txn.commit(requeued=[unit])
