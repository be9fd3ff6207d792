"""Leases: the worker of each unit, so many workers share a critique run and repeat nothing.

`_leases/<critic id>/<hash of the unit>.<term>.json` contains a unit's worker and when its lease
expires. A term is created if absent, so exactly one worker gets it. That worker renews it while it
works. Another worker takes over an expired lease by creating the next term. No worker writes
another worker's file, and a worker that sees a later term than its own stops. Clocks only decide
which worker does the work; the log ensures that a unit is published once.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import orjson

from ixt_data.errors import ConfigError, IxtError
from ixt_data.storage import Storage, StoredFile

LEASES_PREFIX = "_leases"
LEASE_SECONDS = 60.0
"""Seconds from the last renewal until a lease expires, unless `IXT_LEASE_SECONDS` is set."""

HEARTBEATS_PER_LEASE = 4
"""Renewals in that time."""


class LeaseHeld(Exception):
    """Another worker holds the lease of this unit, or took it over."""


class LeaseConflict(LeaseHeld):
    """Another worker acquired this unit at the same moment, so both follow the same order."""


@dataclass(frozen=True, slots=True)
class _LeaseState:
    """The latest term of a lease, as read from the store."""

    file: StoredFile
    term: int
    record: dict[str, Any]

    @property
    def is_alive(self) -> bool:
        """True if its holder is probably running."""
        if self.record["expires"] <= time.time():
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

    Raises:
        ConfigError: `IXT_LEASE_SECONDS` is wrong.
    """

    def __init__(self, storage: Storage, critic: str) -> None:
        self.storage, self.folder = storage, f"{LEASES_PREFIX}/{critic}"
        self.seconds = _lease_seconds()
        self._states: dict[str, _LeaseState] = {}

    def refresh(self) -> None:
        """Read all leases: one list request, and one per lease that is new or renewed."""
        latest: dict[str, tuple[int, StoredFile]] = {}
        for file in self.storage.list(self.folder):
            if (parsed := _parse(file.key)) and parsed[1] > latest.get(parsed[0], (0,))[0]:
                latest[parsed[0]] = (parsed[1], file)
        known = {n: f for n, f in self._states.items() if n in latest and f.file == latest[n][1]}
        new = {name: entry for name, entry in latest.items() if name not in known}
        texts = self.storage.read_all([file.key for _, file in new.values()])
        self._states = known
        for (name, (term, file)), text in zip(new.items(), texts, strict=True):
            if text is not None:
                self._states[name] = _LeaseState(file, term, orjson.loads(text))

    def is_held(self, unit: str) -> bool:
        """Return whether another worker held a unit's lease at the last `refresh`."""
        state = self._states.get(lease_name(unit))
        return state is not None and state.is_alive

    def acquire(self, unit: str) -> "Lease":
        """Return the lease of a unit, for use in a `with` block.

        Raises:
            LeaseHeld: another worker holds it.
            LeaseConflict: another worker acquired it after the last `refresh`.
        """
        name = lease_name(unit)
        state = self._states.get(name)
        if state is not None and state.is_alive:
            raise LeaseHeld(unit)
        lease = Lease(self, name, state.term + 1 if state else 1)
        if not self.storage.create(lease.key, lease.record()):
            self.refresh()
            raise LeaseConflict(unit)
        return lease


class Lease:
    """The lease of one unit, renewed by a thread until another worker takes it over."""

    def __init__(self, leases: Leases, name: str, term: int) -> None:
        self._storage, self._seconds = leases.storage, leases.seconds
        keys = [f"{leases.folder}/{name}.{n:06d}.json" for n in range(term + 1, 0, -1)]
        self._next, self.key, *_ = keys
        self._keys = keys[1:]
        self._stop, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name=self.key, daemon=True)

    def record(self) -> bytes:
        """Return the content of its file, as renewed now."""
        pid = os.getpid()
        return orjson.dumps(
            {
                "host": socket.gethostname(),
                "pid": pid,
                "started": _start_ticks(pid),
                "machine": machine_id(),
                "expires": round(time.time() + self._seconds, 3),
            }
        )

    def check(self) -> None:
        """Raise `LeaseHeld` if another worker took the unit over."""
        if self._lost.is_set():
            raise LeaseHeld(self.key)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if not self._lost.is_set():
            # A lease that cannot be deleted expires.
            with suppress(IxtError, OSError):
                self._storage.delete(*self._keys)

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / HEARTBEATS_PER_LEASE):
            # While the storage is unreachable, no other worker can acquire the lease either.
            with suppress(IxtError, OSError):
                if self._storage.exists(self._next) or not self._storage.exists(self.key):
                    self._lost.set()
                    return
                self._storage.replace(self.key, self.record())


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
                critic, name, record["host"], record["pid"], record["expires"], state.is_alive
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
        expiries = [orjson.loads(data)["expires"] for data in read if data is not None]
        if max([*expiries, *(file.modified for file in files)]) < before:
            expired |= {file.key: file.size for file in files}
    return expired


def _parse(key: str) -> tuple[str, int] | None:
    """Return the unit's hash and the term in a key, None for a temporary file."""
    name, _, rest = PurePosixPath(key).name.partition(".")
    term, _, kind = rest.partition(".")
    return (name, int(term)) if name and term.isdigit() and kind == "json" else None


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
