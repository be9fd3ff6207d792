"""Where an export goes: it appears whole or not at all, and replaces nothing unasked."""

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.storage import fsync
from ixt_data.store import part_of_store

EXPORT_MARKER = "ixt-export.json"
"""In every folder that an export has made: what it holds, and the sign that it may be replaced."""


@contextmanager
def new_file(target: str | Path, overwrite: bool) -> Iterator[Path]:
    """A path to write to, which becomes `target` when the block ends without an error.

    Raises:
        StoreError: see `check`.
    """
    path = check(target, overwrite)
    if path.is_dir():
        raise StoreError(f"{target}: is a folder; name a file")
    temporary = _beside(path)
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: str | Path, overwrite: bool, about: Mapping[str, Any]) -> Iterator[Path]:
    """An empty folder, which becomes `target` when the block ends without an error.

    Args:
        target: a folder that is not there, is empty, or was made by an export.
        overwrite: whether an earlier export may be replaced.
        about: what the export holds, left in the folder.

    Raises:
        StoreError: see `check`.
    """
    path = check(target, overwrite)
    if path.is_file():
        raise StoreError(f"{target}: is a file; name a folder")
    temporary, old = _beside(path), _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        (temporary / EXPORT_MARKER).write_bytes(orjson.dumps(dict(about)) + b"\n")
        for file in temporary.rglob("*"):
            if not file.is_symlink():
                fsync(file)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check(target: str | Path, overwrite: bool) -> Path:
    """The place of an export, if one may be made there.

    Raises:
        StoreError: it is part of a store, or there is something already that is not an earlier
            export or that may not be overwritten.
    """
    if "://" in str(target):
        raise StoreError(f"{target}: exports go to this machine; copy them from there")
    path = Path(target).resolve()
    if (owner := part_of_store(path)) is not None:
        raise StoreError(f"{target}: is part of the store {owner}; name a place outside of it")
    present = path.is_file() or (path.is_dir() and any(path.iterdir()))
    if present and not overwrite:
        raise StoreError(f"{target}: is there already; name another place, or say --overwrite")
    if present and path.is_dir() and not (path / EXPORT_MARKER).exists():
        raise StoreError(f"{target}: was not made by `ixt export`, so it is not overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
