"""Damaged files of an index: in the cache of this machine, and in the store."""

from pathlib import Path

import pytest
from small_stores import add_documents

from ixt_data.analysis import build_indexes
from ixt_data.errors import CorruptError
from ixt_data.maintenance import repair, verify
from ixt_data.store.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
    store = Store.init(tmp_path / "S")
    add_documents(store, ["a red fox", "a red dog", "a blue fox"], per_shard=2)
    build_indexes(store)
    return store


def unpacked(store: Store, folder: Path) -> list[Path]:
    """Return the unpacked files of the indexes, after a search has written them."""
    assert Store.open(store.root).search("fox").total == 2
    files = (folder / "cache").rglob("*")
    return [one for one in files if one.is_file() and "_uses" not in one.parts and one.suffix]


@pytest.mark.parametrize("damage", ["empty", "cut", "delete"])
def test_damaged_file_in_the_cache_is_unpacked_again(
    store: Store, tmp_path: Path, damage: str
) -> None:
    files = unpacked(store, tmp_path)
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        path.unlink()
        if damage != "delete":
            path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
        assert Store.open(store.root).search("fox").total == 2
        assert path.read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "delete", "change"])
def test_damaged_index_in_the_store_names_the_remedy(store: Store, damage: str) -> None:
    (first, _) = [one for one in store.snapshot().shards if one.family.startswith("search/")]
    path = Path(store.root, first.path)
    content = path.read_bytes()
    path.unlink()
    if damage != "delete":
        half = len(content) // 2
        path.write_bytes(content[:half] + (content[:half] if damage == "change" else b""))
    with pytest.raises(CorruptError, match=f"{first.path}: .*ixt verify --repair.*search --index"):
        store.search("fox")
    repair(store, verify(store))
    build_indexes(store)
    assert store.search("fox").scanned == 0
    assert store.search("fox").total == 2
