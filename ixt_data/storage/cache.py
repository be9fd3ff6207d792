"""Local copies of remote files.

Files of a store never change, so the cache trusts every copy under its final name. A copy gets
this name when it is complete. A full cache evicts the least recently used copies.
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

MIN_IDLE_SECONDS = 3600.0
"""Seconds after its last use before a copy may be evicted: another process may still read it."""


class FileCache:
    """The copies of one store's files, in a folder that all stores share.

    The folder is `IXT_CACHE`, by default `ixt` in the user's cache folder. `IXT_CACHE_GB`, 50 by
    default, limits its total size. Copies in use may exceed the limit.
    """

    def __init__(self, store: str, folder: Path | None = None, limit: int | None = None) -> None:
        """Open the cache of one store.

        Args:
            store: a string that identifies the store.
            folder: the folder of all stores.
            limit: bytes of the copies of all stores together.

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
        """Return the copy of a key; `download` creates a missing one.

        Raises:
            CorruptError: the key is a path outside of the cache.
        """
        parts = PurePosixPath(key).parts
        if key.startswith("/") or "\\" in key or ".." in parts:
            raise CorruptError(f"{key}: not a relative path inside of a store")
        path = self._own / key
        self._handed_out.add(path)
        try:
            # Many file systems do not store access times, so the time of change replaces them.
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
        """Delete the oldest copies above the limit; return the remaining bytes."""
        files = sorted(_files(self._all))
        used = sum(size for _, _, size in files)
        old = time.time() - MIN_IDLE_SECONDS
        for used_at, path, size in files:
            if used <= self._limit or used_at > old:
                break
            if path not in self._handed_out:
                path.unlink(missing_ok=True)
                used -= size
        return used


def _files(folder: Path) -> list[tuple[float, Path, int]]:
    files = []
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            files.append((stat.st_mtime, path, stat.st_size))
    return files


def cache_folder() -> Path:
    """Return the folder of the copies: `IXT_CACHE`, or the platform's cache folder."""
    if folder := os.environ.get("IXT_CACHE"):
        return Path(folder).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ixt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ixt"


def _limit() -> int:
    gigabytes = os.environ.get("IXT_CACHE_GB", "50")
    try:
        return int(float(gigabytes) * 1e9)
    except ValueError:
        raise ConfigError(f"IXT_CACHE_GB is {gigabytes!r}, not a number of gigabytes") from None
