"""Pins: names that keep a version from being let go. A tag is a pin that does not expire.

`_pins/<name>.json` holds the version and, for pins of running jobs, when it expires. A reader first
writes its pin and then reads the log again: whatever order garbage collection runs in, either it
sees the pin, or the reader sees that the version was let go.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import orjson

from ixt_data.errors import SnapshotError
from ixt_data.log import Log
from ixt_data.storage import Storage

LIFETIME = timedelta(hours=1)
"""How long the pin of a job outlives its last heartbeat."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A version that is kept: until `expires` (UTC), or for good."""

    name: str
    version: int
    expires: datetime | None = None

    @property
    def is_tag(self) -> bool:
        """Whether it does not expire."""
        return self.expires is None

    def alive(self, now: datetime) -> bool:
        """Whether it holds its version at a time."""
        return self.expires is None or self.expires > now

    def encode(self) -> bytes:
        """The bytes of its file."""
        expires = self.expires and self.expires.isoformat(timespec="seconds")
        return orjson.dumps({"version": self.version, "expires": expires})


class Pins:
    """The pins of one store."""

    def __init__(self, storage: Storage, log: Log) -> None:
        self._storage, self._log = storage, log

    def all(self) -> dict[str, Pin]:
        """Every pin by name, also those that have expired."""
        pins = {}
        for file in self._storage.list("_pins"):
            name = PurePosixPath(file.key)
            if name.suffix != ".json":
                continue
            try:
                record = orjson.loads(self._storage.read(file.key))
            except FileNotFoundError:
                continue
            expires = record["expires"] and datetime.fromisoformat(record["expires"])
            pins[name.stem] = Pin(name.stem, record["version"], expires)
        return dict(sorted(pins.items()))

    def alive(self) -> list[Pin]:
        """The pins that hold their version now."""
        now = datetime.now(UTC)
        return [pin for pin in self.all().values() if pin.alive(now)]

    def create(self, pin: Pin) -> bool:
        """Writes a new pin; False if the name is taken.

        Raises:
            SnapshotError: the version was let go; the pin is not kept then.
        """
        if not self._storage.create(_key(pin.name), pin.encode()):
            return False
        if not self._kept(pin):
            self.release(pin.name)
            raise SnapshotError(f"version {pin.version} was let go by garbage collection")
        return True

    def _kept(self, pin: Pin) -> bool:
        if pin.version >= self._log.snapshot().min_version:
            return True
        # Below it only what another pin held before this one is still there for certain.
        return any(p.version == pin.version and p.name != pin.name for p in self.alive())

    def renew(self, pin: Pin, lifetime: timedelta = LIFETIME) -> Pin:
        """The heartbeat of a job: its pin expires later."""
        renewed = Pin(pin.name, pin.version, datetime.now(UTC) + lifetime)
        self._storage.replace(_key(pin.name), renewed.encode())
        return renewed

    def release(self, name: str) -> None:
        """Removes a pin."""
        self._storage.delete(_key(name))

    @contextmanager
    def held(self, version: int, job: str, lifetime: timedelta = LIFETIME) -> Iterator[Pin]:
        """Keeps a version while the block runs, with a heartbeat from a thread.

        A process that dies leaves a pin that expires by itself.

        Raises:
            SnapshotError: the version was let go.
        """
        pin = Pin(f"{job}-{uuid.uuid4().hex[:12]}", version, datetime.now(UTC) + lifetime)
        self.create(pin)
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(lifetime.total_seconds() / 4):
                self.renew(pin, lifetime)

        thread = threading.Thread(target=beat, name=pin.name, daemon=True)
        thread.start()
        try:
            yield pin
        finally:
            stop.set()
            thread.join()
            self.release(pin.name)


def _key(name: str) -> str:
    return f"_pins/{name}.json"
