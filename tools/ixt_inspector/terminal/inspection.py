"""`ixt inspect`: the view of a store, folder, shard or document."""

from pathlib import Path
from typing import Any

from ixt_data.console import format_count
from ixt_data.errors import StoreError, UnknownDocument
from ixt_data.storage import LocalStorage, Storage, open_storage
from ixt_data.store import MARKER, Store, StoredDocument, part_of_store, part_of_store_at
from ixt_inspector.terminal.mds_folder import FolderView, is_shard, read_index_entry, view_folder
from ixt_inspector.terminal.shard import InspectOptions, ShardView, view_shard
from ixt_inspector.terminal.store import StoreView, aligned_with, view_store

MAX_HEADERS = 64
"""Shards of a folder whose headers are read without --verify."""


class StoredShardView:
    """A shard, its folder, and the shards of its store that are aligned with it."""

    def __init__(self, view: ShardView, folder: str, aligned: dict[str, str]) -> None:
        self.view, self.folder, self.aligned = view, folder, aligned
        self.problems = view.problems

    def to_json(self) -> dict[str, Any]:
        """Return the view as JSON values."""
        own = {"kind": "shard", "folder": self.folder, "aligned": self.aligned}
        return own | self.view.to_json()


InspectedObject = StoreView | FolderView | StoredShardView | StoredDocument


def inspect_target(
    target: str, root: str, at: str | None, options: InspectOptions
) -> InspectedObject:
    """Return the view of a store, an MDS folder, a shard file, or a document of a store.

    Args:
        target: a path, an address `s3://bucket/prefix`, a doc_id, its first digits, or a source_id.
        root: root of the store that contains the document.
        at: version or tag of that store.
        options: samples to show, and whether to verify.

    Raises:
        StoreError: the target does not exist.
    """
    remote = "://" in target
    if not remote and not Path(target).exists():
        try:
            return Store.open(root).document(target, at=at)
        except UnknownDocument as error:
            raise StoreError(f"{target}: not a file, folder or store; {error}") from None
    if is_shard(target) if remote else Path(target).is_file():
        folder, _, name = str(target if remote else Path(target).absolute()).rpartition("/")
        return _shard(open_storage(folder), name, options)
    storage = open_storage(target)
    if storage.exists(MARKER):
        return view_store(Store.open(target), at, verify=options.verify)
    return view_folder(storage, options, MAX_HEADERS)


def list_problems(view: InspectedObject) -> list[str]:
    """Return all problems of a view."""
    if isinstance(view, FolderView):
        return view.all_problems
    return [] if isinstance(view, StoredDocument) else view.problems


def _shard(storage: Storage, name: str, options: InspectOptions) -> StoredShardView:
    store = _store_of(storage)
    snapshot = store.snapshot() if store is not None else None
    path = f"{storage.root}/{name}".removeprefix(f"{store.root}/") if store is not None else ""
    info = snapshot.shards_by_path.get(path) if snapshot is not None else None
    entry = info.index if info is not None else read_index_entry(storage, name)
    view = view_shard(storage, name, _size_of(storage, name), options, entry)
    aligned = aligned_with(snapshot, path) if snapshot is not None and info is not None else {}
    for family, other in aligned.items():
        samples = snapshot.shards_by_path[other].samples if snapshot is not None else 0
        if samples != view.samples:
            view.problems.append(f"{family}: {other} has {format_count(samples, 'sample')}")
    return StoredShardView(view, storage.root, aligned)


def _store_of(storage: Storage) -> Store | None:
    """Return the store that contains a folder; None outside a store."""
    is_remote = "://" in storage.root
    owner = part_of_store_at(storage.root) if is_remote else part_of_store(Path(storage.root))
    return None if owner is None else Store.open(owner)


def _size_of(storage: Storage, name: str) -> int:
    if isinstance(storage, LocalStorage):
        return (storage.path / name).stat().st_size
    for file in storage.list(""):
        if file.key == name:
            return file.size
    raise StoreError(f"{storage.root}/{name}: the file does not exist")
