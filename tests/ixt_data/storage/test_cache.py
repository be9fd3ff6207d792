"""Copies of remote files: complete, shared by processes, bounded in bytes."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ixt_data.errors import ConfigError, CorruptError
from ixt_data.storage import cache
from ixt_data.storage.cache import FileCache


def copies(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent != folder)
    return {path.name for path in files if path.suffix != ".lock"}


def bytes_of(folder: Path) -> int:
    """Return the bytes on the disk; links to one file count once."""
    return sum({stat.st_ino: stat.st_size for _, stat in cache._files(folder)}.values())


def writer(size: int) -> Callable[[Path], Any]:
    return lambda target: target.write_bytes(b"x" * size)


def download(own: FileCache, name: str, size: int, age: int = 0) -> None:
    with own.use() as use:
        path = use.get(f"meta/{name}", writer(size))
        os.utime(path, (1e9 - age, 1e9 - age))


def test_cache_evicts_least_recently_used_copies(tmp_path: Path) -> None:
    first = FileCache("one store", tmp_path, limit=100)
    for age, name in enumerate("abc"):
        download(first, name, 30, age)
    # Another process, which knows nothing of the first one's downloads.
    second = FileCache("another store", tmp_path, limit=100)
    download(second, "d", 30, age=1000)
    assert copies(tmp_path) == {"a", "b", "d"}
    assert bytes_of(tmp_path / _hash(tmp_path)) <= 100


def _hash(folder: Path) -> str:
    return next(path.name for path in folder.iterdir() if len(path.name) == 16)


def test_cache_retains_copies_in_use_beyond_its_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, other = FileCache("store", tmp_path, limit=50), FileCache("other", tmp_path, limit=50)
    with own.use() as use:
        path = use.get("meta/a", writer(40))
        download(other, "b", 40)
        assert path.read_bytes() == b"x" * 40
        assert "more than IXT_CACHE_BYTES=50" in caplog.text
        download(other, "c", 5)
        assert copies(tmp_path) == {"a", "c"}
    download(other, "d", 40)
    assert copies(tmp_path) == {"d"}


def test_cache_copy_evicted_at_the_moment_of_use_is_downloaded_again(tmp_path: Path) -> None:
    own = FileCache("store", tmp_path)
    download(own, "a", 3)
    own.discard("meta/a")
    with own.use() as use:
        assert use.get("meta/a", writer(4)).read_bytes() == b"xxxx"


def _fill(folder: Path, store: str, barrier: Any, results: Any) -> None:
    own, most = FileCache(store, folder, limit=1000), 0
    barrier.wait()
    for i in range(40):
        with own.use() as use:
            path = use.get(f"meta/{i % 25}", writer(90))
            assert path.stat().st_size == 90
            most = max(most, bytes_of(folder))
    results.put(most)


def test_processes_share_one_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_fill, args=(tmp_path, name, barrier, results)) for name in "ab"
    ]
    for process in processes:
        process.start()
    most = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    # Each process may have one more file in use, or in download, next to the full cache.
    assert 900 <= max(most) <= 1000 + 2 * 90
    assert bytes_of(tmp_path) <= 1000


def _crash(folder: Path) -> None:
    use = FileCache("store", folder, limit=100).use().__enter__()
    use.get("meta/a", writer(60))
    os._exit(1)


def test_copies_of_a_crashed_process_are_evicted(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_crash, args=(tmp_path,))
    process.start()
    process.join()
    assert [path.stat().st_nlink for path in tmp_path.rglob("a")] == [2, 2]
    download(FileCache("store", tmp_path, limit=100), "b", 60)
    assert copies(tmp_path) == {"b"}


def test_cache_failed_download_leaves_no_copy(tmp_path: Path) -> None:
    def broken(target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("line cut")

    own = FileCache("store", tmp_path)
    with own.use() as use:
        with pytest.raises(OSError, match="line cut"):
            use.get("meta/a", broken)
        assert copies(tmp_path) == set()
        path = use.get("meta/a", lambda target: target.write_bytes(b"whole"))
        assert path.read_bytes() == b"whole"
        assert use.get("meta/a", broken).samefile(path)


@pytest.mark.parametrize("key", ["../x", "/etc/x", "a/../../x", "a\\..\\x"])
def test_cache_refuses_keys_outside_of_its_folder(tmp_path: Path, key: str) -> None:
    with FileCache("store", tmp_path).use() as use, pytest.raises(CorruptError, match="inside"):
        use.get(key, lambda target: None)


def test_cache_folder_follows_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IXT_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.setenv("IXT_CACHE_BYTES", "many")
    with pytest.raises(ConfigError, match="IXT_CACHE_BYTES is 'many'"):
        FileCache("store")
