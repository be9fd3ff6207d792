"""The commit log: one entry per version, created only if absent, with a checksum.

`_log/<version, 20 digits>.json` has two lines: the entry as JSON, and the SHA-256 of that line.
Creating the entry publishes shards and rows in one step. `_log/_last` is a hint for the search for
the newest version. It may be outdated; correctness does not depend on it.
"""

import errno
import hashlib
import logging
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import orjson

from ixt_data.errors import (
    CommitConflict,
    CommitError,
    CommitStateUnknown,
    CorruptError,
    SnapshotError,
    StoreError,
    TransactionAborted,
    UnitAlreadyPublished,
    WriteStateUnknown,
)
from ixt_data.log import checkpoint
from ixt_data.log.snapshot import FORMAT, Entry, Snapshot
from ixt_data.storage import Storage, create_once

_log = logging.getLogger(__name__)
EntryCallback = Callable[[Entry], None]
LAST = "_log/_last"
_ENTRY = re.compile(r"_log/\d{20}\.json")
MAX_REFUSALS = 12
MAX_CONFLICTS = 4
"""Conflicts after which a writer searches for the newest version instead of the next one."""
READ_BATCH = 64
"""Maximum number of entries in one batch of read requests."""


def key(version: int) -> str:
    """Return the key of a version's entry."""
    return f"_log/{version:020d}.json"


def encode(entry: Entry) -> bytes:
    """Encode an entry as the bytes of its file."""
    line = orjson.dumps(entry.to_json(), option=orjson.OPT_SORT_KEYS)
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def decode(data: bytes, name: str) -> Entry:
    """Decode the bytes of an entry's file.

    Raises:
        CorruptError: the checksum does not match; the message contains `name`.
        StoreError: the entry is intact but has another format or unknown fields.
    """
    line, _, rest = data.partition(b"\n")
    if hashlib.sha256(line).hexdigest().encode() != rest.strip():
        raise CorruptError(f"{name}: truncated or changed: its checksum does not match")
    record = orjson.loads(line)
    # An entry without the key has the format of its store.
    if (entry_format := record.pop("format", FORMAT)) != FORMAT:
        raise StoreError(f"{name}: has format {entry_format}, {_NEWER}")
    try:
        return Entry.from_json(record)
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{name}: has unknown content ({error}); {_NEWER}") from None


_NEWER = (
    f"this version of ixt reads format {FORMAT}. Upgrade ixt, or install the version that wrote it"
)


def parse(version: int, data: bytes) -> Entry:
    """Decode the entry of a version from the bytes of its file.

    Raises:
        CorruptError: the bytes differ from what was written.
    """
    entry = decode(data, key(version))
    if entry.version != version:
        raise CorruptError(f"{key(version)}: contains version {entry.version}")
    return entry


class Log:
    """Reader and writer of the versions of one store.

    The log caches the versions that it has read: `newest` and `commit` read each newer entry once.
    `snapshot` builds the complete state on request, from the nearest checkpoint.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._version: int | None = None
        self._others = 0
        self._state = Snapshot()
        self._recent: dict[int, Entry] = {}

    def read(self, version: int) -> Entry:
        """Read one entry.

        Raises:
            FileNotFoundError: the version does not exist.
            CorruptError: the bytes differ from what was written.
        """
        return parse(version, self.storage.read(key(version)))

    def entries(self, first: int, last: int) -> Iterator[Entry]:
        """Yield the entries of a range of versions, both ends included.

        Raises:
            FileNotFoundError: an entry does not exist.
            CorruptError: an entry differs from what was written.
        """
        for start in range(first, last + 1, READ_BATCH):
            versions = range(start, min(start + READ_BATCH, last + 1))
            known = {v: self._recent[v] for v in versions if v in self._recent}
            missing = [v for v in versions if v not in known]
            contents = dict(zip(missing, self.storage.read_all(map(key, missing)), strict=True))
            for version in versions:
                if version in known:
                    yield known[version]
                elif (data := contents[version]) is not None:
                    yield parse(version, data)
                else:
                    raise FileNotFoundError(errno.ENOENT, "no such version", key(version))

    def newest(self) -> int:
        """Return the newest version.

        Raises:
            CorruptError: an entry differs from what was written, or is missing before later ones.
        """
        is_first_read = self._version is None
        newest = self._find_newest(sys.maxsize)
        return self._check_for_gap(newest) if is_first_read else newest

    def _check_for_gap(self, newest: int) -> int:
        """Check that no entry exists beyond a missing one; return the newest version.

        A missing entry hides all later ones. Without this check the next commit would repeat their
        versions, and garbage collection would delete their files. Runs once per opened log.
        """
        after = [name for name in self.storage.keys_after(key(newest)) if _ENTRY.fullmatch(name)]
        # Other writers may have committed in the meantime.
        if after and newest == (newest := self._find_newest(sys.maxsize)):
            raise CorruptError(f"{key(newest + 1)}: missing, but {after[0]} exists. {_LOST}")
        return newest

    def _find_newest(self, limit: int) -> int:
        """Read and cache up to `limit` newer entries; return the newest version among them."""
        if self._version is None:
            self._version = self._hint()
        first = self._version
        while (n_read := self._version - first) < limit:
            # One request per entry checks that it exists and reads it. Batches grow with the number
            # of entries read, so at most a quarter of all requests are for entries that are absent.
            size = min(max(1, n_read // 3), READ_BATCH, limit - n_read)
            versions = range(self._version + 1, self._version + 1 + size)
            for version, data in zip(
                versions, self.storage.read_all(map(key, versions)), strict=True
            ):
                if data is None:
                    return self._version
                self._cache(parse(version, data))
                self._version = version
        return self._version

    def _cache(self, entry: Entry) -> None:
        self._recent[entry.version] = entry
        if len(self._recent) > 2 * checkpoint.EVERY:
            del self._recent[next(iter(self._recent))]

    def _hint(self) -> int:
        hint = self.hint()
        if hint and not self.storage.exists(key(hint)):
            raise CorruptError(f"{key(hint)}: missing, but {LAST} names it. {_LOST}")
        return hint

    def hint(self) -> int:
        """Return the version that `_last` names, 0 without one."""
        try:
            return max(0, int(orjson.loads(self.storage.read(LAST))["version"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0

    def snapshot(self, version: int | None = None) -> Snapshot:
        """Build the state at a version, the newest by default.

        Raises:
            SnapshotError: the version does not exist.
        """
        newest = self.newest()
        if version is None:
            version = newest
        if not 0 <= version <= newest:
            raise SnapshotError(f"version {version} does not exist; the newest is {newest}")
        known = self._state if self._state.version <= version else Snapshot()
        if version - known.version > checkpoint.EVERY:
            known = checkpoint.load(self.storage, version, known) or known
        if version > known.version:
            state = known.copy()
            for entry in self.entries(known.version + 1, version):
                state.apply(entry)
            known = state
        if version == newest:
            self._state = known
        return known

    def commit(self, entry: Entry, base: int, on_newer: EntryCallback | None = None) -> int:
        """Commit `entry` as the next version; return its version.

        Newer entries decide a conflict. An entry with the writer's own transaction is an earlier
        attempt that succeeded. An entry with the same unit comes from a faster worker.

        Args:
            entry: the entry; this method sets its `version` and `created`.
            base: the version that the writer started from.
            on_newer: called with each entry committed since `base`; may change `entry` or raise.

        Raises:
            UnitAlreadyPublished: a newer entry publishes the same unit.
            TransactionAborted: a newer entry aborts the transaction.
            CommitConflict: a newer entry removes a file that this one replaces.
            CommitStateUnknown: the storage's response was lost, and the entry cannot be read back.
        """
        checked, conflicts, refusals = base, 0, 0
        if self._version is None:
            self._version = base
        start = max(base, self._version)
        # Expect as many commits by others as during the last transaction. If there are more, the
        # create request fails, which costs no more than a check for further entries.
        newest = max(base, self._find_newest(self._others))
        while True:
            for newer in self.entries(checked + 1, newest):
                if newer.txn == entry.txn:
                    entry.version, entry.created = newer.version, newer.created
                    return newer.version
                _check(entry, newer)
                if on_newer is not None:
                    on_newer(newer)
            checked = newest
            entry.version = newest + 1
            entry.created = datetime.now(UTC).isoformat(timespec="milliseconds")
            data = encode(entry)
            if self._create(entry, data):
                self._others = newest - start
                self._after_commit(entry.version, data)
                return entry.version
            conflicts += 1
            newest = self._find_newest(1) if conflicts < MAX_CONFLICTS else self.newest()
            refusals = refusals + 1 if newest == checked else 0
            _wait(refusals, entry)

    def _create(self, entry: Entry, data: bytes) -> bool:
        try:
            return create_once(self.storage, key(entry.version), data)
        except WriteStateUnknown as error:
            raise CommitStateUnknown(
                f"the state of this commit is not known: {error}. When the storage is reachable, "
                f"look for version {entry.version} with transaction {entry.txn} in `ixt log`. If "
                "it is there, the commit succeeded. If not, run the command again; this is safe, "
                "because documents and units that the store contains are not added twice"
            ) from error

    def _after_commit(self, version: int, data: bytes) -> None:
        """Update the cache and write a checkpoint. The commit is visible, so no error is raised."""
        self._version = version
        # Cache a decoded copy: the caller may change its own entry later.
        self._cache(decode(data, key(version)))
        if version % checkpoint.EVERY == 0:
            try:
                latest = self.entries(version - checkpoint.EVERY + 1, version)
                if not checkpoint.write_entries(self.storage, version, latest):
                    # Its records are still columns of the last checkpoint: this is fast.
                    checkpoint.write(self.storage, Log(self.storage).snapshot(version))
                self.storage.replace(LAST, orjson.dumps({"version": version}))
            except Exception as error:
                _log.warning(
                    "version %d is committed, but its checkpoint was not written (%s: %s); "
                    "readers replay more of the log",
                    version,
                    type(error).__name__,
                    error,
                )


_LOST = (
    "Restore it from a backup. Without a backup, delete all newer entries and _log/_last to "
    "continue from the version before"
)


def _wait(refusals: int, entry: Entry) -> None:
    """Pause when the storage refuses to create a version that it cannot return either."""
    if refusals > MAX_REFUSALS:
        raise CommitError(f"{key(entry.version)} can be neither created nor read; try again later")
    if refusals:
        time.sleep(random.uniform(0, min(2.0, 0.01 * 2**refusals)))


def _check(entry: Entry, newer: Entry) -> None:
    if entry.txn in newer.aborted_transactions:
        raise TransactionAborted(
            f"transaction {entry.txn} was aborted as stale by {key(newer.version)}"
        )
    if entry.unit is not None and entry.unit == newer.unit:
        raise UnitAlreadyPublished(f"{entry.unit} was published by {key(newer.version)}")
    own_removals = {*entry.rows_remove, *entry.shards_remove}
    if replaced := own_removals & {*newer.rows_remove, *newer.shards_remove}:
        raise CommitConflict(f"{min(replaced)} was replaced by {key(newer.version)}; run again")
