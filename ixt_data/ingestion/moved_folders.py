"""Adopted folders that have moved to another path or address."""

from dataclasses import replace
from pathlib import Path

from ixt_data.errors import StoreError
from ixt_data.ingestion.mds_folders import open_folder
from ixt_data.log import Entry
from ixt_data.store import FOLDER, Store, folder_of, original_folder, read_adopted


def move_adopted(store: Store, corpus: str, old: str | Path, new: str | Path) -> tuple[int, int]:
    """Record that an adopted folder has moved; check each shard in its new place.

    The paths of the shards stay: rows and critiques refer to them.

    Args:
        store: the store.
        corpus: the corpus of the folder.
        old: the folder as it was adopted, or where it was last.
        new: where it is now.

    Returns:
        The version of the commit, and the number of shards.

    Raises:
        StoreError: the corpus has no shard in `old`, or `new` is not an MDS folder.
        CorruptError: a shard is missing in `new`, or differs from the adopted one.
    """
    place = open_folder(new).root
    former = old if "://" in str(old) else str(Path(old).absolute())
    with store.begin("adopt") as txn:
        txn.base.check_corpora([corpus], store.root)
        external = [s for s in txn.base.text_shards([corpus]) if s.is_external]
        moved = [s for s in external if former in (folder_of(s), original_folder(s))]
        if not moved:
            known = ", ".join(dict.fromkeys(map(folder_of, external))) or "none"
            raise StoreError(f"{corpus} has no adopted folder {former}; its folders: {known}")
        for shard in moved:
            info = replace(shard, fields={**(shard.fields or {}), FOLDER: place})
            read_adopted(info)
            txn.add_shard(info)
        paths = {shard.path for shard in moved}

        def refuse_changes(newer: Entry) -> None:
            touched = {shard.path for shard in newer.shards_add} | {*newer.shards_remove}
            if paths & touched:
                raise StoreError(f"version {newer.version} changed these shards; run it again")

        version = txn.commit(refuse_changes, corpus=corpus, folder=place, moved_from=former)
    return version, len(moved)
