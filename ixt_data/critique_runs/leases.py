"""Leases: which worker is at which unit, so that many share a critique run and do nothing twice.

`_leases/<critic id>/<hash of the unit>.<term>.json` says who is at a unit, and until when. A term
is created if absent, so one worker gets it, and renews it while it works. To take over from a
worker that is gone is to create the next term: nobody ever writes another's file, and whoever finds
a later term than its own stops. Clocks decide no more than who does the work: that a unit is
published once is the log's affair.
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

PLACE = "_leases"
SECONDS = 60.0
"""How long a lease outlives its last renewal, unless `IXT_LEASE_SECONDS` says otherwise."""

BEATS = 4
"""Renewals in that time."""


class LeaseHeld(Exception):
    """Another worker is at this unit, or has taken it over."""


class LeaseConflict(LeaseHeld):
    """Another worker took this unit in the same moment: they go through the list together."""


@dataclass(frozen=True, slots=True)
class _LeaseState:
    """The latest term of a lease, as it was read."""

    file: StoredFile
    term: int
    record: dict[str, Any]

    @property
    def alive(self) -> bool:
        """Whether its holder is likely to be at work."""
        if self.record["expires"] <= time.time():
            return False
        # A worker that died on this machine need not be waited for.
        return self.record["machine"] != machine() or is_running(
            self.record["pid"], self.record["started"]
        )


class Leases:
    """The leases of one critic's units.

    Args:
        storage: of the store.
        critic: the critic's id.
    """

    def __init__(self, storage: Storage, critic: str) -> None:
        self.storage, self.folder = storage, f"{PLACE}/{critic}"
        self.seconds = _seconds()
        self._found: dict[str, _LeaseState] = {}

    def look(self) -> None:
        """Learns who is at what: one request, and one for each lease that is new or renewed."""
        latest: dict[str, tuple[int, StoredFile]] = {}
        for file in self.storage.list(self.folder):
            if (parsed := _parse(file.key)) and parsed[1] > latest.get(parsed[0], (0,))[0]:
                latest[parsed[0]] = (parsed[1], file)
        known = {n: f for n, f in self._found.items() if n in latest and f.file == latest[n][1]}
        new = {name: found for name, found in latest.items() if name not in known}
        texts = self.storage.read_all([file.key for _, file in new.values()])
        self._found = known
        for (name, (term, file)), text in zip(new.items(), texts, strict=True):
            if text is not None:
                self._found[name] = _LeaseState(file, term, orjson.loads(text))

    def take(self, unit: str) -> "Lease":
        """The lease of a unit, to be used in a `with`.

        Raises:
            Busy: another worker has it; it is a `LeaseConflict` if that was not known since `look`.
        """
        name = lease_name(unit)
        found = self._found.get(name)
        if found is not None and found.alive:
            raise LeaseHeld(unit)
        lease = Lease(self, name, found.term + 1 if found else 1)
        if not self.storage.create(lease.key, lease.record()):
            self.look()
            raise LeaseConflict(unit)
        return lease


class Lease:
    """One unit that is ours, until another worker takes it over; renewed by a thread."""

    def __init__(self, leases: Leases, name: str, term: int) -> None:
        self._storage, self._seconds = leases.storage, leases.seconds
        keys = [f"{leases.folder}/{name}.{n:06d}.json" for n in range(term + 1, 0, -1)]
        self._next, self.key, *_ = keys
        self._keys = keys[1:]
        self._stop, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name=self.key, daemon=True)

    def record(self) -> bytes:
        """The bytes of its file, if it is renewed now."""
        pid = os.getpid()
        return orjson.dumps(
            {
                "host": socket.gethostname(),
                "pid": pid,
                "started": _started(pid),
                "machine": machine(),
                "expires": round(time.time() + self._seconds, 3),
            }
        )

    def check(self) -> None:
        """Raises `LeaseHeld` if another worker has taken the unit over."""
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
            # What cannot be removed expires.
            with suppress(IxtError, OSError):
                self._storage.delete(*self._keys)

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / BEATS):
            # While the place cannot be reached nobody else can take the lease there either.
            with suppress(IxtError, OSError):
                if self._storage.exists(self._next) or not self._storage.exists(self.key):
                    self._lost.set()
                    return
                self._storage.replace(self.key, self.record())


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who is at a unit of a critic, as the latest term of its lease says.

    Attributes:
        critic: the critic's id.
        name: of the lease, see `lease_name`.
        host, pid: of the worker.
        expires: Unix seconds.
        alive: whether it is likely to be at work.
    """

    critic: str
    name: str
    host: str
    pid: int
    expires: float
    alive: bool


def holders(storage: Storage, critics: Iterable[str]) -> Iterator[LeaseHolder]:
    """Who is at the units of some critics, by their ids."""
    for critic in critics:
        leases = Leases(storage, critic)
        leases.look()
        for name, found in leases._found.items():
            record = found.record
            yield LeaseHolder(
                critic, name, record["host"], record["pid"], record["expires"], found.alive
            )


def lease_name(unit: str) -> str:
    """What the lease of a unit is called."""
    return hashlib.blake2b(unit.encode(), digest_size=12).hexdigest()


def left_over(storage: Storage, before: float) -> dict[str, int]:
    """Files of leases that expired before a time (Unix seconds), with their bytes."""
    by_unit: dict[str, list[StoredFile]] = {}
    for file in storage.list(PLACE):
        by_unit.setdefault(file.key.partition(".")[0], []).append(file)
    found: dict[str, int] = {}
    for files in by_unit.values():
        read = storage.read_all(file.key for file in files if _parse(file.key))
        ends = [orjson.loads(data)["expires"] for data in read if data is not None]
        if max([*ends, *(file.modified for file in files)]) < before:
            found |= {file.key: file.size for file in files}
    return found


def _parse(key: str) -> tuple[str, int] | None:
    """The unit's hash and the term in a key, None for a file that is being written."""
    name, _, rest = PurePosixPath(key).name.partition(".")
    term, _, kind = rest.partition(".")
    return (name, int(term)) if name and term.isdigit() and kind == "json" else None


@cache
def machine() -> str:
    """What tells this machine, since it was started, and its own process ids from others."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()


def is_running(pid: int, started: int | None) -> bool:
    """Whether a process of this machine, which began at a time, is still there."""
    if started is not None:
        return _started(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None if it is gone or not told."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(rest[18])


def _seconds() -> float:
    given = os.environ.get("IXT_LEASE_SECONDS") or SECONDS
    try:
        if (seconds := float(given)) > 0:
            return seconds
    except ValueError:
        pass
    raise ConfigError(f"IXT_LEASE_SECONDS is {given!r}, not a number of seconds above 0")
