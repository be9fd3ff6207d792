"""Targets of exports: they appear complete or not at all, and replace nothing implicitly."""

import glob
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.storage import (
    BUCKETS,
    atomic_write,
    delete_remote,
    exists_below,
    fsync,
    is_address,
    is_unicode,
    read_remote,
    upload,
)
from ixt_data.store import is_safe_name, part_of_store, part_of_store_at

EXPORT_MARKER = "ixt-export.json"
"""File in every exported folder: the export and its files, which a later export may delete."""


_SUFFIX = ".ixt-export"


@contextmanager
def new_file(target: str | Path, overwrite: bool) -> Iterator[Path]:
    """Provide a temporary path; rename it to `target` if the block ends without an error.

    Raises:
        StoreError: see `check_target`.
    """
    if is_address(target):
        with _scratch() as folder:
            address = _check_address(str(target), overwrite)
            local = folder / address.rpartition("/")[2]
            yield local
            upload(local, address)
        return
    path = check_target(target, overwrite)
    if path.is_dir():
        raise StoreError(f"{target}: is a folder; name a file")
    temporary = _temporary_path(path.parent, path.name)
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    except OSError as error:
        _name_path(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: str | Path, overwrite: bool, about: Mapping[str, Any]) -> Iterator[Path]:
    """Provide an empty folder; its content becomes that of `target` if the block has no error.

    A new target appears by one rename. In an existing one, which may be a mount, the files of the
    earlier export are deleted and the new ones moved in; a later run repairs an interrupted one.

    Args:
        target: a folder that does not exist, is empty, or comes from an earlier export.
        overwrite: replace the files of an earlier export. Other files stay.
        about: description of the export, written into the folder.

    Raises:
        StoreError: see `check_target`; or a file that no export wrote has the name of a new file.
    """
    if is_address(target):
        with _scratch() as folder:
            address = _check_address(str(target), overwrite)
            yield folder
            _upload_folder(folder, address, about)
        return
    path = check_target(target, overwrite)
    if path.is_file():
        raise StoreError(f"{target}: is a file; name a folder")
    temporary = _temporary_path(*((path, "new") if path.is_dir() else (path.parent, path.name)))
    temporary.mkdir()
    try:
        yield temporary
        files = [file for file in temporary.rglob("*") if file.is_symlink() or file.is_file()]
        names = [file.relative_to(temporary).as_posix() for file in files]
        for file in temporary.rglob("*"):
            if not file.is_symlink():
                fsync(file)
        if path.is_dir():
            _move_in(temporary, path, names, about)
        else:
            _write_marker(temporary, about, names)
            temporary.replace(path)
        fsync(path.parent)
    except OSError as error:
        _name_path(error, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ixt-export-") as folder:
        yield Path(folder)


def _check_address(target: str, overwrite: bool) -> str:
    """Check that an export may write to an address; return it.

    Raises:
        StoreError: it belongs to a store, is taken, or is not of a service that can be written.
    """
    address = target.rstrip("/")
    if not address.startswith(tuple(f"{scheme}://" for scheme in BUCKETS)):
        raise StoreError(f"{target}: an export goes to a path, s3://, gs:// or az://")
    if address.startswith("s3://") and (owner := part_of_store_at(address)) is not None:
        raise StoreError(f"{target}: is part of the store {owner}; choose an address outside of it")
    keys = exists_below(address)
    if keys and not overwrite:
        raise StoreError(f"{target}: already exists; choose another address, or add --overwrite")
    if keys and keys != [""] and EXPORT_MARKER not in keys:
        raise StoreError(f"{target}: was not created by `ixt export`, so it is not overwritten")
    return address


def _upload_folder(folder: Path, address: str, about: Mapping[str, Any]) -> None:
    """Write the files of an export below an address; delete those of an earlier one."""
    present = exists_below(address)
    old = _names_in(read_remote(f"{address}/{EXPORT_MARKER}")) if EXPORT_MARKER in present else []
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    names = [file.relative_to(folder).as_posix() for file in files]
    if taken := [name for name in names if name in present and name not in old]:
        raise StoreError(f"{address}/{taken[0]}: no export wrote this file; move it away")
    # An interrupted run leaves a marker that permits the next one.
    _write_marker(folder, about, [*old, *names])
    upload(folder / EXPORT_MARKER, f"{address}/{EXPORT_MARKER}")
    for file, name in zip(files, names, strict=True):
        upload(file, f"{address}/{name}")
    for name in old:
        if name not in names:
            delete_remote(f"{address}/{name}")
    _write_marker(folder, about, names)
    upload(folder / EXPORT_MARKER, f"{address}/{EXPORT_MARKER}")


def _name_path(error: OSError, path: Path) -> None:
    """Add the target to an error of a write, which names no file."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


def _move_in(new: Path, path: Path, names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Replace the files of an earlier export in `path` by those in `new`."""
    old = set(_exported_files(path))
    for name in names:
        if (taken := _taken_by_user(path, name, old)) is not None:
            raise StoreError(f"{taken}: no export wrote this file; move it away")
    # An interrupted run leaves a marker that permits the next one.
    _write_marker(path, about, [*old, *names])
    for name in old:
        (path / name).unlink(missing_ok=True)
        for folder in (path / name).parents:
            if folder == path or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(path / name)
    _write_marker(path, about, names)


def _taken_by_user(path: Path, name: str, old: Set[str]) -> Path | None:
    """Return what stands where a new file, or a folder of it, has to be; None if nothing does."""
    if name not in old and os.path.lexists(path / name):
        return path / name
    folders = [folder for folder in Path(name).parents if folder.as_posix() not in (".", *old)]
    return next(
        (path / f for f in folders if (path / f).exists() and not (path / f).is_dir()), None
    )


def _write_marker(folder: Path, about: Mapping[str, Any], names: Sequence[str]) -> None:
    content = orjson.dumps({**about, "files": list(dict.fromkeys(names))}) + b"\n"
    atomic_write(folder / EXPORT_MARKER, lambda path: path.write_bytes(content))


def _exported_files(folder: Path) -> list[str]:
    """Return the files that an export wrote into a folder; none without a marker."""
    try:
        return _names_in((folder / EXPORT_MARKER).read_bytes())
    except OSError:
        return []


def _names_in(marker: bytes) -> list[str]:
    try:
        names = orjson.loads(marker)["files"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []
    return [name for name in names if is_safe_name(name)]


def check_target(target: str | Path, overwrite: bool) -> Path:
    """Check that an export or a query may write to `target`; return its path.

    Raises:
        StoreError: the path belongs to a store, exists without `overwrite`, or is not an export.
    """
    if not is_unicode(target):
        raise StoreError(f"{target}: the path is not UTF-8, and DuckDB opens only UTF-8 paths")
    path = Path(target).resolve()
    if (owner := part_of_store(path)) is not None:
        raise StoreError(f"{target}: is part of the store {owner}; choose a path outside of it")
    is_filled = path.is_dir() and any(not _is_temporary(file) for file in path.iterdir())
    exists = path.is_file() or is_filled
    if exists and not overwrite:
        raise StoreError(f"{target}: already exists; choose another path, or add --overwrite")
    if is_filled and not (path / EXPORT_MARKER).exists():
        raise StoreError(f"{target}: was not created by `ixt export`, so it is not overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _temporary_path(folder: Path, name: str) -> Path:
    """Return a path for the output of this process; delete those of killed processes."""
    prefix = f".{name}.{socket.gethostname()}-"
    for left in folder.glob(f"{glob.escape(prefix)}*{_SUFFIX}"):
        number = left.name.removeprefix(prefix).split("-")[0]
        if number.isdecimal() and not _is_running(int(number)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return folder / f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # A process of another user, or not a process id at all.
        return True
    return True


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)
