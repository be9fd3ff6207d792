"""Garbage collection: deletes what no kept version and no pin holds.

1. Files of transactions that never landed and were not touched for `grace` name stale transactions.
2. One commit aborts them, and says the oldest version that is kept. A transaction that lands before
   this commit is not aborted; one that comes after it stops with an error.
3. Then the pins are read again, and what is held by none of them goes.

So the clock only picks candidates; the log decides. Leases that nobody renews, journals on this
machine that nobody waits for, checkpoints from which no kept version is built, and what writers
that were killed left beside the log go as well.
"""

import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from ixt_data.critique_runs import abandoned, journal_folder, left_over
from ixt_data.log import READ_BATCH, Entry, Snapshot, checkpoint
from ixt_data.storage import StoredFile
from ixt_data.store import Store

_TXN = re.compile(r"[0-9a-f]{32}")
_PLACES = ("shards", "meta", "quarantine", "_tmp")
_BESIDE = ("_log", "_pins", "_checkpoint", "_probe")
"""Where a killed writer may leave a file that has not got its name yet."""


@dataclass
class GcReport:
    """What garbage collection did, or would do.

    Attributes:
        deleted: keys, with their bytes.
        aborted: transactions that it fenced.
        min_version: the oldest version that is kept without a pin.
        expired: pins that it removed.
        pins: those that hold versions, by name.
        journals: files on this machine with answers of a critic, with their bytes.
        snapshot: the version after it.
    """

    deleted: dict[str, int] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    min_version: int = 0
    expired: list[str] = field(default_factory=list)
    pins: dict[str, int] = field(default_factory=dict)
    journals: dict[Path, int] = field(default_factory=dict)
    snapshot: int = 0

    @property
    def bytes(self) -> int:
        """How much it frees."""
        return sum(self.deleted.values()) + sum(self.journals.values())


def collect(
    store: Store,
    *,
    keep_versions: int = 100,
    keep: timedelta = timedelta(days=7),
    grace: timedelta = timedelta(days=1),
    keep_journals: timedelta = timedelta(days=30),
    dry_run: bool = False,
) -> GcReport:
    """Lets old versions go and deletes the files that only they held.

    Args:
        store: whose files.
        keep_versions: the newest this many versions are kept, however old.
        keep: versions younger than this are kept, however many.
        grace: a transaction that has not written for this long counts as stale.
        keep_journals: answers that were never published are kept for this long after the last one.
        dry_run: only say what would go.
    """
    # By the storage's own clock, that of this machine may be wrong. A dry run writes nothing.
    now = datetime.now(UTC) if dry_run else store.pins.now()
    old = (now - grace).timestamp()
    files = [file for place in _PLACES for file in store.storage.list(place)]
    head = store.snapshot()
    report = GcReport(snapshot=head.version)
    report.min_version = max(head.min_version, _oldest_kept(store, head, keep_versions, keep))
    report.aborted = sorted(_stale(files, head, old))
    if not dry_run and (report.aborted or report.min_version > head.min_version):
        report.snapshot = _fence(store, report)
    # Known before what is held, so that a transaction that lands now is in neither.
    gone = {*store.snapshot().commits, *report.aborted}
    pins = store.pins.all().values()
    report.expired = [pin.name for pin in pins if not pin.is_valid(now)]
    report.pins = {pin.name: pin.version for pin in pins if pin.is_valid(now)}
    held = _held(store, report.min_version, report.pins.values())
    for file in files:
        if file.key not in held and _goes(file, gone, report.aborted, old):
            report.deleted[file.key] = file.size
    report.deleted |= left_over(store.storage, old)
    report.deleted |= _unnamed(store, old)
    report.deleted |= _checkpoints(store, report.min_version, report.pins.values())
    for path in _journals(store, time.time() - keep_journals.total_seconds()):
        report.journals[path] = path.stat().st_size
        if not dry_run:
            path.unlink()
    if not dry_run:
        # First: whoever reads a checkpoint meanwhile, or finds what a kill here has left of it,
        # then knows that there is none.
        states = [key for key in report.deleted if checkpoint.is_state(key)]
        store.storage.delete(*states)
        store.storage.delete(*(key for key in report.deleted if key not in states))
        for name in report.expired:
            store.pins.release(name)
    return report


def _journals(store: Store, before: float) -> Iterator[Path]:
    units = store.snapshot().units
    return abandoned(journal_folder(store), lambda unit, old: units.get(unit) == old, before)


def _unnamed(store: Store, old: float) -> dict[str, int]:
    """Files that were never given their name, with their bytes."""
    found = (file for place in _BESIDE for file in store.storage.list(place))
    return {
        file.key: file.size
        for file in found
        if file.modified < old and (file.key.endswith(".tmp") or file.key.startswith("_probe/"))
    }


def _checkpoints(store: Store, oldest: int, pinned: Iterable[int]) -> dict[str, int]:
    """Files of checkpoints from which no kept version is built, with their bytes."""
    files: dict[int, dict[str, int]] = {}
    for file in store.storage.list("_checkpoint"):
        if (folder := file.key.split("/")[1]).isdigit() and not file.key.endswith(".tmp"):
            files.setdefault(int(folder), {})[file.key] = file.size
    whole = [
        version for version in files if checkpoint.key(version, "state.json") in files[version]
    ]
    needed = {
        max((version for version in whole if version <= kept), default=0)
        for kept in (oldest, *pinned)
    }
    gone = [version for version in whole if version < oldest and version not in needed]
    return {key: size for version in gone for key, size in files[version].items()}


def transaction(key: str) -> str | None:
    """The transaction that wrote a file, by its key."""
    match = _TXN.search(key)
    return match and match.group()


def _goes(file: StoredFile, gone: set[str], aborted: Sequence[str], old: float) -> bool:
    """Whether a file that nothing holds may go: its transaction has ended, one way or the other."""
    txn = transaction(file.key)
    if txn is None:
        return file.modified < old
    if file.key.startswith("quarantine/"):
        return txn in aborted
    return txn in gone


def _oldest_kept(store: Store, head: Snapshot, versions: int, keep: timedelta) -> int:
    oldest = max(0, head.version - versions + 1)
    young = datetime.now(UTC) - keep
    # The entries below were let go before: versions only grow older.
    while oldest > head.min_version:
        first = max(head.min_version + 1, oldest - READ_BATCH + 1)
        for entry in reversed([*store.log.entries(first, oldest)]):
            if datetime.fromisoformat(entry.created) < young:
                return oldest
            oldest -= 1
    return oldest


def _stale(files: Iterable[StoredFile], head: Snapshot, old: float) -> set[str]:
    touched: dict[str, float] = {}
    for file in files:
        if (txn := transaction(file.key)) and txn not in head.commits:
            touched[txn] = max(touched.get(txn, 0), file.modified)
    return {txn for txn, when in touched.items() if when < old}


def _fence(store: Store, report: GcReport) -> int:
    entry = Entry(0, uuid.uuid4().hex, "gc", min_version=report.min_version)
    entry.aborted_transactions = report.aborted

    def spare(newer: Entry) -> None:
        if newer.txn in entry.aborted_transactions:
            entry.aborted_transactions.remove(newer.txn)

    return store.log.commit(entry, store.snapshot().version, spare)


def _held(store: Store, oldest: int, pinned: Iterable[int]) -> set[str]:
    """Every file that a kept version or a pin holds."""
    held: set[str] = set()
    for version in {oldest, *(version for version in pinned if version < oldest)}:
        state = store.snapshot(version)
        held |= {*state.rows, *state.shards_by_path}
    for entry in store.log.entries(oldest + 1, store.log.newest()):
        held |= {file.path for file in entry.rows_add} | {shard.path for shard in entry.shards_add}
    folders = {str(PurePosixPath(key).parent) for key in held if key.startswith("shards/")}
    return held | {f"{folder}/index.json" for folder in folders}
