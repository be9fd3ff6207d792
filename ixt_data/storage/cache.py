"""Copies on this machine of files that live elsewhere.

Files of a store never change, so a copy that stands under its name is trusted; copies get their
name when they are whole. What was not asked for longest goes first when the cache is full.
"""

import hashlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ixt_data.errors import ConfigError, CorruptError
from ixt_data.storage.local import fsync

QUIET = 3600.0
"""Seconds for which a copy stays after it was handed out, since another process may read it."""


class FileCache:
    """The copies of one store's files, in a folder that all stores share.

    The folder is `IXT_CACHE`, by default `ixt` in the user's cache folder; all that is in it is
    bounded by `IXT_CACHE_GB`, 50 by default, more only where what is in use needs more.
    """

    def __init__(self, store: str, folder: Path | None = None, limit: int | None = None) -> None:
        """The cache of one store.

        Args:
            store: what tells it from other stores.
            folder: of all stores.
            limit: bytes, of all stores together.

        Raises:
            ConfigError: `IXT_CACHE_GB` is not a number.
        """
        self._all = folder or cache_folder()
        self._own = self._all / hashlib.sha256(store.encode()).hexdigest()[:16]
        self._limit = _limit() if limit is None else limit
        self._used: int | None = None
        self._handed_out: set[Path] = set()
        self._lock = threading.Lock()

    def get(self, key: str, download: Callable[[Path], None]) -> Path:
        """The copy of a key, made by `download` if there is none.

        Raises:
            CorruptError: the key leads out of the cache.
        """
        parts = PurePosixPath(key).parts
        if key.startswith("/") or "\\" in key or ".." in parts:
            raise CorruptError(f"{key}: not a path inside of a store")
        path = self._own / key
        self._handed_out.add(path)
        try:
            # Times of access are often not kept, so the time of change stands in for them.
            os.utime(path)
        except FileNotFoundError:
            self._fill(path, download)
        return path

    def _fill(self, path: Path, download: Callable[[Path], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            download(temporary)
            fsync(temporary)
            size = temporary.stat().st_size
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        with self._lock:
            self._used = None if self._used is None else self._used + size
            if self._used is None or self._used > self._limit:
                self._used = self._evict()

    def _evict(self) -> int:
        """Deletes the oldest copies above the limit; returns the bytes that are left."""
        files = sorted(_files(self._all))
        used = sum(size for _, _, size in files)
        old = time.time() - QUIET
        for used_at, path, size in files:
            if used <= self._limit or used_at > old:
                break
            if path not in self._handed_out:
                path.unlink(missing_ok=True)
                used -= size
        return used


def _files(folder: Path) -> list[tuple[float, Path, int]]:
    found = []
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found.append((stat.st_mtime, path, stat.st_size))
    return found


def cache_folder() -> Path:
    """Where copies are kept: `IXT_CACHE`, or the folder that the platform has for this."""
    if chosen := os.environ.get("IXT_CACHE"):
        return Path(chosen).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ixt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ixt"


def _limit() -> int:
    given = os.environ.get("IXT_CACHE_GB", "50")
    try:
        return int(float(given) * 1e9)
    except ValueError:
        raise ConfigError(f"IXT_CACHE_GB is {given!r}, not a number of gigabytes") from None
