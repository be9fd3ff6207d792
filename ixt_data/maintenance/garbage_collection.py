"""Garbage collection: delete the files that no retained version and no pin references.

1. Files of uncommitted transactions that were not touched for `grace` identify stale transactions.
2. One commit aborts them and sets the oldest retained version. A transaction that commits before
   this commit is not aborted; a later one stops with an error.
3. Then the pins are read again, and every file that none of them references is deleted.

So clocks only choose candidates; the log decides. Garbage collection also deletes expired leases,
abandoned journals on this machine, checkpoints that no retained version is built from, and
temporary files of killed writers.
"""

import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from ixt_data.critique_runs import abandoned_journals, expired_leases, journal_folder
from ixt_data.log import PROBE_PREFIX, READ_BATCH, Entry, Snapshot, checkpoint
from ixt_data.storage import LocalStorage, StoredFile, free_reserve, is_full, write_reserve
from ixt_data.store import INGESTS, Store

_TXN = re.compile(r"[0-9a-f]{32}")
_DATA_PREFIXES = ("shards", "meta", "quarantine", "_tmp", INGESTS)
_WRITER_PREFIXES = ("_log", "_pins", "_checkpoint", "_probe")
"""Prefixes where a killed writer may leave a temporary file."""


@dataclass
class GcReport:
    """Result of a garbage collection, or of a dry run.

    Attributes:
        deleted: bytes of each deleted file, by key.
        aborted: ids of transactions that it aborted.
        min_version: the oldest version that is retained without a pin.
        expired: names of expired pins that it removed.
        pins: versions of the live pins, by name.
        journals: bytes of each deleted journal on this machine.
        snapshot: version after it.
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
        """Bytes that it frees."""
        return sum(self.deleted.values()) + sum(self.journals.values())


def collect_garbage(
    store: Store,
    *,
    keep_versions: int = 100,
    keep: timedelta = timedelta(days=7),
    grace: timedelta = timedelta(days=1),
    keep_journals: timedelta = timedelta(days=30),
    dry_run: bool = False,
) -> GcReport:
    """Expire old versions and delete the files that only they reference.

    Args:
        store: the store.
        keep_versions: number of latest versions to retain, of any age.
        keep: retain versions younger than this, of any number.
        grace: a transaction without writes for this long counts as stale.
        keep_journals: keep unpublished critiques for this long after the last one.
        dry_run: only report the files that would be deleted.
    """
    limits = (keep_versions, keep, grace, keep_journals)
    try:
        report = _collect(store, *limits, dry_run=dry_run)
    except OSError as error:
        # The first write fails on a full disk, and nothing is deleted before it.
        if dry_run or not is_full(error) or not free_reserve(store.storage):
            raise
        report = _collect(store, *limits, dry_run=False)
    if not dry_run:
        write_reserve(store.storage)
    return report


def _collect(
    store: Store,
    keep_versions: int,
    keep: timedelta,
    grace: timedelta,
    keep_journals: timedelta,
    *,
    dry_run: bool,
) -> GcReport:
    # The storage's clock, because this machine's may be wrong. A dry run writes nothing.
    now = datetime.now(UTC) if dry_run else store.pins.now()
    stale_before = (now - grace).timestamp()
    files = [file for prefix in _DATA_PREFIXES for file in store.storage.list(prefix)]
    head = store.snapshot()
    report = GcReport(snapshot=head.version)
    report.min_version = max(
        head.min_version, _oldest_retained(store, head, keep_versions, now - keep)
    )
    report.aborted = sorted(_stale_transactions(files, head, stale_before))
    if not dry_run and (report.aborted or report.min_version > head.min_version):
        report.snapshot = _abort_transactions(store, report)
    # Read before the retained files, so a transaction that commits now is in neither set.
    finished = {*store.snapshot().commits, *report.aborted}
    pins = store.pins.all() if dry_run else store.pins.read_with_time()[0]
    report.expired = [pin.name for pin in pins.values() if not pin.is_valid(now)]
    report.pins = {pin.name: pin.version for pin in pins.values() if pin.is_valid(now)}
    retained = _retained_files(store, report.min_version, report.pins.values())
    for file in files:
        if file.key not in retained and _is_deletable(file, finished, report.aborted, stale_before):
            report.deleted[file.key] = file.size
    report.deleted |= expired_leases(store.storage, stale_before)
    report.deleted |= _unfinished_files(store, stale_before)
    report.deleted |= _stale_checkpoints(store, report.min_version, report.pins.values())
    for path in _stale_journals(store, time.time() - keep_journals.total_seconds()):
        report.journals[path] = path.stat().st_size
        if not dry_run:
            path.unlink()
    if not dry_run:
        # The state files first: a checkpoint without one does not exist, for concurrent readers
        # and after a crash in this loop.
        states = [key for key in report.deleted if checkpoint.is_state(key)]
        store.storage.delete(*states)
        store.storage.delete(*(key for key in report.deleted if key not in states))
        for name in report.expired:
            store.pins.release(name)
        if isinstance(store.storage, LocalStorage):
            _remove_empty_folders(store.storage.path / "_tmp", stale_before)
    return report


def _remove_empty_folders(folder: Path, stale_before: float) -> None:
    """Remove the empty folders that killed writers have left below a folder."""
    paths = [Path(path) for path, _, _ in os.walk(folder, topdown=False) if path != str(folder)]
    # The removal of a folder changes the time of the one above.
    stale = [path for path in paths if _modified(path) < stale_before]
    for path in stale:
        # A folder that is not empty stays.
        with suppress(OSError):
            path.rmdir()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        # Its writer has removed it.
        return math.inf


def _stale_journals(store: Store, before: float) -> Iterator[Path]:
    units = store.snapshot().units
    return abandoned_journals(
        journal_folder(store), lambda unit, replaced: units.get(unit) == replaced, before
    )


def _unfinished_files(store: Store, stale_before: float) -> dict[str, int]:
    """Return temporary files of killed writers, with their bytes."""
    files = (file for prefix in _WRITER_PREFIXES for file in store.storage.list(prefix))
    return {
        file.key: file.size
        for file in files
        if file.modified < stale_before
        and (file.key.endswith(".tmp") or file.key.startswith(("_probe/", PROBE_PREFIX)))
    }


def _stale_checkpoints(store: Store, oldest: int, pinned: Iterable[int]) -> dict[str, int]:
    """Return files of checkpoints that no retained version is built from, with their bytes."""
    files: dict[int, dict[str, int]] = {}
    for file in store.storage.list("_checkpoint"):
        if (folder := file.key.split("/")[1]).isdigit() and not file.key.endswith(".tmp"):
            files.setdefault(int(folder), {})[file.key] = file.size
    complete = [
        version for version in files if checkpoint.key(version, "state.json") in files[version]
    ]
    needed = {
        max((version for version in complete if version <= retained), default=0)
        for retained in (oldest, *pinned)
    }
    bases = {checkpoint.base_of(key) for version in needed for key in files.get(version, ())}
    needed |= {base for base in bases if base is not None}
    deletable = [version for version in complete if version < oldest and version not in needed]
    return {key: size for version in deletable for key, size in files[version].items()}


def transaction_of(key: str) -> str | None:
    """Return the transaction that wrote a file, by its key; None for other files."""
    match = _TXN.search(key)
    return match and match.group()


def _is_deletable(
    file: StoredFile, finished: set[str], aborted: Sequence[str], stale_before: float
) -> bool:
    """Return whether an unreferenced file can be deleted: its transaction has ended."""
    txn = transaction_of(file.key)
    if txn is None:
        return file.modified < stale_before
    if file.key.startswith("quarantine/"):
        return txn in aborted
    return txn in finished


def _oldest_retained(store: Store, head: Snapshot, versions: int, newest_expiry: datetime) -> int:
    oldest = max(0, head.version - versions + 1)
    # Older entries expired before.
    while oldest > head.min_version:
        first = max(head.min_version + 1, oldest - READ_BATCH + 1)
        for entry in reversed([*store.log.entries(first, oldest)]):
            if datetime.fromisoformat(entry.created) < newest_expiry:
                return oldest
            oldest -= 1
    return oldest


def _stale_transactions(
    files: Iterable[StoredFile], head: Snapshot, stale_before: float
) -> set[str]:
    touched: dict[str, float] = {}
    for file in files:
        if (txn := transaction_of(file.key)) and txn not in head.commits:
            touched[txn] = max(touched.get(txn, 0), file.modified)
    return {txn for txn, when in touched.items() if when < stale_before}


def _abort_transactions(store: Store, report: GcReport) -> int:
    with store.begin("gc") as txn:
        txn.set_min_version(report.min_version)
        txn.abort_transactions(report.aborted)

        def keep_committed(newer: Entry) -> None:
            if newer.txn in report.aborted:
                report.aborted.remove(newer.txn)
                txn.abort_transactions(report.aborted)

        return txn.commit(keep_committed)


def _retained_files(store: Store, oldest: int, pinned: Iterable[int]) -> set[str]:
    """Return every file that a retained version or a pin references."""
    retained: set[str] = set()
    for version in {oldest, *(version for version in pinned if version < oldest)}:
        state = store.snapshot(version)
        retained |= {*state.rows, *state.shards_by_path}
    for entry in store.log.entries(oldest + 1, store.log.newest()):
        retained |= {file.path for file in entry.rows_add} | {
            shard.path for shard in entry.shards_add
        }
    folders = {str(PurePosixPath(key).parent) for key in retained if key.startswith("shards/")}
    return retained | {f"{folder}/index.json" for folder in folders}
