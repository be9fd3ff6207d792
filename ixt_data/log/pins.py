"""Pins: names that protect a version from garbage collection. A tag is a pin that never expires.

`_pins/<name>.json` contains the version and, for the pin of a running job, the time when it
expires. A reader writes its pin first and then reads the log again. In any order of events, either
garbage collection sees the pin, or the reader sees that the version has expired.

Garbage collection compares the pins of jobs with the storage's own clock: a pin is valid for its
lifetime after the storage's time of its last write. Clocks of other machines may be wrong.
"""

import errno
import logging
import operator
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import orjson

from ixt_data.errors import CorruptError, IxtError, SnapshotError, StoreError, WriteStateUnknown
from ixt_data.log.commit_log import Log
from ixt_data.storage import Storage, StoredFile, create_once

LIFETIME = timedelta(hours=1)
"""Time between the last heartbeat of a job and the expiry of its pin."""

PROBE_PREFIX = "_pins/_probe-"
"""Prefix of files that exist only while a list request is checked."""

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pin:
    """A protected version, until `expires` or permanently.

    Attributes:
        name: name of the tag, or of the job.
        version: the protected version.
        expires: time of expiry, UTC; None for a tag.
        lifetime: validity after the last write; None if only `expires` is known.
        written: time of the last write by the storage's clock, UTC.
    """

    name: str
    version: int
    expires: datetime | None = None
    lifetime: timedelta | None = None
    written: datetime | None = None

    @property
    def is_tag(self) -> bool:
        """True if the pin never expires."""
        return self.expires is None

    def is_valid(self, now: datetime) -> bool:
        """Return True if the pin protects its version at `now` by the storage's clock."""
        if self.expires is None:
            return True
        if self.lifetime is None or self.written is None:
            return self.expires > now
        return self.written + self.lifetime > now

    def encode(self) -> bytes:
        """Encode the pin as the bytes of its file."""
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
        """Read every pin by name, including expired ones.

        Raises:
            CorruptError: a pin differs from what was written.
        """
        return self._read(self._storage.list("_pins"))

    def _read(self, listed: Iterable[StoredFile]) -> dict[str, Pin]:
        files = [file for file in listed if file.key.endswith(".json")]
        contents = zip(files, self._storage.read_all(file.key for file in files), strict=True)
        pins = [_parse(file, data) for file, data in contents if data is not None]
        return {pin.name: pin for pin in sorted(pins, key=lambda pin: pin.name)}

    def now(self) -> datetime:
        """Return the time of the storage's clock; see `read_with_time`."""
        return self._list_with_time()[1]

    def read_with_time(self) -> tuple[dict[str, Pin], datetime]:
        """Read every pin by name, and the time of the storage's clock.

        Raises:
            StoreError: the list of pins does not contain a file that was just created, so it may
                also omit pins.
            CorruptError: a pin differs from what was written.
        """
        listed, now = self._list_with_time()
        return self._read(listed), now

    def _list_with_time(self) -> tuple[list[StoredFile], datetime]:
        probe = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
        try:
            self._storage.replace(probe, b"")
            listed = list(self._storage.list("_pins"))
        finally:
            # `ixt gc` deletes a remaining file.
            with suppress(IxtError, OSError):
                self._storage.delete(probe)
        times = [file.modified for file in listed if file.key == probe]
        if not times:
            raise StoreError(
                f"{self._storage.root}/_pins cannot be listed: the list of {len(listed)} files "
                f"omits {probe}, which was just created. Check the storage, and run it again"
            )
        return listed, datetime.fromtimestamp(times[0], UTC)

    def valid(self) -> list[Pin]:
        """Return the pins that protect their version now; see `read_with_time`."""
        pins, now = self.read_with_time()
        return [pin for pin in pins.values() if pin.is_valid(now)]

    def create(self, pin: Pin) -> bool:
        """Write a new pin; return False if the name is in use.

        Raises:
            SnapshotError: the version has expired; the pin is removed again.
            WriteStateUnknown: the pin may exist.
        """
        if not create_once(self._storage, _key(pin.name), pin.encode()):
            return False
        try:
            if self._is_available(pin):
                return True
            raise SnapshotError(f"version {pin.version} was expired by garbage collection")
        except (IxtError, OSError) as error:
            try:
                self.release(pin.name)
            except (IxtError, OSError) as second:
                raise WriteStateUnknown(
                    f"pin {pin.name!r} was created, and cannot be checked or removed: {error}; "
                    f"{second}. Run the command again, or remove it: ixt untag {pin.name}"
                ) from error
            raise

    def _is_available(self, pin: Pin) -> bool:
        if pin.version >= self._log.snapshot().min_version:
            return True
        # Older versions are certain to exist only if another pin protected them before this one.
        return any(p.version == pin.version and p.name != pin.name for p in self.valid())

    def renew(self, pin: Pin, lifetime: timedelta = LIFETIME) -> Pin:
        """Extend a pin: the heartbeat of a job.

        Raises:
            SnapshotError: the pin had expired, and garbage collection expired its version.
        """
        renewed = _until(pin.name, pin.version, lifetime)
        if not self._storage.exists(_key(pin.name)) and self.create(renewed):
            return renewed
        self._storage.replace(_key(pin.name), renewed.encode())
        return renewed

    def release(self, name: str) -> None:
        """Remove a pin.

        Raises:
            WriteStateUnknown: the pin may exist or not.
        """
        try:
            self._storage.delete(_key(name))
        except (IxtError, OSError) as error:
            # A lost response: the storage may have deleted it.
            try:
                is_left = self._storage.exists(_key(name))
            except (IxtError, OSError):
                raise WriteStateUnknown(
                    f"{self._storage.root}/{_key(name)}: deleting it failed ({error}), and the "
                    "storage cannot be read. `ixt tag` lists the tags"
                ) from error
            if is_left:
                raise

    @contextmanager
    def hold(self, version: int, job: str, lifetime: timedelta = LIFETIME) -> Iterator[Pin]:
        """Pin a version while the block runs; a thread sends the heartbeats.

        The pin of a killed process expires by itself. A read-only store needs a tag on the version
        instead of a pin.

        Raises:
            SnapshotError: the version has expired, or the store is read-only and has no tag on it.
        """
        pin = _until(f"{job}-{uuid.uuid4().hex[:12]}", version, lifetime)
        try:
            self.create(pin)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            if not any(p.is_tag and p.version == version for p in self.all().values()):
                raise SnapshotError(
                    f"version {version} cannot be pinned: {error.strerror}. Tag it on a machine "
                    f"that can write to the store: ixt tag NAME --at {version}"
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
                    _log.error("pin %s expired: %s; later reads may fail", pin.name, error)
                    return
                except (IxtError, OSError) as error:
                    # Retry early: several attempts fit into the lifetime.
                    pause /= 8
                    _log.warning("pin %s was not renewed, retrying: %s", pin.name, error)

        thread = threading.Thread(target=beat, name=pin.name, daemon=True)
        thread.start()
        try:
            yield pin
        finally:
            stop.set()
            thread.join()
            try:
                self.release(pin.name)
            except (IxtError, OSError) as error:
                _log.warning("pin %s was not removed, and expires later: %s", pin.name, error)


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
            f"{file.key}: truncated or changed: not a pin. Restore it from a backup, or delete it "
            "if no job needs the version that it protected"
        ) from None
    return Pin(name, version, expires, lifetime, datetime.fromtimestamp(file.modified, UTC))


def _key(name: str) -> str:
    return f"_pins/{name}.json"
