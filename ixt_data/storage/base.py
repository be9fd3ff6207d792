"""What the log and the writers need of a place."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of the storage: its key, bytes, and time of change in Unix seconds."""

    key: str
    size: int
    modified: float


class Storage(Protocol):
    """A place for keys. All calls but `local` and `local_files` ask the place itself."""

    root: str

    def create(self, key: str, data: bytes) -> bool:
        """Durably creates `key` with all of `data`, or returns False if it is there already."""

    def replace(self, key: str, data: bytes) -> None:
        """Writes `key`, over an older one if need be: for hints and pins only."""

    def read(self, key: str) -> bytes:
        """All bytes of `key`. Raises FileNotFoundError."""

    def stream(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The bytes of `key` as they are read, and no more of them. Raises FileNotFoundError."""

    def read_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """`read` of many keys at once, in their order; None for those that are not there."""

    def exists(self, key: str) -> bool:
        """Whether `key` is there."""

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """All files whose key begins with the folder `prefix`, or all there are if it is empty."""

    def after(self, key: str) -> tuple[str, ...]:
        """The first few keys of the folder of `key` that come after it, in order."""

    def delete(self, *keys: str) -> None:
        """Removes keys; those that are gone already do not matter."""

    def publish(self, files: Mapping[str, Path]) -> None:
        """Durably brings finished local files to their keys."""

    def scratch(self, name: str) -> Path:
        """A new empty local folder from which `publish` is cheap."""

    def local(self, key: str) -> Path:
        """A local file with the bytes of `key`, perhaps a copy that was made before."""

    def local_files(self, keys: Iterable[str]) -> dict[str, Path]:
        """`local` of many keys at once, in their order."""

    def original(self, key: str) -> AbstractContextManager[Path]:
        """A local file with what the place itself holds now, while the block runs."""


def remove_scratch(folder: Path) -> None:
    """Removes a scratch folder and what is left in it."""
    shutil.rmtree(folder, ignore_errors=True)
