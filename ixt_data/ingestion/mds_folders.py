"""MDS folders outside of a store: their index.json, checked."""

from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.mds import check_entry
from ixt_data.storage import LocalStorage, Storage, open_storage
from ixt_data.store import is_link_outside, is_safe_name, part_of_store, part_of_store_at

INDEX = "index.json"


def folder_bytes(folder: str | Path) -> int:
    """Return the stored bytes of the shards in a folder's index."""
    entries = read_index(open_folder(folder)).values()
    return sum((entry.get("zip_data") or entry["raw_data"])["bytes"] for entry in entries)


def open_folder(folder: str | Path) -> Storage:
    """Open the storage of a folder, with symbolic links resolved.

    Raises:
        StoreError: the folder has no index.json, or belongs to a store.
    """
    remote = "://" in str(folder)
    storage = open_storage(folder if remote else Path(folder).resolve())
    if not storage.exists(INDEX):
        raise StoreError(
            f"{folder}: not an MDS folder: it has no {INDEX}{_suggest_subfolders(storage)}"
        )
    owner = part_of_store_at(storage.root) if remote else part_of_store(Path(storage.root))
    if owner is not None:
        raise StoreError(
            f"{folder}: belongs to the store {owner}, which may delete its shards. "
            "Adopt a folder outside of a store"
        )
    return storage


def _suggest_subfolders(storage: Storage) -> str:
    """Return a hint with the MDS folders below a folder, such as llm-foundry's splits."""
    files = islice(storage.list(""), MAX_LISTED_FILES)
    keys = sorted(file.key.removesuffix(f"/{INDEX}") for file in files if file.key.endswith(INDEX))
    return f", but {', '.join(keys[:8])} have one: adopt these one by one" if keys else ""


MAX_LISTED_FILES = 10_000


def read_index(storage: Storage) -> dict[str, dict[str, Any]]:
    """Read the entries of a folder's index.json, by the name of the raw file.

    Raises:
        StoreError: the file is not an MDS index of version 2, or names files outside the folder.
    """
    path = f"{storage.root}/{INDEX}"
    try:
        index = orjson.loads(storage.read(INDEX))
        version, shards = index["version"], index["shards"]
        kinds = {str(entry["format"]) for entry in shards}
        for entry in shards if kinds <= {"mds"} else ():
            check_entry(entry)
        entries = {entry["raw_data"]["basename"]: entry for entry in shards}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not an MDS index ({type(error).__name__}: {error})") from None
    if version != 2:
        raise StoreError(f"{path}: version {version!r}; only version 2 is supported")
    if kinds - {"mds"}:
        raise StoreError(
            f"{path}: shards of the format {min(kinds - {'mds'})}; use MDS, or `ixt ingest`"
        )
    if len(entries) != len(shards):
        raise StoreError(f"{path}: names a shard twice")
    for entry in shards:
        for file in (entry["raw_data"], entry.get("zip_data")):
            if file is not None:
                _check_name(storage, file["basename"])
    return entries


def _check_name(storage: Storage, name: object) -> None:
    if not is_safe_name(name):
        raise StoreError(f"{storage.root}/{INDEX}: the file name {name!r} is outside of the folder")
    if isinstance(storage, LocalStorage) and is_link_outside(storage.path, str(name)):
        raise StoreError(
            f"{storage.path / str(name)}: a symbolic link to a file outside of the folder"
        )
