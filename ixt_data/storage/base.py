"""The protocol of a storage, which the log and the writers require."""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ixt_data.errors import IxtError, WriteStateUnknown

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a storage: its key, size in bytes, and time of change in Unix seconds."""

    key: str
    size: int
    modified: float


class Copies(Protocol):
    """Local files with the bytes of keys. They remain until the end of a `with`."""

    @property
    def folder(self) -> Path | None:
        """The folder that has the copies and nothing else; None if the storage is local itself."""

    def get(self, keys: Iterable[str]) -> dict[str, Path]:
        """Return a local file for each key, in their order.

        Raises:
            FileNotFoundError: a key does not exist; a local storage does not check it.
        """


class Storage(Protocol):
    """Keys and their bytes. Only `local` and `copies` may provide cached copies."""

    root: str

    def create(self, key: str, data: bytes) -> bool:
        """Create `key` durably with all of `data`; return False if the key exists.

        An error may also follow a write that was performed; see `create_once`.
        """

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
        """List all files below the folder `prefix`; an empty prefix lists everything.

        A folder that does not exist is empty. Raises every other error: a partial list would let
        garbage collection delete files in use.
        """

    def keys_after(self, key: str) -> tuple[str, ...]:
        """Return the next few keys after `key` in its folder, in order."""

    def delete(self, *keys: str) -> None:
        """Delete keys; ignore keys that do not exist."""

    def publish(self, files: Mapping[str, Path]) -> None:
        """Upload complete local files to their keys, durably."""

    def scratch(self, name: str) -> Path:
        """Create an empty local folder for files to `publish`."""

    def local(self, key: str) -> AbstractContextManager[Path]:
        """Provide a local file with the bytes of `key`, perhaps a cached copy, in a `with`."""

    def copies(self) -> AbstractContextManager["Copies"]:
        """Provide local files on demand, in a `with`."""

    def discard_copy(self, key: str) -> None:
        """Delete a cached copy of `key`, if there is one."""

    def original(self, key: str) -> AbstractContextManager[Path]:
        """Provide a local file with the storage's current bytes, without a cache, in a `with`."""


def create_once(storage: Storage, key: str, data: bytes) -> bool:
    """Create a key as `Storage.create`; after an error, read the key back to find the outcome.

    Args:
        storage: the storage.
        key: the key.
        data: bytes that identify the writer, or that are the same for all writers.

    Returns:
        True if the key contains `data`, False if it contains other bytes.

    Raises:
        WriteStateUnknown: the key cannot be read back, or the request may still arrive.
    """
    try:
        return storage.create(key, data)
    except (IxtError, OSError) as error:
        try:
            (present,) = storage.read_all([key])
        except (IxtError, OSError) as second:
            raise WriteStateUnknown(
                f"{storage.root}/{key}: creating it failed ({error}), and it cannot be read back "
                f"({second}). The storage may have created it"
            ) from error
        if present is None:
            raise
        return present == data


def remove_scratch(folder: Path) -> None:
    """Delete a scratch folder and its files; log a warning if that fails."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        _log.warning("%s was not deleted completely; `ixt gc` deletes it later", folder)
