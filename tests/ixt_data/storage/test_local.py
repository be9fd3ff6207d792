"""A storage in a folder: keys that are created once, and errors that are never hidden."""

import errno
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ixt_data.errors import WriteStateUnknown
from ixt_data.storage.base import create_once, remove_scratch
from ixt_data.storage.local import LocalStorage, atomic_write


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


def test_local_list_returns_all_files_below_a_prefix(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    keys = ["a/1", "a/b/c/2", "a/b/3", "d"]
    for key in keys:
        storage.create(key, b"")
    assert sorted(file.key for file in storage.list("")) == sorted(keys)
    assert [file.key for file in storage.list("a/b")] == ["a/b/3", "a/b/c/2"]
    assert [*storage.list("missing")] == []


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("folder", ["a", "a/b"])
def test_local_list_raises_when_a_folder_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, folder: str
) -> None:
    storage, scandir = LocalStorage(tmp_path), os.scandir
    storage.create("a/b/c", b"")

    def failing(path: str) -> object:
        if Path(path) == tmp_path / folder:
            raise OSError(number, os.strerror(number))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(OSError, match=os.strerror(number)):
        list(storage.list("a"))


def test_local_exists_raises_when_the_answer_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    storage.create("a", b"")
    assert (storage.exists("a"), storage.exists("b"), storage.exists("a/b")) == (True, False, False)

    def stale(path: Path, **options: bool) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "stat", stale)
    with pytest.raises(OSError, match="Stale"):
        storage.exists("a")


def test_local_create_recognizes_its_own_repeated_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Path.hardlink_to

    def repeated(path: Path, target: Path) -> None:
        link(path, target)
        link(path, target)

    monkeypatch.setattr(Path, "hardlink_to", repeated)
    assert LocalStorage(tmp_path).create("a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_scratch_that_cannot_be_deleted_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("shutil.rmtree", lambda folder, ignore_errors: None)
    with caplog.at_level(logging.WARNING):
        remove_scratch(tmp_path)
    assert f"{tmp_path} was not deleted" in caplog.text


class LostResponse(LocalStorage):
    """A storage that creates keys and then raises."""

    is_readable = True

    def create(self, key: str, data: bytes) -> bool:
        super().create(key, data)
        raise OSError(errno.EIO, "Input/output error")

    def read(self, key: str) -> bytes:
        if not self.is_readable:
            raise OSError(errno.ESTALE, "Stale file handle")
        return super().read(key)


def test_create_once_reads_a_lost_response_back(tmp_path: Path) -> None:
    storage = LostResponse(tmp_path)
    assert create_once(storage, "a", b"ours")
    assert not create_once(storage, "a", b"theirs")
    storage.is_readable = False
    with pytest.raises(WriteStateUnknown, match=r"/b: creating it failed .*Stale"):
        create_once(storage, "b", b"ours")
    with pytest.raises(OSError, match="full"):
        create_once(Full(tmp_path), "c", b"ours")


class Full(LocalStorage):
    """A storage without space: nothing is created."""

    def create(self, key: str, data: bytes) -> bool:
        raise OSError(errno.ENOSPC, "disk full")


def test_atomic_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def write(partial: Path) -> None:
        partial.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        atomic_write(path, write)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "before"
