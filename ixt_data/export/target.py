"""Targets of exports: they appear complete or not at all, and replace nothing implicitly."""

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
"""File in every exported folder. It describes the export and permits to overwrite the folder."""


@contextmanager
def new_file(target: str | Path, overwrite: bool) -> Iterator[Path]:
    """Provide a temporary path; rename it to `target` if the block ends without an error.

    Raises:
        StoreError: see `check_target`.
    """
    path = check_target(target, overwrite)
    if path.is_dir():
        raise StoreError(f"{target}: is a folder; name a file")
    temporary = _temporary_path(path)
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: str | Path, overwrite: bool, about: Mapping[str, Any]) -> Iterator[Path]:
    """Provide an empty folder; rename it to `target` if the block ends without an error.

    Args:
        target: a folder that does not exist, is empty, or comes from an earlier export.
        overwrite: replace an earlier export.
        about: description of the export, written into the folder.

    Raises:
        StoreError: see `check_target`.
    """
    path = check_target(target, overwrite)
    if path.is_file():
        raise StoreError(f"{target}: is a file; name a folder")
    temporary, old = _temporary_path(path), _temporary_path(path)
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


def check_target(target: str | Path, overwrite: bool) -> Path:
    """Check that an export or a query may write to `target`; return its path.

    Raises:
        StoreError: the path belongs to a store, exists without `overwrite`, or is not an export.
    """
    if "://" in str(target):
        raise StoreError(
            f"{target}: an export must be a local path; copy it to the address afterwards"
        )
    path = Path(target).resolve()
    if (owner := part_of_store(path)) is not None:
        raise StoreError(f"{target}: is part of the store {owner}; choose a path outside of it")
    exists = path.is_file() or (path.is_dir() and any(path.iterdir()))
    if exists and not overwrite:
        raise StoreError(f"{target}: already exists; choose another path, or add --overwrite")
    if exists and path.is_dir() and not (path / EXPORT_MARKER).exists():
        raise StoreError(f"{target}: was not created by `ixt export`, so it is not overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
