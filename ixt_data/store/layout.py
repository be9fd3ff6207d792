"""The layout of a store, and checks for names in one and for paths that belong to one."""

import re
from pathlib import Path, PurePosixPath

from ixt_data.errors import StoreError
from ixt_data.storage import RESERVE, open_storage

OWN_FOLDERS = (
    *("shards", "meta", "quarantine"),
    *("_log", "_checkpoint", "_pins", "_leases", "_journal", "_tmp", "_ingests", RESERVE),
)
INGESTS = "_ingests"
"""Folder of the journals of ingests."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str, what: str) -> str:
    """Check that `name` is valid for a corpus, critic, tag or selection; return it.

    Raises:
        StoreError: the name is invalid; the message states the valid characters.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{what} {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', the first one a "
            "letter or a digit"
        )
    return name


def part_of_store(path: Path) -> Path | None:
    """Return the root of the store whose own files and folders contain `path`, or None."""
    path = path.resolve()
    for root in (path, *path.parents):
        if (root / MARKER).exists():
            inside = path.relative_to(root).parts
            return root if not inside or inside[0] in (*OWN_FOLDERS, MARKER) else None
    return None


def part_of_store_at(address: str) -> str | None:
    """Return the same as `part_of_store` for an address such as `s3://bucket/prefix`."""
    bucket, *parts = address.split("://")[1].split("/")
    scheme = address.split("://")[0]
    storage = open_storage(f"{scheme}://{bucket}")
    for n in range(len(parts), -1, -1):
        inside, above = parts[n:], parts[:n]
        if inside and inside[0] not in (*OWN_FOLDERS, MARKER):
            continue
        if storage.exists("/".join([*above, MARKER])):
            return f"{scheme}://{'/'.join([bucket, *above])}"
    return None


def is_link_outside(folder: Path, name: str) -> bool:
    """Return whether a file of a folder is a symbolic link to a file outside of it.

    A snapshot in a cache of the Hugging Face hub has links to `blobs` of the same repository.
    """
    path = (folder / name).resolve()
    allowed = [folder.resolve()]
    if (snapshots := next((p for p in allowed[0].parents if p.name == "snapshots"), None)) and (
        re.match("(datasets|models|spaces)--", snapshots.parent.name)
    ):
        allowed.append(snapshots.parent / "blobs")
    return not any(path.is_relative_to(root) for root in allowed)


def is_safe_name(name: object) -> bool:
    """Return True if a file name of an index.json is inside of its folder."""
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name


MARKER = "ixt.json"
