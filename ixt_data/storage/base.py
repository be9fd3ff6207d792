"""The protocol of a storage, which the log and the writers require."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a storage: its key, size in bytes, and time of change in Unix seconds."""

    key: str
    size: int
    modified: float


class Storage(Protocol):
    """Keys and their bytes. Only `local` and `local_files` may return cached copies."""

    root: str

    def create(self, key: str, data: bytes) -> bool:
        """Create `key` durably with all of `data`; return False if the key exists."""

    def replace(self, key: str, data: bytes) -> None:
        """Write `key`, replacing an older value. Only hints and pins use this."""

    def read(self, key: str) -> bytes:
        """Read all bytes of `key`. Raises FileNotFoundError."""

    def stream(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Open `key` for reading; fetch only the bytes that are read. Raises FileNotFoundError."""

    def read_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """Read many keys concurrently, in their order; None for keys that do not exist."""

    def exists(self, key: str) -> bool:
        """Return True if `key` exists."""

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """List all files below the folder `prefix`; an empty prefix lists everything."""

    def keys_after(self, key: str) -> tuple[str, ...]:
        """Return the next few keys after `key` in its folder, in order."""

    def delete(self, *keys: str) -> None:
        """Delete keys; ignore keys that do not exist."""

    def publish(self, files: Mapping[str, Path]) -> None:
        """Upload complete local files to their keys, durably."""

    def scratch(self, name: str) -> Path:
        """Create an empty local folder for files to `publish`."""

    def local(self, key: str) -> Path:
        """Return a local file with the bytes of `key`, perhaps a cached copy."""

    def local_files(self, keys: Iterable[str]) -> dict[str, Path]:
        """Return `local` of many keys, in their order."""

    def original(self, key: str) -> AbstractContextManager[Path]:
        """Provide a local file with the storage's current bytes, without a cache, in a `with`."""


def remove_scratch(folder: Path) -> None:
    """Delete a scratch folder and its files."""
    shutil.rmtree(folder, ignore_errors=True)
