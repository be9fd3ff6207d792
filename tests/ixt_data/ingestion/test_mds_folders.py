"""MDS folders that cannot be adopted, and why."""

import os
from pathlib import Path
from typing import Any

import pytest
from mds_folders import edit_index, texts, write_mds
from small_stores import add_documents

from ixt_data.errors import CorruptError, StoreError
from ixt_data.ingestion.adoption import adopt
from ixt_data.maintenance.verification import verify
from ixt_data.mds.encodings import decoder
from ixt_data.store.store import Store

BAD_NAMES = ["../web.mds", "/etc/passwd", "a/../../b.mds", "..\\b.mds", "", "./a.mds"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("file", ["raw_data", "zip_data"])
def test_an_index_reaches_no_file_outside(
    store: Store, tmp_path: Path, name: str, file: str
) -> None:
    folder = write_mds(tmp_path / "mds", texts(3), compression="gz")
    edit_index(folder, lambda index: index["shards"][0][file].update(basename=name))
    with pytest.raises(StoreError, match="outside of the folder"):
        adopt(store, "web", folder)
    assert store.snapshot().version == 0


def test_a_symbolic_link_does_not_lead_outside(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(3))
    shard = folder / "shard.00000.mds"
    shard.rename(tmp_path / "secret")
    shard.symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match=r"shard\.00000\.mds: a symbolic link"):
        adopt(store, "web", folder)


def test_adopt_refuses_pickled_columns(store: Store, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    samples = [{"text": "a", "x": Evil()}]
    folder = write_mds(tmp_path / "mds", samples, {"text": "str", "x": "pkl"})
    with pytest.raises(StoreError, match="column 'x' has the encoding 'pkl'"):
        adopt(store, "web", folder)
    # An index that hides it changes nothing: what the shard says of itself counts too.
    edit_index(folder, lambda index: index["shards"][0].update(column_encodings=["str", "json"]))
    with pytest.raises(CorruptError, match="its columns differ from those in"):
        adopt(store, "web", folder)
    with pytest.raises(StoreError, match="pkl"):
        decoder("pkl")
    assert not marker.exists()


def damage_size(index: dict[str, Any]) -> None:
    index["shards"][0]["raw_data"]["bytes"] += 1


def damage_samples(index: dict[str, Any]) -> None:
    index["shards"][0]["samples"] += 1


REFUSED: list[tuple[Any, str]] = [
    (lambda index: index.update(version=1), "version 1"),
    (lambda index: index["shards"][0].update(format="jsonl"), "format jsonl"),
    (lambda index: index.pop("shards"), "not an MDS index"),
    (lambda index: index["shards"][0].pop("samples"), "not an MDS index"),
    (lambda index: index["shards"].append(index["shards"][0]), "twice"),
    (damage_size, "bytes"),
    (damage_samples, "samples"),
    (
        lambda index: index["shards"][0]["raw_data"].update(hashes={"sha1": "0" * 40}),
        "its sha1",
    ),
    (
        lambda index: index["shards"][0]["raw_data"].update(hashes={"rot13": "0"}),
        "unknown hash 'rot13'",
    ),
    (
        lambda index: index["shards"][0]["raw_data"].update(basename="gone.mds"),
        "No such file",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_adopt_names_the_problem(store: Store, tmp_path: Path, change: Any, message: str) -> None:
    folder = write_mds(tmp_path / "mds", texts(3))
    edit_index(folder, change)
    with pytest.raises(StoreError, match=message):
        adopt(store, "web", folder)
    assert store.snapshot().version == 0


def test_adopt_parent_of_splits_names_the_splits(store: Store, tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_mds(tmp_path / "mds" / split, texts(1))
    with pytest.raises(
        StoreError, match=r"it has no index.json, but train, val have one: adopt these"
    ):
        adopt(store, "web", tmp_path / "mds")


def test_a_folder_without_text_says_what_it_has(store: Store, tmp_path: Path) -> None:
    samples = [{"tokens": b"\0\0"}]
    folder = write_mds(tmp_path / "mds", samples, {"tokens": "bytes"})
    with pytest.raises(StoreError, match=r"no column 'text' of text .* tokens \(bytes\)"):
        adopt(store, "web", folder)
    with pytest.raises(StoreError, match="not an MDS folder"):
        adopt(store, "web", tmp_path)


def test_a_store_does_not_adopt_itself(store: Store) -> None:
    add_documents(store, ["a"])
    folder = next(Path(store.root, "shards").rglob("index.json")).parent
    with pytest.raises(StoreError, match="belongs to the store"):
        adopt(store, "web", folder)


def test_snapshot_in_a_cache_of_the_hub_is_adopted(store: Store, tmp_path: Path) -> None:
    repository = tmp_path / "datasets--org--name"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots/0123/train"
    for path in write_mds(tmp_path / "mds", texts(3)).iterdir():
        snapshot.mkdir(parents=True, exist_ok=True)
        path.rename(repository / "blobs" / f"hash-of-{path.name}")
        (snapshot / path.name).symlink_to(f"../../../blobs/hash-of-{path.name}")
    assert adopt(store, "web", snapshot).documents == 3
    assert verify(store).problems == []
    (tmp_path / "secret").write_bytes((snapshot / "shard.00000.mds").read_bytes())
    (snapshot / "shard.00000.mds").unlink()
    (snapshot / "shard.00000.mds").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match=r"shard\.00000\.mds: a symbolic link"):
        adopt(store, "other", snapshot)
