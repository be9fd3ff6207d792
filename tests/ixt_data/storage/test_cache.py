"""What a place must promise, and the copies of one that is elsewhere."""

import os
from pathlib import Path

import pytest

from ixt_data.errors import ConfigError, CorruptError
from ixt_data.storage import cache
from ixt_data.storage.cache import FileCache


def copies(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_cache_evicts_least_recently_used_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MIN_IDLE_SECONDS", 0.0)
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


def test_cache_retains_recently_used_copies(tmp_path: Path) -> None:
    for store in ("one", "two"):
        own = FileCache(store, tmp_path, limit=10)
        own.get(f"meta/{store}", lambda target: target.write_bytes(b"x" * 30))
    assert copies(tmp_path) == {"one", "two"}


def test_cache_failed_download_leaves_no_copy(tmp_path: Path) -> None:
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
def test_cache_refuses_keys_outside_of_its_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(CorruptError, match="inside"):
        FileCache("store", tmp_path).get(key, lambda target: None)


def test_cache_folder_follows_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IXT_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.setenv("IXT_CACHE_GB", "many")
    with pytest.raises(ConfigError, match="IXT_CACHE_GB is 'many'"):
        FileCache("store")
