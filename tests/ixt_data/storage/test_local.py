"""What a place must promise, and the copies of one that is elsewhere."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ixt_data.storage.base import remove_scratch
from ixt_data.storage.local import LocalStorage


def test_local_create_existing_key_returns_false(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert storage.create("a/b", b"1")
    assert not storage.create("a/b", b"2")
    assert storage.read("a/b") == b"1"
    storage.delete("a/b", "a/b", "never")
    assert [*tmp_path.iterdir()] == []


def test_local_publish_survives_concurrent_folder_deletion(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "store")

    def work(name: str) -> None:
        for i in range(100):
            path = storage.scratch(name) / "file"
            path.write_bytes(b"x")
            storage.publish({f"meta/partition/{name}-{i}": path})
            assert storage.create(f"_pins/{name}-{i}", b"y")
            remove_scratch(path.parent)
            storage.delete(f"meta/partition/{name}-{i}", f"_pins/{name}-{i}", f"_tmp/{name}/gone")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert list(storage.list("meta")) == []
