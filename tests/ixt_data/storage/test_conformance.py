"""What a place must promise, and the copies of one that is elsewhere."""

import time
from pathlib import Path

import pytest

from ixt_data.errors import StoreError
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
        (Looks, "of 8 concurrent writers"),
        (Refuses, "Operation not permitted"),
    ],
)
def test_probe_refuses_storage_without_put_if_absent(
    tmp_path: Path, place: type[LocalStorage], why: str
) -> None:
    with pytest.raises(StoreError, match=f"cannot contain a store: .*{why}"):
        probe(place(tmp_path))
    assert [*tmp_path.iterdir()] == []


def test_init_deletes_probe_keys(tmp_path: Path) -> None:
    Store.init(tmp_path / "store")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["_reserve", "ixt.json"]
