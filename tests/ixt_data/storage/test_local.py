"""What a place must promise, and the copies of one that is elsewhere."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ixt_data.errors import ConfigError, CorruptError, StoreError
from ixt_data.storage import cache
from ixt_data.storage.base import remove_scratch
from ixt_data.storage.cache import FileCache
from ixt_data.storage.conformance import probe
from ixt_data.storage.local import LocalStorage
from ixt_data.store.store import Store


class Overwrites(LocalStorage):
    """A place that takes every key as new."""

    def create(self, key: str, data: bytes) -> bool:
        self.replace(key, data)
        return True


class Lies(LocalStorage):
    """A place that says no, and overwrites all the same."""

    def create(self, key: str, data: bytes) -> bool:
        there = self.exists(key)
        self.replace(key, data)
        return not there


class Looks(LocalStorage):
    """A place that looks first and writes then."""

    def create(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        time.sleep(0.05)
        self.replace(key, data)
        return True


class Refuses(LocalStorage):
    """A file system without hard links."""

    def create(self, key: str, data: bytes) -> bool:
        raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (Overwrites, "created twice"),
        (Lies, "overwritten"),
        (Looks, "of 8 writers"),
        (Refuses, "Operation not permitted"),
    ],
)
def test_a_place_that_fakes_put_if_absent_is_refused(
    tmp_path: Path, place: type[LocalStorage], why: str
) -> None:
    with pytest.raises(StoreError, match=f"cannot contain a store: .*{why}"):
        probe(place(tmp_path))
    assert [*tmp_path.iterdir()] == []


def test_init_leaves_nothing_of_the_probe(tmp_path: Path) -> None:
    Store.init(tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["ixt.json"]


def test_a_folder_creates_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert storage.create("a/b", b"1")
    assert not storage.create("a/b", b"2")
    assert storage.read("a/b") == b"1"
    storage.delete("a/b", "a/b", "never")
    assert [*tmp_path.iterdir()] == []


def copies(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_the_cache_keeps_what_was_used_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "QUIET", 0.0)
    first = FileCache("one store", tmp_path, limit=100)
    for i, name in enumerate("abc"):
        path = first.get(f"meta/{name}", lambda target: target.write_bytes(b"x" * 30))
        os.utime(path, (i + 1, i + 1))
    # Another process: nothing is in its use yet.
    second = FileCache("another store", tmp_path, limit=100)
    second.get("meta/d", lambda target: target.write_bytes(b"x" * 30))
    assert copies(tmp_path) == {"b", "c", "d"}
    second.get("meta/e", lambda target: target.write_bytes(b"x" * 90))
    assert copies(tmp_path) == {"d", "e"}  # more than the limit, but all in use


def test_a_copy_stays_while_another_process_may_read_it(tmp_path: Path) -> None:
    for store in ("one", "two"):
        own = FileCache(store, tmp_path, limit=10)
        own.get(f"meta/{store}", lambda target: target.write_bytes(b"x" * 30))
    assert copies(tmp_path) == {"one", "two"}


def test_a_download_that_breaks_off_leaves_no_copy(tmp_path: Path) -> None:
    def broken(target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("line cut")

    own = FileCache("store", tmp_path)
    with pytest.raises(OSError, match="line cut"):
        own.get("meta/a", broken)
    assert copies(tmp_path) == set()
    got = own.get("meta/a", lambda target: target.write_bytes(b"whole"))
    assert got.read_bytes() == b"whole"
    assert own.get("meta/a", broken) == got


@pytest.mark.parametrize("key", ["../x", "/etc/x", "a/../../x", "a\\..\\x"])
def test_no_key_leads_out_of_the_cache(tmp_path: Path, key: str) -> None:
    with pytest.raises(CorruptError, match="inside"):
        FileCache("store", tmp_path).get(key, lambda target: None)


def test_the_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IXT_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.setenv("IXT_CACHE_GB", "many")
    with pytest.raises(ConfigError, match="IXT_CACHE_GB is 'many'"):
        FileCache("store")


def test_folders_that_come_and_go_lose_nobody_a_file(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "store")

    def work(name: str) -> None:
        for i in range(100):
            path = storage.scratch(name) / "file"
            path.write_bytes(b"x")
            storage.publish({f"meta/lane/{name}-{i}": path})
            assert storage.create(f"_pins/{name}-{i}", b"y")
            remove_scratch(path.parent)
            storage.delete(f"meta/lane/{name}-{i}", f"_pins/{name}-{i}", f"_tmp/{name}/gone")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert list(storage.list("meta")) == []
