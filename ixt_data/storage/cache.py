"""Local copies of remote files, shared by all processes of a machine.

Files of a store never change, so the cache trusts every copy under its final name. A copy gets
this name when it is complete. A full cache evicts the least recently used copies.

A `CacheUse` downloads files into its own folder, which it has locked, and has a hard link there to
each copy that it returns. So a copy in use has more than one link, and is not evicted. The next
eviction deletes the links of a crashed process, because its lock is free. The file `.bytes`
contains the total size of all copies. Its lock protects the starts of uses, and evictions.
"""

import fcntl
import hashlib
import itertools
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ixt_data.errors import ConfigError, CorruptError
from ixt_data.storage.local import fsync

DEFAULT_BYTES = 50_000_000_000
"""Bytes of all copies on a machine, unless `IXT_CACHE_BYTES` is set."""

EVICT_TO = 0.9
"""Share of the limit that an eviction leaves, because each one lists all copies."""

_USES = "_uses"
_log = logging.getLogger(__name__)


class FileCache:
    """The copies of one store's files, in a folder that all stores and processes share.

    The folder is `IXT_CACHE`, by default `ixt` in the user's cache folder. `IXT_CACHE_BYTES`, 50 GB
    by default, limits the bytes of all copies. Only copies in use can exceed the limit.
    """

    def __init__(self, store: str, folder: Path | None = None, limit: int | None = None) -> None:
        """Open the cache of one store.

        Args:
            store: a string that identifies the store.
            folder: the folder of all stores.
            limit: bytes of the copies of all stores together.

        Raises:
            ConfigError: `IXT_CACHE_BYTES` is not a number.
        """
        self._all = folder or cache_folder()
        self._own = self._all / hashlib.sha256(store.encode()).hexdigest()[:16]
        self._limit = _limit() if limit is None else limit

    def use(self) -> "CacheUse":
        """Start a use of copies; they remain until the end of its `with` block."""
        return CacheUse(self, self._all / _USES)

    def path(self, key: str) -> Path:
        """Return the path of the copy of a key.

        Raises:
            CorruptError: the key is a path outside of the cache.
        """
        parts = PurePosixPath(key).parts
        if key.startswith("/") or "\\" in key or ".." in parts:
            raise CorruptError(f"{key}: not a relative path inside of a store")
        return self._own / key

    def discard(self, key: str) -> None:
        """Delete the copy of a key, for example because it differs from the file; uses keep it."""
        self.path(key).unlink(missing_ok=True)

    def admit(self, file: Path, copy: Path) -> None:
        """Link a complete file to its final name, and evict others if the cache is too large."""
        with self.locked() as total:
            copy.parent.mkdir(parents=True, exist_ok=True)
            # Another process may have downloaded the same file in the meantime.
            with suppress(FileExistsError):
                copy.hardlink_to(file)
            try:
                used = int(total.read()) + file.stat().st_size
            except ValueError:
                used = self._limit + 1
            if used > self._limit:
                used = self._evict()
            total.seek(0)
            total.truncate()
            total.write(str(used).encode())

    @contextmanager
    def locked(self) -> Iterator[BinaryIO]:
        """Lock all changes of the cache; provide the file with the total size."""
        self._all.mkdir(parents=True, exist_ok=True)
        with open(self._all / ".bytes", "a+b") as file:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file

    def _evict(self) -> int:
        """Delete the oldest copies above the limit that are not in use; return remaining bytes."""
        _remove_dead_uses(self._all / _USES)
        files = _files(self._all)
        sizes = {stat.st_ino: stat.st_size for _, stat in files}
        used = sum(sizes.values())
        if used <= self._limit:
            return used
        for path, stat in sorted(files, key=lambda item: item[1].st_mtime):
            if used <= EVICT_TO * self._limit:
                break
            if stat.st_nlink == 1 and not path.is_relative_to(self._all / _USES):
                path.unlink(missing_ok=True)
                used -= stat.st_size
        if used > self._limit:
            _log.warning(
                "the copies in use in %s have %d bytes, more than IXT_CACHE_BYTES=%d",
                self._all,
                used,
                self._limit,
            )
        return used


class CacheUse:
    """A use of copies. Each one remains until the end of the `with` block, or of the process.

    Attributes:
        folder: the folder of its links.
    """

    def __init__(self, cache: FileCache, uses: Path) -> None:
        self._cache, self.folder = cache, uses / uuid.uuid4().hex
        self._numbers = itertools.count()

    def __enter__(self) -> "CacheUse":
        with self._cache.locked():
            self.folder.mkdir(parents=True)
            self._lock = _lock_path(self.folder).open("xb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the use."""
        _remove_use(self.folder)
        self._lock.close()

    def get(self, key: str, download: Callable[[Path], None]) -> Path:
        """Return a link to the copy of a key; `download` creates a missing copy.

        Raises:
            CorruptError: the key is a path outside of the cache.
        """
        copy = self._cache.path(key)
        link = self.folder / str(next(self._numbers)) / copy.name
        link.parent.mkdir()
        try:
            link.hardlink_to(copy)
            # Many file systems do not store access times, so the time of change replaces them.
            os.utime(link)
        except FileNotFoundError:
            self._fill(copy, link, download)
        return link

    def _fill(self, copy: Path, link: Path, download: Callable[[Path], None]) -> None:
        try:
            download(link)
            fsync(link)
        except BaseException:
            link.unlink(missing_ok=True)
            raise
        self._cache.admit(link, copy)


def _lock_path(use: Path) -> Path:
    return use.with_name(f"{use.name}.lock")


def _remove_use(folder: Path) -> None:
    # The lock last: another process may only remove links whose lock is free.
    shutil.rmtree(folder, ignore_errors=True)
    _lock_path(folder).unlink(missing_ok=True)


def _remove_dead_uses(uses: Path) -> None:
    """Delete the links of crashed processes."""
    for lock in uses.glob("*.lock"):
        with suppress(FileNotFoundError, BlockingIOError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_use(lock.with_suffix(""))


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Return all copies and links; other processes may delete some at the same time."""
    files = []
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names if name != ".bytes"):
            with suppress(FileNotFoundError):
                files.append((path, path.stat()))
    return files


def cache_folder() -> Path:
    """Return the folder of the copies: `IXT_CACHE`, or the platform's cache folder."""
    if folder := os.environ.get("IXT_CACHE"):
        return Path(folder).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ixt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ixt"


def _limit() -> int:
    given = os.environ.get("IXT_CACHE_BYTES") or DEFAULT_BYTES
    try:
        return int(given)
    except ValueError:
        raise ConfigError(f"IXT_CACHE_BYTES is {given!r}, not a number of bytes") from None
