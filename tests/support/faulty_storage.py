"""A local storage whose n-th call fails, as the SQLite project tests its files.

Faults:
    EIO, ESTALE, ENOSPC, EACCES: the call raises this error and does nothing.
    lost: the call does its work and then raises.
    listing: a list request ends with an error after half of its files.
    outage: like `lost`, and every later call raises.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from ixt_data.storage.base import StoredFile
from ixt_data.storage.local import LocalStorage

ERRORS = ("EIO", "ESTALE", "ENOSPC", "EACCES")
FAULTS = (*ERRORS, "lost", "listing", "outage")


class FaultyStorage(LocalStorage):
    """A storage whose call number `n` fails, counted from 1; 0 means that no call fails.

    Attributes:
        calls: calls so far; for the fault `listing` only list requests.
    """

    def __init__(self, root: str | Path, fault: str, n: int = 0) -> None:
        super().__init__(root)
        self._inner = LocalStorage(root)
        self._fault, self._n = fault, n
        self.calls = 0

    def _call(self, perform: Callable[[], Any]) -> Any:
        if self._fault == "listing":
            return perform()
        self.calls += 1
        if self.calls > self._n > 0 and self._fault == "outage":
            raise failure("EIO")
        if self.calls != self._n:
            return perform()
        if self._fault in ("lost", "outage"):
            perform()
            raise failure("EIO")
        raise failure(self._fault)

    def create(self, key: str, data: bytes) -> bool:
        return self._call(lambda: self._inner.create(key, data))

    def replace(self, key: str, data: bytes) -> None:
        self._call(lambda: self._inner.replace(key, data))

    def read(self, key: str) -> bytes:
        return self._call(lambda: self._inner.read(key))

    def stream(self, key: str) -> Any:
        return self._call(lambda: self._inner.stream(key))

    def read_all(self, keys: Iterable[str]) -> list[bytes | None]:
        return self._call(lambda: self._inner.read_all(keys))

    def exists(self, key: str) -> bool:
        return self._call(lambda: self._inner.exists(key))

    def list(self, prefix: str) -> Iterator[StoredFile]:
        if self._fault != "listing":
            yield from self._call(lambda: [*self._inner.list(prefix)])
            return
        self.calls += 1
        files = [*self._inner.list(prefix)]
        yield from islice(files, len(files) // 2 if self.calls == self._n else None)
        if self.calls == self._n:
            raise failure("EIO")

    def keys_after(self, key: str) -> tuple[str, ...]:
        return self._call(lambda: self._inner.keys_after(key))

    def delete(self, *keys: str) -> None:
        self._call(lambda: self._inner.delete(*keys))

    def publish(self, files: Mapping[str, Path]) -> None:
        self._call(lambda: self._inner.publish(files))

    def scratch(self, name: str) -> Path:
        return self._call(lambda: self._inner.scratch(name))

    def local(self, key: str) -> AbstractContextManager[Path]:
        return self._call(lambda: self._inner.local(key))

    @contextmanager
    def copies(self) -> Iterator["FaultyCopies"]:
        with self._inner.copies() as copies:
            yield FaultyCopies(copies, self._call)

    def original(self, key: str) -> AbstractContextManager[Path]:
        return self._call(lambda: self._inner.original(key))


class FaultyCopies:
    def __init__(self, copies: Any, call: Callable[[Callable[[], Any]], Any]) -> None:
        self.folder = copies.folder
        self._copies, self._call = copies, call

    def get(self, keys: Iterable[str]) -> dict[str, Path]:
        return self._call(lambda: self._copies.get(keys))


def failure(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))
