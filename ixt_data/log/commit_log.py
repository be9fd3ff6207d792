"""The commit log: one entry per version, each created if absent, each with its own checksum.

`_log/<version, 20 digits>.json` holds two lines: the entry as JSON, and the SHA-256 of that line.
Creating the entry is the one step that makes shards and rows visible, both at once. `_log/_last`
is a hint where to begin to look; it may be old, and nothing depends on it.
"""

import errno
import hashlib
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import orjson

from ixt_data.errors import (
    Aborted,
    AlreadyDone,
    CommitError,
    CorruptError,
    SnapshotError,
    StoreError,
)
from ixt_data.log import checkpoint
from ixt_data.log.snapshot import FORMAT, Entry, Snapshot
from ixt_data.storage import Storage

Hook = Callable[[Entry], None]
LAST = "_log/_last"
_ENTRY = re.compile(r"_log/\d{20}\.json")
REFUSALS = 12
PATIENCE = 4
"""Lost races for a version after which a writer looks how far behind it is."""
AT_ONCE = 64
"""Entries that are asked for at a time, at most."""


def key(version: int) -> str:
    """Where the entry of a version is."""
    return f"_log/{version:020d}.json"


def encode(entry: Entry) -> bytes:
    """The bytes of an entry's file."""
    line = orjson.dumps(entry.to_json(), option=orjson.OPT_SORT_KEYS)
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def decode(data: bytes, name: str) -> Entry:
    """The entry in an entry's file.

    Raises:
        CorruptError: the checksum does not match; `name` is in the message.
        StoreError: it is as it was written, by a newer version of ixt.
    """
    line, _, rest = data.partition(b"\n")
    if hashlib.sha256(line).hexdigest().encode() != rest.strip():
        raise CorruptError(f"{name}: torn or changed: its checksum does not match")
    record = orjson.loads(line)
    # Only entries of later formats say which one they have.
    if (found := record.pop("format", FORMAT)) != FORMAT:
        raise StoreError(f"{name}: has format {found}, {_NEWER}")
    try:
        return Entry.from_json(record)
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{name}: says what is not known here ({error}); {_NEWER}") from None


_NEWER = f"this version of ixt reads format {FORMAT}. Upgrade ixt"


def parse(version: int, data: bytes) -> Entry:
    """The entry of a version, from the bytes of its file.

    Raises:
        CorruptError: it is not what was written.
    """
    entry = decode(data, key(version))
    if entry.version != version:
        raise CorruptError(f"{key(version)}: says that it is version {entry.version}")
    return entry


class Log:
    """The versions of one store, read and written.

    Finding the newest version and committing read only entries that are newer than what is known,
    and each of them once; the whole state is built when it is asked for, from the nearest
    checkpoint.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._version: int | None = None
        self._others = 0
        self._state = Snapshot()
        self._recent: dict[int, Entry] = {}

    def read(self, version: int) -> Entry:
        """One entry.

        Raises:
            FileNotFoundError: there is no such version.
            CorruptError: it is not what was written.
        """
        return parse(version, self.storage.read(key(version)))

    def entries(self, first: int, last: int) -> Iterator[Entry]:
        """The entries of some versions, both ends included.

        Raises:
            FileNotFoundError: one is not there.
            CorruptError: one is not what was written.
        """
        for start in range(first, last + 1, AT_ONCE):
            versions = range(start, min(start + AT_ONCE, last + 1))
            known = {v: self._recent[v] for v in versions if v in self._recent}
            asked = [v for v in versions if v not in known]
            found = dict(zip(asked, self.storage.read_all(map(key, asked)), strict=True))
            for version in versions:
                if version in known:
                    yield known[version]
                elif (data := found[version]) is not None:
                    yield parse(version, data)
                else:
                    raise FileNotFoundError(errno.ENOENT, "no such version", key(version))

    def newest(self) -> int:
        """The newest version.

        Raises:
            CorruptError: an entry is not what was written, or is missing among others.
        """
        opened = self._version is None
        newest = self._look(sys.maxsize)
        return self._checked(newest) if opened else newest

    def _checked(self, newest: int) -> int:
        """The newest version, after a look for entries beyond it: a lost one would hide them.

        To go on without them would let go of what was acknowledged, and give its files to garbage
        collection. Asked once, when a log is opened.
        """
        after = [name for name in self.storage.after(key(newest)) if _ENTRY.fullmatch(name)]
        # Meanwhile others may have committed.
        if after and newest == (newest := self._look(sys.maxsize)):
            raise CorruptError(f"{key(newest + 1)}: missing, but {after[0]} is there. {_LOST}")
        return newest

    def _look(self, most: int) -> int:
        """The newest version, or that after `most` newer entries; each is read and remembered."""
        if self._version is None:
            self._version = self._hint()
        first = self._version
        while (found := self._version - first) < most:
            # One request tells that an entry is there and what is in it. Where there are many
            # they are asked for together, and no more in vain than a third of those found.
            size = min(max(1, found // 3), AT_ONCE, most - found)
            versions = range(self._version + 1, self._version + 1 + size)
            for version, data in zip(
                versions, self.storage.read_all(map(key, versions)), strict=True
            ):
                if data is None:
                    return self._version
                self._remember(parse(version, data))
                self._version = version
        return self._version

    def _remember(self, entry: Entry) -> None:
        self._recent[entry.version] = entry
        if len(self._recent) > 2 * checkpoint.EVERY:
            del self._recent[next(iter(self._recent))]

    def _hint(self) -> int:
        hint = self.hint()
        if hint and not self.storage.exists(key(hint)):
            raise CorruptError(f"{key(hint)}: missing, but {LAST} says that it was there. {_LOST}")
        return hint

    def hint(self) -> int:
        """The version that `_last` names, 0 if it names none."""
        try:
            return max(0, int(orjson.loads(self.storage.read(LAST))["version"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The state at a version, the newest by default.

        Raises:
            SnapshotError: there is no such version.
        """
        newest = self.newest()
        if version is None:
            version = newest
        if not 0 <= version <= newest:
            raise SnapshotError(f"version {version} does not exist; the newest is {newest}")
        known = self._state if self._state.version <= version else Snapshot()
        if version - known.version > checkpoint.EVERY:
            known = checkpoint.load(self.storage, version, known.version) or known
        if version > known.version:
            state = known.copy()
            for entry in self.entries(known.version + 1, version):
                state.apply(entry)
            known = state
        if version == newest:
            self._state = known
        return known

    def commit(self, entry: Entry, base: int, on_newer: Hook | None = None) -> int:
        """Makes `entry` the next version; returns the version at which it landed.

        Newer entries decide a conflict: the own transaction there means that an earlier attempt
        landed; the same unit means that another worker was first.

        Args:
            entry: its `version` and `created` are set here.
            base: the version that the writer began from.
            on_newer: called with each entry that landed since `base`; may change `entry` or raise.

        Raises:
            AlreadyDone: the unit is published.
            Aborted: the transaction was fenced.
            CommitError: a file that it replaces is gone.
        """
        checked, conflicts, refused = base, 0, 0
        if self._version is None:
            self._version = base
        began = max(base, self._version)
        # As many as landed during our last transaction have likely landed again. If there are
        # more, creating fails, which costs no more than to look whether there are.
        newest = max(base, self._look(self._others))
        while True:
            for newer in self.entries(checked + 1, newest):
                if newer.txn == entry.txn:
                    return newer.version
                _check(entry, newer)
                if on_newer is not None:
                    on_newer(newer)
            checked = newest
            entry.version = newest + 1
            entry.created = datetime.now(UTC).isoformat(timespec="milliseconds")
            data = encode(entry)
            if self.storage.create(key(entry.version), data):
                self._others = newest - began
                self._landed(entry.version, data)
                return entry.version
            conflicts += 1
            newest = self._look(1) if conflicts < PATIENCE else self.newest()
            refused = refused + 1 if newest == checked else 0
            _wait(refused, entry)

    def _landed(self, version: int, data: bytes) -> None:
        self._version = version
        # As it is read: the caller may go on changing its own.
        self._remember(decode(data, key(version)))
        if version % checkpoint.EVERY == 0:
            self._write_checkpoint(version)

    def _write_checkpoint(self, version: int) -> None:
        checkpoint.write(self.storage, self.snapshot(version))
        self.storage.replace(LAST, orjson.dumps({"version": version}))


_LOST = (
    "Restore it from a backup. Where there is none, remove what is newer, and _log/_last, to go on "
    "from the version before"
)


def _wait(refused: int, entry: Entry) -> None:
    """Waits where a place says that a version is there, and then does not have it."""
    if refused > REFUSALS:
        raise CommitError(f"{key(entry.version)} can be neither created nor read; try again later")
    if refused:
        time.sleep(random.uniform(0, min(2.0, 0.01 * 2**refused)))


def _check(entry: Entry, newer: Entry) -> None:
    if entry.txn in newer.aborted_transactions:
        raise Aborted(f"transaction {entry.txn} was given up as stale by {key(newer.version)}")
    if entry.unit is not None and entry.unit == newer.unit:
        raise AlreadyDone(f"{entry.unit} was published by {key(newer.version)}")
    gone = {*entry.rows_remove, *entry.shards_remove} & {*newer.rows_remove, *newer.shards_remove}
    if gone:
        raise CommitError(f"{min(gone)} was replaced by {key(newer.version)}; begin again")
