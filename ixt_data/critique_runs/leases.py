"""Leases: the worker of each unit, so many workers share a critique run and repeat nothing.

`_leases/<critic id>/<hash of the unit>.<term>.json` contains a unit's worker and when its lease
expires. A term is created if absent, so exactly one worker gets it, and it is never overwritten.
The worker renews it by writing `<hash>.<term>.<owner>.json`; `owner` is a random id of this lease.
Another worker takes over an expired lease by creating the next term. No worker writes another
worker's file. A worker stops if it sees a later term than its own, or a term that is not its own.
Clocks only decide which worker does the work; the log ensures that a unit is published once.
"""

import hashlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from ixt_data.console import format_count
from ixt_data.errors import ConfigError, IxtError
from ixt_data.storage import Storage, StoredFile, create_once

_log = logging.getLogger(__name__)

LEASES_PREFIX = "_leases"
LEASE_SECONDS = 60.0
"""Seconds from the last renewal until a lease expires, unless `IXT_LEASE_SECONDS` is set."""

REPORT_SECONDS = 60.0
"""Time between two reports of what a worker waits for."""

HEARTBEATS_PER_LEASE = 4
"""Renewals in that time."""


class LeaseHeld(Exception):
    """Another worker holds the lease of this unit, or took it over."""


class LeaseConflict(LeaseHeld):
    """Another worker acquired this unit at the same moment, so both follow the same order."""


@dataclass(frozen=True, slots=True)
class _LeaseState:
    """The latest term of a lease, as read from the store.

    Attributes:
        files: the files of the term, sorted: the term itself, and its renewals.
        term: its number, from 1.
        record: content of the term, with the time of expiry of its last renewal.
    """

    files: tuple[StoredFile, ...]
    term: int
    record: dict[str, Any]

    def is_alive(self, now: float) -> bool:
        """Return True if its holder is probably running at `now`, Unix seconds."""
        if self.record["expires"] <= now:
            return False
        # A crashed worker of this machine is known to be gone before its lease expires.
        return self.record["machine"] != machine_id() or is_running(
            self.record["pid"], self.record["started"]
        )


class Leases:
    """The leases of one critic's units.

    Args:
        storage: the store's storage.
        critic: the critic's id.
        clock: returns Unix seconds.

    Raises:
        ConfigError: `IXT_LEASE_SECONDS` is wrong.
    """

    def __init__(
        self, storage: Storage, critic: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.storage, self.folder, self.clock = storage, f"{LEASES_PREFIX}/{critic}", clock
        self.seconds = _lease_seconds()
        self._states: dict[str, _LeaseState] = {}
        self._next_report: float | None = None

    def refresh(self) -> None:
        """Read all leases: one list request, and one per lease that is new or renewed."""
        files: dict[tuple[str, int], list[StoredFile]] = {}
        latest: dict[str, int] = {}
        for file in self.storage.list(self.folder):
            if (parsed := _parse(file.key)) is not None:
                name, term, owner = parsed
                files.setdefault((name, term), []).append(file)
                # A suspended worker may leave a renewal of a term that was deleted.
                if not owner:
                    latest[name] = max(term, latest.get(name, 0))
        known, self._states = self._states, {}
        new: dict[str, tuple[int, tuple[StoredFile, ...]]] = {}
        for name, term in latest.items():
            ordered = tuple(sorted(files[name, term], key=lambda file: file.key))
            if name in known and known[name].files == ordered:
                self._states[name] = known[name]
            else:
                new[name] = term, ordered
        keys = [file.key for _, ordered in new.values() for file in ordered]
        contents = dict(zip(keys, self.storage.read_all(keys), strict=True))
        for name, (term, ordered) in new.items():
            texts = [contents[file.key] for file in ordered]
            if (record := _merge(_term_key(self.folder, name, term), ordered, texts)) is not None:
                self._states[name] = _LeaseState(ordered, term, record)

    def is_held(self, unit: str) -> bool:
        """Return whether another worker held a unit's lease at the last `refresh`."""
        state = self._states.get(lease_name(unit))
        return state is not None and state.is_alive(self.clock())

    def report_waiting(self, units: Iterable[str]) -> None:
        """Log after each minute of waiting which worker holds the first of some units."""
        now = time.monotonic()
        if self._next_report is None:
            # The end of every run with several workers is such a wait, of seconds.
            self._next_report = now + REPORT_SECONDS
        if now < self._next_report:
            return
        self._next_report = now + REPORT_SECONDS
        states = [self._states.get(lease_name(unit)) for unit in units]
        record = next((state.record for state in states if state is not None), None)
        if record is not None:
            _log.warning(
                "waiting for %s of other workers; process %d on %s holds one for %.0f s more, "
                "unless it renews its lease",
                format_count(len(states), "unit"),
                record["pid"],
                record["host"],
                max(0, record["expires"] - self.clock()),
            )

    def acquire(self, unit: str) -> "Lease":
        """Return the lease of a unit, for use in a `with` block.

        Raises:
            LeaseHeld: another worker holds it.
            LeaseConflict: another worker acquired it after the last `refresh`.
        """
        name = lease_name(unit)
        state = self._states.get(name)
        if state is not None and state.is_alive(self.clock()):
            raise LeaseHeld(unit)
        lease = Lease(self, name, state)
        if not create_once(self.storage, lease.key, lease.content):
            self.refresh()
            raise LeaseConflict(unit)
        return lease


class Lease:
    """The lease of one unit, renewed by a thread until another worker takes it over.

    Attributes:
        key: key of its term.
        content: bytes of its term; no other term has the same ones.
    """

    def __init__(self, leases: Leases, name: str, previous: _LeaseState | None) -> None:
        self._storage, self._seconds, self._clock = leases.storage, leases.seconds, leases.clock
        self._owner = uuid.uuid4().hex
        term = previous.term + 1 if previous else 1
        keys = [_term_key(leases.folder, name, n) for n in range(term + 1, 0, -1)]
        self._next, self.key, *earlier = keys
        renewals = [file.key for file in previous.files] if previous else []
        self._earlier = sorted({*earlier, *renewals})
        self._renewal = self.key.replace(".json", f".{self._owner}.json")
        self._is_renewed = False
        self.content = self.record()
        self._stop, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name=self.key, daemon=True)

    def record(self) -> bytes:
        """Return the content of a file of this lease, as renewed now."""
        pid = os.getpid()
        return orjson.dumps(
            {
                "owner": self._owner,
                "host": socket.gethostname(),
                "pid": pid,
                "started": _start_ticks(pid),
                "machine": machine_id(),
                "seconds": self._seconds,
                "expires": round(self._clock() + self._seconds, 3),
            }
        )

    def check(self) -> None:
        """Raise `LeaseHeld` if another worker took the unit over."""
        if self._lost.is_set():
            raise LeaseHeld(self.key)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.release()

    def release(self) -> None:
        """Delete the files of this lease and of earlier terms, unless it is lost."""
        # A lease that cannot be deleted expires.
        with suppress(IxtError, OSError):
            renewals = [self._renewal] if self._is_renewed else []
            keep_term = self._lost.is_set() or self.is_superseded()
            terms = [] if keep_term else [self.key, *self._earlier]
            self._storage.delete(*terms, *renewals)

    def is_superseded(self) -> bool:
        """Return True if another worker has taken the unit over.

        A later term can be deleted again, so the content of the own term is compared as well.
        """
        later, own = self._storage.read_all([self._next, self.key])
        return later is not None or own != self.content

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / HEARTBEATS_PER_LEASE):
            # While the storage is unreachable, no other worker can acquire the lease either.
            with suppress(IxtError, OSError):
                if self.is_superseded():
                    self._lost.set()
                    return
                self._is_renewed = True
                self._storage.replace(self._renewal, self.record())


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The worker of a unit, as the latest term of the unit's lease names it.

    Attributes:
        critic: the critic's id.
        name: of the lease, see `lease_name`.
        host, pid: of the worker.
        expires: Unix seconds.
        is_alive: whether the worker is probably running.
    """

    critic: str
    name: str
    host: str
    pid: int
    expires: float
    is_alive: bool


def lease_holders(storage: Storage, critics: Iterable[str]) -> Iterator[LeaseHolder]:
    """Yield the holders of the leases of some critics, by the critics' ids."""
    for critic in critics:
        leases = Leases(storage, critic)
        leases.refresh()
        for name, state in leases._states.items():
            record = state.record
            yield LeaseHolder(
                critic,
                name,
                record["host"],
                record["pid"],
                record["expires"],
                state.is_alive(leases.clock()),
            )


def lease_name(unit: str) -> str:
    """Return the name of a unit's lease."""
    return hashlib.blake2b(unit.encode(), digest_size=12).hexdigest()


def expired_leases(storage: Storage, before: float) -> dict[str, int]:
    """Return the files of leases that expired before a time (Unix seconds), with their bytes."""
    by_unit: dict[str, list[StoredFile]] = {}
    for file in storage.list(LEASES_PREFIX):
        by_unit.setdefault(file.key.partition(".")[0], []).append(file)
    expired: dict[str, int] = {}
    for files in by_unit.values():
        read = storage.read_all(file.key for file in files if _parse(file.key))
        seconds = [orjson.loads(data)["seconds"] for data in read if data is not None]
        if max(file.modified for file in files) + max(seconds, default=0) < before:
            expired |= {file.key: file.size for file in files}
    return expired


def _term_key(folder: str, name: str, term: int) -> str:
    return f"{folder}/{name}.{term:06d}.json"


def _parse(key: str) -> tuple[str, int, str] | None:
    """Return the unit's hash, the term, and a renewal's owner; None for a temporary file."""
    name, *parts = PurePosixPath(key).name.split(".")
    if not name or len(parts) not in (2, 3) or not parts[0].isdigit() or parts[-1] != "json":
        return None
    return name, int(parts[0]), parts[1] if len(parts) == 3 else ""


def _merge(
    term_key: str, files: Iterable[StoredFile], texts: Iterable[bytes | None]
) -> dict[str, Any] | None:
    """Return the record of a term with the expiry of its last renewal; None without a term."""
    files = list(files)
    pairs = zip(files, texts, strict=True)
    records = {file.key: orjson.loads(text) for file, text in pairs if text is not None}
    term = records.get(term_key)
    if term is None:
        return None
    own = {k: record for k, record in records.items() if record.get("owner") == term.get("owner")}
    # A clock that is ahead must not block the unit for longer than a lease lasts.
    renewed = max(file.modified for file in files if file.key in own)
    expires = max(record["expires"] for record in own.values())
    return {**term, "expires": min(expires, renewed + term["seconds"])}


@cache
def machine_id() -> str:
    """Return an id of this machine, its boot, and its namespace of process ids."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()


def is_running(pid: int, started: int | None) -> bool:
    """Return whether a process of this machine is running.

    Args:
        pid: its process id.
        started: its start in ticks since boot, None if unknown.
    """
    if started is not None:
        return _start_ticks(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _start_ticks(pid: int) -> int | None:
    """Return a process's start in ticks since boot; None if it is gone or unknown."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(rest[18])


def _lease_seconds() -> float:
    given = os.environ.get("IXT_LEASE_SECONDS") or LEASE_SECONDS
    try:
        if (seconds := float(given)) > 0:
            return seconds
    except ValueError:
        pass
    raise ConfigError(f"IXT_LEASE_SECONDS={given!r} must be a number of seconds above 0")
