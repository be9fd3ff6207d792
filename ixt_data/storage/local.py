"""A store in a folder: durable by fsync, created once by hard links."""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from ixt_data.storage.base import StoredFile

T = TypeVar("T")


class LocalStorage:
    """A folder of a POSIX file system with hard links."""

    def __init__(self, root: str | Path) -> None:
        self.path = Path(root).absolute()
        self.root = str(self.path)

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`: temporary file, fsync, hard link, fsync of the folder."""
        target = self.path / key
        if _exists(target):
            return False
        temporary = self._write_temporary(target, data)
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            # NFS repeats a request without a response. The repetition finds the first one's link.
            if temporary.stat().st_nlink == 1:
                return False
        finally:
            # `ixt gc` deletes a remaining file.
            with suppress(OSError):
                temporary.unlink()
        fsync(target.parent)
        return True

    def replace(self, key: str, data: bytes) -> None:
        """See `Storage.replace`."""
        target = self.path / key
        self._write_temporary(target, data).replace(target)
        fsync(target.parent)

    def _write_temporary(self, target: Path, data: bytes) -> Path:
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        with _in_folder(target.parent, lambda: temporary.open("wb")) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                temporary.unlink()
                error.filename = str(target)
                raise
        return temporary

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        return (self.path / key).read_bytes()

    def stream(self, key: str) -> BinaryIO:
        """See `Storage.stream`."""
        return (self.path / key).open("rb")

    def read_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """See `Storage.read_all`."""
        return [self._read_if_there(key) for key in keys]

    def _read_if_there(self, key: str) -> bytes | None:
        try:
            return self.read(key)
        except FileNotFoundError:
            return None

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return _exists(self.path / key)

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """See `Storage.list`. Files that are deleted in the meantime are omitted."""
        yield from self._list(self.path / prefix)

    def _list(self, folder: Path) -> Iterator[StoredFile]:
        # os.walk and Path.rglob would omit folders that cannot be read.
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        folders = []
        for entry in ordered:
            if entry.is_dir():
                folders.append(entry)
                continue
            path = Path(entry.path)
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            yield StoredFile(path.relative_to(self.path).as_posix(), stat.st_size, stat.st_mtime)
        for entry in folders:
            if not entry.is_symlink():
                yield from self._list(Path(entry.path))

    def keys_after(self, key: str) -> tuple[str, ...]:
        """See `Storage.keys_after`."""
        folder, _, own = key.rpartition("/")
        try:
            names = [entry.name for entry in os.scandir(self.path / folder)]
        except FileNotFoundError:
            return ()
        return tuple(f"{folder}/{name}" for name in sorted(n for n in names if n > own)[:2])

    def delete(self, *keys: str) -> None:
        """See `Storage.delete`. Deletes empty folders as well."""
        for key in keys:
            path = self.path / key
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.path:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break

    def publish(self, files: Mapping[str, Path]) -> None:
        """See `Storage.publish`: fsync, rename, fsync of each folder up to the root."""
        for path in files.values():
            fsync(path)
        folders: set[Path] = set()
        for key, path in files.items():
            target = self.path / key
            _in_folder(target.parent, partial(path.replace, target))
            folders.update(f for f in target.parents if f.is_relative_to(self.path))
        for folder in folders:
            fsync(folder)

    def scratch(self, name: str) -> Path:
        """See `Storage.scratch`."""
        parent = self.path / "_tmp"
        return Path(_in_folder(parent, lambda: tempfile.mkdtemp(prefix=f"{name}-", dir=parent)))

    def local(self, key: str) -> AbstractContextManager[Path]:
        """See `Storage.local`: the file itself."""
        return nullcontext(self.path / key)

    def copies(self) -> AbstractContextManager["LocalCopies"]:
        """See `Storage.copies`: the files themselves."""
        return nullcontext(LocalCopies(self.path))

    def discard_copy(self, key: str) -> None:
        """See `Storage.discard_copy`: nothing is cached."""

    def original(self, key: str) -> AbstractContextManager[Path]:
        """See `Storage.original`: the file itself."""
        return nullcontext(self.path / key)


class LocalCopies:
    """The files of a local storage, see `Copies`."""

    folder = None

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, keys: Iterable[str]) -> dict[str, Path]:
        """See `Copies.get`."""
        return {key: self._root / key for key in keys}


def _exists(path: Path) -> bool:
    # Newer versions of Path.exists return False for every error.
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _in_folder(folder: Path, create: Callable[[], T]) -> T:
    """Call `create` after creating a folder, again if another process deletes the folder."""
    for _ in range(100):
        # Another process may delete the empty folder between the two calls, or while mkdir checks
        # an existing folder. mkdir then reports a file of that name.
        with suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            return create()
    folder.mkdir(parents=True, exist_ok=True)
    return create()


def is_unicode(path: str | Path) -> bool:
    """Return whether a path is text; on Linux a name may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_partial_files: set[Path] = set()


def remove_partial_files() -> None:
    """Delete what this process has not finished writing, before it exits without ending threads."""
    for unfinished in list(_partial_files):
        unfinished.unlink(missing_ok=True)


def atomic_write(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Write a file so that readers see it complete or not at all.

    Args:
        path: the file to create or replace.
        write: called with a temporary path next to `path`, named after this process.
        durable: fsync file and folder; caches do not need it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _partial_files.add(partial)
    try:
        write(partial)
        if durable:
            fsync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        _partial_files.discard(partial)
    if durable:
        fsync(path.parent)
