"""Checks that a store is what its log says, and mends what can be mended without guessing."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from ixt_data import checkpoint, log
from ixt_data.adopted import CHANGED, read_adopted, sizes_of
from ixt_data.errors import CorruptError
from ixt_data.shards import read_shard
from ixt_data.snapshot import TEXT, TOKENS, RowsFile, ShardInfo, Snapshot, tokens_unit
from ixt_data.store import Store
from ixt_data.units import unit_name

PLACES = ("shards", "meta", "_tmp")
"""Where files are that a version holds, or that nothing holds any more."""

Progress = Callable[[int, int], None]
"""Called with bytes checked and bytes in all."""


@dataclass(frozen=True, slots=True)
class Problem:
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
    problems: list[Problem] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the command line."""
        return {**asdict(self), "ok": not self.problems}


def verify(
    store: Store, *, fast: bool = False, progress: Progress = lambda done, total: None
) -> VerifyReport:
    """Checks log, checkpoints, rows, shards, indexes and the alignment of families.

    Args:
        store: which.
        fast: sizes only, nothing is read.
        progress: called as bytes are checked.
    """
    report = VerifyReport()
    report.problems += check_log(store)
    # What follows needs the state; the log's own trouble must not hide the rest.
    state = _readable_state(store)
    report.version = state.version
    report.problems += check_checkpoints(store, state.version)
    files: list[RowsFile | ShardInfo] = [*state.rows.values(), *state.shards]
    total = sum(_size(file) for file in files)
    sizes = {file.key: file.size for place in PLACES for file in store.storage.list(place)}
    report.orphans = sorted(sizes.keys() - _known(state))
    sizes |= sizes_of(shard for shard in state.shards if shard.outside)
    identities: dict[str, str] = {}
    for file in files:
        report.problems += _check_file(store, state, file, sizes, fast, identities)
        report.files += 1
        report.bytes += _size(file)
        progress(report.bytes, total)
    report.problems += check_indexes(store, state)
    report.problems += check_rows(state)
    return report


def check_log(store: Store) -> Iterator[Problem]:
    """Torn or changed entries, and gaps between them."""
    present = {file.key for file in store.storage.list("_log") if file.key.endswith(".json")}
    newest = max((int(PurePosixPath(key).stem) for key in present), default=0)
    remedy = "restore this file from a backup; every later version depends on it"
    for start in range(1, newest + 1, log.AT_ONCE):
        versions = range(start, min(start + log.AT_ONCE, newest + 1))
        for version, data in zip(
            versions, store.storage.read_all(map(log.key, versions)), strict=True
        ):
            key = log.key(version)
            if data is None:
                yield Problem(key, "missing, but newer entries are there", 0, remedy)
                continue
            try:
                log.parse(version, data)
            except (CorruptError, ValueError, TypeError) as error:
                yield Problem(key, _without(key, str(error)), 0, remedy)


def _readable_state(store: Store) -> Snapshot:
    try:
        return store.snapshot()
    except (CorruptError, ValueError, TypeError):
        pass
    state, version = Snapshot(), 1
    while store.storage.exists(log.key(version)):
        try:
            state.apply(store.log.read(version))
        except (CorruptError, ValueError, TypeError):
            state.version = version
        version += 1
    return state


def check_checkpoints(store: Store, newest: int) -> Iterator[Problem]:
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
            yield Problem(path, "torn, changed or missing", 0, remedy)


def _size(file: RowsFile | ShardInfo) -> int:
    return file.bytes if isinstance(file, RowsFile) else file.stored.bytes


def _check_file(
    store: Store,
    state: Snapshot,
    file: RowsFile | ShardInfo,
    sizes: Mapping[str, int],
    fast: bool,
    identities: dict[str, str],
) -> Iterator[Problem]:
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
        yield Problem(file.path, what, _documents(file), _remedy(file))


def _read(
    path: Path, state: Snapshot, file: RowsFile | ShardInfo, identities: dict[str, str]
) -> str:
    """What is wrong with the content of a file, empty if nothing is."""
    if isinstance(file, RowsFile):
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return "" if digest == file.sha256 else f"its sha256 is not {file.sha256}"
    try:
        shard = read_adopted(file, path) if file.outside else read_shard(path, file.index)
    except CorruptError as error:
        return _without(file.path, _without(str(path), str(error)))
    if "doc_id" not in shard.columns:
        return ""
    # Text shards come first in every state, so an aligned shard finds the ids of its own.
    identity = hashlib.sha256(b"".join(shard.column("doc_id"))).hexdigest()
    identities[file.path] = identity
    if file.of is None or file.of not in identities or identities[file.of] == identity:
        return ""
    samples = state.shards_by_path[file.of].samples
    if shard.samples != samples:
        return f"{shard.samples} samples; {file.of}, which it is aligned with, has {samples}"
    return f"its documents are not those of {file.of} in the same order"


def _documents(file: RowsFile | ShardInfo) -> int:
    return file.rows if isinstance(file, RowsFile) else file.samples


def _remedy(file: RowsFile | ShardInfo) -> str:
    if isinstance(file, ShardInfo) and file.of is not None:
        verb = "tokenize" if file.family.startswith(f"{TOKENS}/") else "critique"
        return f"ixt verify --repair, then `ixt {verb}` does this unit again"
    if isinstance(file, ShardInfo) and file.outside:
        return f"{CHANGED}; nothing else holds these documents"
    what = "rows" if isinstance(file, RowsFile) else "documents"
    return f"restore this file from a backup: nothing else in the store holds these {what}"


def check_indexes(store: Store, state: Snapshot) -> Iterator[Problem]:
    """Folders whose index.json is missing, torn, or says other than the log."""
    remedy = "ixt verify --repair writes it anew"
    folders = _folders(state)
    keys = [f"{folder}/index.json" for folder in folders]
    indexes = store.storage.read_all(keys)
    for key, data, shards in zip(keys, indexes, folders.values(), strict=True):
        documents = sum(shard.samples for shard in shards)
        if data is None:
            yield Problem(key, "missing", documents, remedy)
            continue
        try:
            entries = orjson.loads(data)["shards"]
            found = {entry["raw_data"]["basename"]: entry for entry in entries}
        except (ValueError, KeyError, TypeError):
            yield Problem(key, "torn or changed: not an index", documents, remedy)
            continue
        if any(found.get(shard.raw.basename) != shard.index for shard in shards):
            yield Problem(key, "says other than the log", documents, remedy)


def check_rows(state: Snapshot) -> Iterator[Problem]:
    """Critique shards of another length than their text shard, by the log alone."""
    for shard in state.shards:
        text = state.shards_by_path.get(shard.of or "")
        if text is not None and text.samples != shard.samples:
            what = f"{shard.samples} samples; its text shard {text.path} has {text.samples}"
            yield Problem(shard.path, what, text.samples, _remedy(shard))


def _folders(state: Snapshot) -> dict[str, list[ShardInfo]]:
    folders: dict[str, list[ShardInfo]] = {}
    for shard in state.shards:
        if not shard.outside:
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
    lost is put back into the queue: its rows stay until the new ones replace them.
    """
    state = store.snapshot()
    folders = _folders(state)
    for problem in report.problems:
        path = problem.path
        if path.endswith("/index.json"):
            shards = [shard.index for shard in folders[path.removesuffix("/index.json")]]
            index = {"version": 2, "shards": shards}
            store.storage.replace(path, orjson.dumps(index, option=orjson.OPT_SORT_KEYS))
        elif path.startswith("_checkpoint/"):
            _rewrite_checkpoint(store, int(path.split("/")[1]))
        elif (shard := state.shards_by_path.get(path)) is not None and shard.family != TEXT:
            _requeue(store, state, shard)
        else:
            continue
        report.repaired.append(path)
    return report


def _rewrite_checkpoint(store: Store, version: int) -> None:
    for file in list(store.storage.list(f"_checkpoint/{version:020d}")):
        store.storage.delete(file.key)
    checkpoint.write(store.storage, store.snapshot(version))


def _requeue(store: Store, state: Snapshot, shard: ShardInfo) -> None:
    kind, _, critic = shard.family.partition("/")
    if kind == TOKENS:
        lost, unit = [shard.path], tokens_unit(shard.family, shard.of or "")
    else:
        families = (f"critique/{critic}", f"thinking/{critic}")
        lost = [s.path for s in state.shards if s.of == shard.of and s.family in families]
        unit = unit_name(critic, state.shards_by_path[shard.of or ""])
    # The tokens of what is lost are of no use to what comes in its place.
    lost += [s.path for s in state.shards if s.of in lost]
    head = store.snapshot()
    if not all(path in head.shards_by_path for path in lost):
        return
    with store.begin("repair", base=head.version) as txn:
        txn.entry.shards_remove = lost
        txn.entry.units_remove = [unit]
        txn.commit(requeued=txn.entry.units_remove)
