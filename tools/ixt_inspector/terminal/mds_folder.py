"""Any MDS folder: read by its index.json, or by its files without one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.mds import check_entry
from ixt_data.storage import LocalStorage, Storage
from ixt_data.store import is_link_outside, is_safe_name
from ixt_inspector.terminal.shard import InspectOptions, ShardView, view_shard
from ixt_inspector.terminal.shard_header import SUFFIXES

INDEX = "index.json"


@dataclass
class FolderView:
    """An MDS folder.

    Attributes:
        folder: path or address.
        indexed: whether it has an index.json.
        shards: its shards.
        other_files: files that are not shards.
        problems: problems of the folder itself.
    """

    folder: str
    indexed: bool
    shards: list[ShardView] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def all_problems(self) -> list[str]:
        """Return the problems of the folder and of its shards."""
        own = [f"{view.file}: {problem}" for view in self.shards for problem in view.problems]
        return [*self.problems, *own]

    def to_json(self) -> dict[str, Any]:
        """Return the view as JSON values."""
        stored = sum(view.bytes for view in self.shards)
        raw = sum(view.raw_bytes for view in self.shards)
        return {
            "kind": "folder",
            "folder": self.folder,
            "indexed": self.indexed,
            "samples": sum(view.samples for view in self.shards),
            "bytes": stored,
            "raw_bytes": raw,
            "ratio": raw / stored if stored else 0.0,
            "columns": self.columns(),
            "compression": sorted({view.compression or "none" for view in self.shards}),
            "hashes": sorted({name for view in self.shards for name in view.hashes}),
            "checked": all(view.checked for view in self.shards),
            "shards": [view.to_json() for view in self.shards],
            "other_files": self.other_files,
            "problems": self.all_problems,
        }

    def columns(self) -> dict[str, str]:
        """Return encodings by column, `a or b` where shards differ."""
        encodings_by_name: dict[str, dict[str, None]] = {}
        for view in self.shards:
            for name, encoding in view.columns.items():
                encodings_by_name.setdefault(name, {})[encoding] = None
        return {
            name: " or ".join(encodings) for name, encodings in sorted(encodings_by_name.items())
        }


def view_folder(
    storage: Storage, options: InspectOptions, max_headers: int | None = None
) -> FolderView:
    """Return the view of a folder, with samples of its first shard.

    Args:
        storage: the folder.
        options: samples to show, and whether to verify.
        max_headers: shards whose headers are read; the index describes the others.

    Raises:
        StoreError: the folder has neither an index nor shards.
    """
    sizes = {file.key: file.size for file in storage.list("")}
    view = FolderView(storage.root, INDEX in sizes)
    entries = _entries(storage, view) if view.indexed else dict.fromkeys(_shard_files(sizes))
    if not entries and not view.problems:
        raise StoreError(
            f"{storage.root}: contains neither {INDEX} nor files named *.mds or *.mds.zstd"
        )
    known = {INDEX}
    first = True
    for raw, entry in entries.items():
        key = _stored(raw, entry, sizes)
        known |= {raw, key}
        if entry is not None:
            known.update(name for name in _names(entry) if name)
        own = options if first else InspectOptions(0, 0, options.seed, options.verify)
        is_limited = max_headers is not None and len(view.shards) >= max_headers
        if is_limited and not options.verify:
            view.shards.append(_view_from_index(key, entry, sizes))
            continue
        if key not in sizes or escapes_folder(storage, key):
            problem = "a symbolic link that escapes the folder: not read"
            problem = problem if key in sizes else f"missing, but {INDEX} names it"
            view.shards.append(ShardView(key, problems=[problem]))
            continue
        view.shards.append(view_shard(storage, key, sizes[key], own, entry))
        first = False
    view.other_files = sorted(sizes.keys() - known)
    if len({tuple(shard.columns.items()) for shard in view.shards if shard.columns}) > 1:
        view.problems.append("not all shards have the same columns")
    return view


def _view_from_index(key: str, entry: dict[str, Any] | None, sizes: dict[str, int]) -> ShardView:
    """Return the view of a shard from the index, without reading the file."""
    view = ShardView(key, sizes.get(key, 0))
    if entry is not None:
        stored = entry.get("zip_data") or entry["raw_data"]
        view.samples, view.raw_bytes = entry["samples"], entry["raw_data"]["bytes"]
        view.compression = (entry.get("compression") or "").partition(":")[0] or None
        view.columns = dict(zip(entry["column_names"], entry["column_encodings"], strict=False))
        view.hashes = dict(stored.get("hashes") or {})
        if view.bytes != stored["bytes"]:
            view.problems.append(f"{view.bytes} bytes instead of {stored['bytes']}")
    return view


def _entries(storage: Storage, view: FolderView) -> dict[str, dict[str, Any] | None]:
    """Return the entries of index.json by raw file; invalid entries become problems."""
    try:
        index = orjson.loads(storage.read(INDEX))
        version, shards = index["version"], list(index["shards"])
    except (ValueError, KeyError, TypeError) as error:
        view.problems.append(f"{INDEX}: unreadable ({type(error).__name__}: {error})")
        return {}
    if version != 2:
        view.problems.append(f"{INDEX}: version {version!r} is not supported; valid: 2")
    entries: dict[str, dict[str, Any] | None] = {}
    for number, entry in enumerate(shards):
        try:
            check_entry(entry)
            names = _names(entry)
        except ValueError as error:
            problem = f"is not an entry: {error}"
            form = entry.get("format") if isinstance(entry, dict) else None
            if form not in ("mds", None):
                problem = f"has the format {form!r}, not mds"
            view.problems.append(f"{INDEX}: shard {number} {problem}")
            continue
        if unsafe := [name for name in names if name is not None and not is_safe_name(name)]:
            view.problems.append(
                f"{INDEX}: shard {number} names the file {unsafe[0]!r}, which escapes the "
                "folder: it is not read, and stock readers would write there"
            )
            continue
        entries[str(names[0])] = entry
    return entries


def read_index_entry(storage: Storage, name: str) -> dict[str, Any] | None:
    """Return the entry of a file in index.json; None without an index or an entry."""
    if not storage.exists(INDEX):
        return None
    for entry in _entries(storage, FolderView(storage.root, True)).values():
        if entry is not None and name in _names(entry):
            return entry
    return None


def _names(entry: dict[str, Any]) -> tuple[Any, Any]:
    packed = entry.get("zip_data")
    return entry["raw_data"]["basename"], packed and packed["basename"]


def _stored(raw: str, entry: dict[str, Any] | None, sizes: dict[str, int]) -> str:
    """Return the existing file of a shard, preferably the compressed one."""
    packed = _names(entry)[1] if entry is not None else None
    return packed if packed and (packed in sizes or raw not in sizes) else raw


def escapes_folder(storage: Storage, key: str) -> bool:
    """Return whether a file of a folder is a symbolic link to a file outside it."""
    if not isinstance(storage, LocalStorage):
        return False
    return is_link_outside(storage.path, key)


def is_shard(name: str) -> bool:
    """Return whether a file is named like an MDS shard, compressed or not."""
    path = PurePosixPath(name)
    return path.suffix == ".mds" or (
        path.suffix in SUFFIXES and PurePosixPath(path.stem).suffix == ".mds"
    )


def _shard_files(sizes: dict[str, int]) -> Iterator[str]:
    """Yield the shard files of a folder; the raw file where a compressed one exists, too."""
    names = sorted(name for name in sizes if is_shard(name))
    yield from (
        name for name in names if name.endswith(".mds") or name.rpartition(".")[0] not in names
    )
