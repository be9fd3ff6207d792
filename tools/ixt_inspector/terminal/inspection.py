"""`ixt inspect`: what a target is, and how it is shown."""

from pathlib import Path
from typing import Any

from ixt_data.errors import StoreError
from ixt_data.storage import LocalStorage, Storage, open_storage
from ixt_data.store import MARKER, Store, part_of_store, part_of_store_at
from ixt_inspector.terminal.document import DocumentView, view_document
from ixt_inspector.terminal.mds_folder import FolderView, entry_of, is_shard, view_folder
from ixt_inspector.terminal.shard import InspectOptions, ShardView, view_shard
from ixt_inspector.terminal.store import StoreView, aligned_with, view_store

HEADS = 64
"""Shards of a folder whose heads are read unless all of it is verified."""


class ShardLook:
    """A single shard, with its place and what is aligned with it in its store."""

    def __init__(self, view: ShardView, place: str, aligned: dict[str, str]) -> None:
        self.view, self.place, self.aligned = view, place, aligned
        self.problems = view.problems

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        own = {"kind": "shard", "folder": self.place, "aligned": self.aligned}
        return own | self.view.to_json()


InspectedObject = StoreView | FolderView | ShardLook | DocumentView


def look(target: str, root: str, at: str | None, asked: InspectOptions) -> InspectedObject:
    """What a target is: a store, an MDS folder, a shard's file, or a document of a store.

    Args:
        target: a path, an address `s3://bucket/prefix`, a doc_id or a source_id.
        root: of the store that documents are looked for in.
        at: version or tag of it.
        asked: how much to look at.

    Raises:
        StoreError: it is none of them.
    """
    remote = "://" in target
    if not remote and not Path(target).exists():
        return view_document(Store.open(root), target, at)
    if is_shard(target) if remote else Path(target).is_file():
        folder, _, name = str(target if remote else Path(target).absolute()).rpartition("/")
        return _shard(open_storage(folder), name, asked)
    place = open_storage(target)
    if place.exists(MARKER):
        return view_store(Store.open(target), at, verify=asked.verify)
    return view_folder(place, asked, HEADS)


def problems_of(found: InspectedObject) -> list[str]:
    """All that is wrong with it."""
    if isinstance(found, FolderView):
        return found.all_problems
    return [] if isinstance(found, DocumentView) else found.problems


def _shard(place: Storage, name: str, asked: InspectOptions) -> ShardLook:
    store = _store_of(place)
    snapshot = store.snapshot() if store is not None else None
    path = f"{place.root}/{name}".removeprefix(f"{store.root}/") if store is not None else ""
    info = snapshot.shards_by_path.get(path) if snapshot is not None else None
    entry = info.index if info is not None else entry_of(place, name)
    view = view_shard(place, name, _size_of(place, name), asked, entry)
    aligned = aligned_with(snapshot, path) if snapshot is not None and info is not None else {}
    for family, other in aligned.items():
        samples = snapshot.shards_by_path[other].samples if snapshot is not None else 0
        if samples != view.samples:
            view.problems.append(f"{family}: {other} has {samples:,} samples")
    return ShardLook(view, place.root, aligned)


def _store_of(place: Storage) -> Store | None:
    """The store that a folder is a part of."""
    is_remote = "://" in place.root
    owner = part_of_store_at(place.root) if is_remote else part_of_store(Path(place.root))
    return None if owner is None else Store.open(owner)


def _size_of(place: Storage, name: str) -> int:
    if isinstance(place, LocalStorage):
        return (place.path / name).stat().st_size
    for file in place.list(""):
        if file.key == name:
            return file.size
    raise StoreError(f"{place.root}/{name}: there is no such file")
