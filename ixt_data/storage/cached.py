"""A storage elsewhere, whose files are read from this machine's cache."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ixt_data.storage.cache import CacheUse, FileCache

CONNECTIONS = 16
"""Requests at a time."""


class CachedStorage(ABC):
    """Base class of storages elsewhere: local copies by `_download`, in this machine's cache.

    Attributes:
        root: the address, as `s3://bucket/prefix`.
    """

    _prefix: str

    def __init__(self, root: str, cache: FileCache) -> None:
        self.root, self._cache = root, cache

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    @abstractmethod
    def _download(self, key: str, target: Path) -> None:
        """Write the bytes of a key to a local file. Raises FileNotFoundError."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """See `Storage.read`."""

    def read_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """See `Storage.read_all`: at most `CONNECTIONS` at a time."""
        keys = list(keys)
        if len(keys) == 1:
            return [self._read_optional(keys[0])]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(pool.map(self._read_optional, keys))

    def _read_optional(self, key: str) -> bytes | None:
        try:
            return self.read(key)
        except FileNotFoundError:
            return None

    def scratch(self, name: str) -> Path:
        """See `Storage.scratch`."""
        return Path(tempfile.mkdtemp(prefix=f"ixt-{name}-"))

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """See `Storage.local`: from this machine's cache. Raises FileNotFoundError."""
        with self._cache.use() as use:
            yield use.get(key, partial(self._download, key))

    @contextmanager
    def copies(self) -> Iterator["CachedCopies"]:
        """See `Storage.copies`: in this machine's cache, downloaded in parallel."""
        with self._cache.use() as use:
            yield CachedCopies(use, self._download)

    def discard_copy(self, key: str) -> None:
        """See `Storage.discard_copy`."""
        self._cache.discard(key)

    @contextmanager
    def original(self, key: str) -> Iterator[Path]:
        """See `Storage.original`: a new download. Raises FileNotFoundError."""
        with tempfile.TemporaryDirectory(prefix="ixt-") as folder:
            path = Path(folder, PurePosixPath(key).name)
            self._download(key, path)
            yield path

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key


class CachedCopies:
    """Copies of objects in this machine's cache, see `Copies`."""

    def __init__(self, use: CacheUse, download: Callable[[str, Path], None]) -> None:
        self.folder = use.folder
        self._use, self._download = use, download

    def get(self, keys: Iterable[str]) -> dict[str, Path]:
        """See `Copies.get`."""
        keys = list(keys)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            paths = list(pool.map(self._copy, keys))
        return dict(zip(keys, paths, strict=True))

    def _copy(self, key: str) -> Path:
        return self._use.get(key, partial(self._download, key))
