"""An MDS folder, anybody's: by its index.json, or by its files where there is none."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.storage import LocalStorage, Storage
from ixt_data.store import is_safe_name
from ixt_inspector.terminal.shard import InspectOptions, ShardView, view_shard
from ixt_inspector.terminal.shard_header import SUFFIXES

INDEX = "index.json"


@dataclass
class FolderView:
    """What an MDS folder is.

    Attributes:
        folder: its path or address.
        indexed: whether it has an index.json.
        shards: its shards.
        other_files: files that are no shards of it.
        problems: what is wrong with the folder itself.
    """

    folder: str
    indexed: bool
    shards: list[ShardView] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def all_problems(self) -> list[str]:
        """Those of the shards too."""
        own = [f"{view.file}: {what}" for view in self.shards for what in view.problems]
        return [*self.problems, *own]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
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
        """Encodings by column, `a or b` where shards differ."""
        found: dict[str, dict[str, None]] = {}
        for view in self.shards:
            for name, encoding in view.columns.items():
                found.setdefault(name, {})[encoding] = None
        return {name: " or ".join(encodings) for name, encodings in sorted(found.items())}


def view_folder(place: Storage, asked: InspectOptions, most: int | None = None) -> FolderView:
    """Looks at a folder; samples are shown of its first shard, random ones of a random shard.

    Args:
        place: the folder.
        asked: how much to look at.
        most: shards whose heads are read; the others are as the index says.

    Raises:
        StoreError: there are neither an index nor shards.
    """
    sizes = {file.key: file.size for file in place.list("")}
    view = FolderView(place.root, INDEX in sizes)
    entries = _entries(place, view) if view.indexed else dict.fromkeys(_found(sizes))
    if not entries and not view.problems:
        raise StoreError(f"{place.root}: neither {INDEX} nor files named *.mds or *.mds.zstd in it")
    known = {INDEX}
    first = True
    for raw, entry in entries.items():
        key = _stored(raw, entry, sizes)
        known |= {raw, key}
        if entry is not None:
            known.update(name for name in _names(entry) if name)
        own = asked if first else InspectOptions(0, 0, asked.seed, asked.verify)
        if most is not None and len(view.shards) >= most and not asked.verify:
            view.shards.append(_told(key, entry, sizes))
            continue
        if key not in sizes or leads_out(place, key):
            what = "a symbolic link that leads out of the folder: not read"
            what = what if key in sizes else f"missing, but {INDEX} names it"
            view.shards.append(ShardView(key, problems=[what]))
            continue
        view.shards.append(view_shard(place, key, sizes[key], own, entry))
        first = False
    view.other_files = sorted(sizes.keys() - known)
    if len({tuple(shard.columns.items()) for shard in view.shards if shard.columns}) > 1:
        view.problems.append("not all shards have the same columns")
    return view


def _told(key: str, entry: dict[str, Any] | None, sizes: dict[str, int]) -> ShardView:
    """A shard as the index tells of it, without a look at the file."""
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


def _entries(place: Storage, view: FolderView) -> dict[str, dict[str, Any] | None]:
    """The entries of index.json by raw file; those that cannot be trusted are problems."""
    try:
        index = orjson.loads(place.read(INDEX))
        version, shards = index["version"], list(index["shards"])
    except (ValueError, KeyError, TypeError) as error:
        view.problems.append(f"{INDEX}: unreadable ({type(error).__name__}: {error})")
        return {}
    if version != 2:
        view.problems.append(f"{INDEX}: version {version!r}; version 2 is known")
    entries: dict[str, dict[str, Any] | None] = {}
    for number, entry in enumerate(shards):
        try:
            names = _names(entry)
            _ = entry["samples"], entry["raw_data"]["bytes"], list(entry["column_names"])
            _ = list(entry["column_encodings"])
        except (KeyError, TypeError, AttributeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"is no entry ({error})"
            form = entry.get("format") if isinstance(entry, dict) else None
            what = f"is of the format {form!r}, not mds" if form not in ("mds", None) else what
            view.problems.append(f"{INDEX}: shard {number} {what}")
            continue
        if unsafe := [name for name in names if name is not None and not is_safe_name(name)]:
            view.problems.append(
                f"{INDEX}: shard {number} names the file {unsafe[0]!r}, which leads out of the "
                "folder: it is not read, and stock readers would write there"
            )
            continue
        entries[str(names[0])] = entry
    return entries


def entry_of(place: Storage, name: str) -> dict[str, Any] | None:
    """What the folder's index.json says of a file, None if there is none or it says nothing."""
    if not place.exists(INDEX):
        return None
    for entry in _entries(place, FolderView(place.root, True)).values():
        if entry is not None and name in _names(entry):
            return entry
    return None


def _names(entry: dict[str, Any]) -> tuple[Any, Any]:
    packed = entry.get("zip_data")
    return entry["raw_data"]["basename"], packed and packed["basename"]


def _stored(raw: str, entry: dict[str, Any] | None, sizes: dict[str, int]) -> str:
    """The file of a shard that is there: packed if it is."""
    packed = _names(entry)[1] if entry is not None else None
    return packed if packed and (packed in sizes or raw not in sizes) else raw


def leads_out(place: Storage, key: str) -> bool:
    """Whether a file of a folder is in truth another one, elsewhere."""
    if not isinstance(place, LocalStorage):
        return False
    return not (place.path / key).resolve().is_relative_to(place.path.resolve())


def is_shard(name: str) -> bool:
    """Whether a file is named like an MDS shard, packed or not."""
    path = PurePosixPath(name)
    return path.suffix == ".mds" or (
        path.suffix in SUFFIXES and PurePosixPath(path.stem).suffix == ".mds"
    )


def _found(sizes: dict[str, int]) -> Iterator[str]:
    """The shard files of a folder, of two that differ by their packing the raw one."""
    names = sorted(name for name in sizes if is_shard(name))
    yield from (
        name for name in names if name.endswith(".mds") or name.rpartition(".")[0] not in names
    )
