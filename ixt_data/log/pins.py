"""Pins: names that keep a version from being let go. A tag is a pin that does not expire.

`_pins/<name>.json` holds the version and, for pins of running jobs, when it expires. A reader first
writes its pin and then reads the log again: whatever order garbage collection runs in, either it
sees the pin, or the reader sees that the version was let go.

Garbage collection judges the pins of jobs by the storage's own clock: by when a pin was last
written there, and how long it then holds. Clocks of other machines may be wrong.
"""

import errno
import logging
import operator
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import orjson

from ixt_data.errors import CorruptError, IxtError, SnapshotError
from ixt_data.log.commit_log import Log
from ixt_data.storage import Storage, StoredFile

LIFETIME = timedelta(hours=1)
"""How long the pin of a job outlives its last heartbeat."""

CLOCK = "_pins/_clock"

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pin:
    """A version that is kept: until `expires` (UTC), or for good.

    Attributes:
        lifetime: how long it holds after it was written, None for one that says only when it ends.
        written: when that was, by the storage's clock.
    """

    name: str
    version: int
    expires: datetime | None = None
    lifetime: timedelta | None = None
    written: datetime | None = None

    @property
    def is_tag(self) -> bool:
        """Whether it does not expire."""
        return self.expires is None

    def alive(self, now: datetime) -> bool:
        """Whether it holds its version at a time, by the storage's clock."""
        if self.expires is None:
            return True
        if self.lifetime is None or self.written is None:
            return self.expires > now
        return self.written + self.lifetime > now

    def encode(self) -> bytes:
        """The bytes of its file."""
        expires = self.expires and self.expires.isoformat(timespec="seconds")
        record: dict[str, object] = {"version": self.version, "expires": expires}
        if self.lifetime is not None:
            record["lifetime_seconds"] = self.lifetime.total_seconds()
        return orjson.dumps(record)


class Pins:
    """The pins of one store."""

    def __init__(self, storage: Storage, log: Log) -> None:
        self._storage, self._log = storage, log

    def all(self) -> dict[str, Pin]:
        """Every pin by name, also those that have expired.

        Raises:
            CorruptError: one is not what was written.
        """
        files = [file for file in self._storage.list("_pins") if file.key.endswith(".json")]
        found = zip(files, self._storage.read_all(file.key for file in files), strict=True)
        pins = [_parse(file, data) for file, data in found if data is not None]
        return {pin.name: pin for pin in sorted(pins, key=lambda pin: pin.name)}

    def now(self) -> datetime:
        """The time by the storage's clock, which a file tells that is written for this."""
        self._storage.replace(CLOCK, b"")
        written = (file.modified for file in self._storage.list("_pins") if file.key == CLOCK)
        return datetime.fromtimestamp(max(written, default=time.time()), UTC)

    def alive(self) -> list[Pin]:
        """The pins that hold their version now."""
        now = self.now()
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
        """The heartbeat of a job: its pin expires later.

        Raises:
            SnapshotError: it had expired, and its version was let go.
        """
        renewed = _until(pin.name, pin.version, lifetime)
        if not self._storage.exists(_key(pin.name)) and self.create(renewed):
            return renewed
        self._storage.replace(_key(pin.name), renewed.encode())
        return renewed

    def release(self, name: str) -> None:
        """Removes a pin."""
        self._storage.delete(_key(name))

    @contextmanager
    def held(self, version: int, job: str, lifetime: timedelta = LIFETIME) -> Iterator[Pin]:
        """Keeps a version while the block runs, with a heartbeat from a thread.

        A process that dies leaves a pin that expires by itself. A store that cannot be written to
        needs a tag on the version, which keeps it just as well.

        Raises:
            SnapshotError: the version was let go, or cannot be kept.
        """
        pin = _until(f"{job}-{uuid.uuid4().hex[:12]}", version, lifetime)
        try:
            self.create(pin)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            if not any(p.is_tag and p.version == version for p in self.all().values()):
                raise SnapshotError(
                    f"version {version} cannot be pinned: {error.strerror}. Name it where the "
                    f"store can be written to: ixt tag NAME --at {version}"
                ) from None
            yield pin
            return
        stop = threading.Event()

        def beat() -> None:
            pause = lifetime.total_seconds() / 4
            while not stop.wait(pause):
                pause = lifetime.total_seconds() / 4
                try:
                    self.renew(pin, lifetime)
                except SnapshotError as error:
                    _log.error("pin %s expired unrenewed: %s; reading may fail", pin.name, error)
                    return
                except (IxtError, OSError) as error:
                    # The next one may come through, well before it expires.
                    pause /= 8
                    _log.warning("pin %s is not renewed yet: %s", pin.name, error)

        thread = threading.Thread(target=beat, name=pin.name, daemon=True)
        thread.start()
        try:
            yield pin
        finally:
            stop.set()
            thread.join()
            self.release(pin.name)


def _until(name: str, version: int, lifetime: timedelta) -> Pin:
    return Pin(name, version, datetime.now(UTC) + lifetime, lifetime)


def _parse(file: StoredFile, data: bytes) -> Pin:
    name = PurePosixPath(file.key).stem
    try:
        record = orjson.loads(data)
        expires = record["expires"] and datetime.fromisoformat(record["expires"])
        seconds = record.get("lifetime_seconds")
        lifetime = None if seconds is None else timedelta(seconds=seconds)
        version = operator.index(record["version"])
    except (ValueError, KeyError, TypeError):
        raise CorruptError(
            f"{file.key}: torn or changed: not a pin. Restore it from a backup, or remove it if "
            "nobody needs the version that it kept"
        ) from None
    return Pin(name, version, expires, lifetime, datetime.fromtimestamp(file.modified, UTC))


def _key(name: str) -> str:
    return f"_pins/{name}.json"
