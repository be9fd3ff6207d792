"""Pins: they retain a version, and what cannot be read of them stops garbage collection."""

import errno
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_stores import add_commits
from store_files import age, files

from ixt_data.errors import CorruptError, SnapshotError, StoreError
from ixt_data.log import pins
from ixt_data.log.pins import Pin
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.storage.local import LocalStorage
from ixt_data.store.store import Store

NOW = timedelta(0)


def test_pin_of_a_running_job_retains_its_version(store: Store) -> None:
    add_commits(store, 9)
    with store.pins.hold(9, "train") as pin:
        compact(store)
        assert collect_garbage(store, keep=NOW, keep_versions=1).deleted == {}
        assert store.pins.all().keys() == {pin.name}
    assert store.pins.all() == {}
    store.pins.create(Pin("dead", 10, datetime.now(UTC) - timedelta(seconds=1)))
    report = collect_garbage(store, keep=NOW, keep_versions=1)
    assert report.expired == ["dead"]
    assert len(report.deleted) == 9


def test_heartbeat_extends_a_pin(store: Store) -> None:
    with store.pins.hold(0, "train", timedelta(seconds=1.2)) as pin:
        time.sleep(2.5)
        assert store.pins.all()[pin.name].is_valid(datetime.now(UTC))


@pytest.mark.parametrize("hours", [-5, 5])
def test_pin_with_a_wrong_clock_retains_its_version(
    store: Store, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=hours)

    add_commits(store, 9)
    monkeypatch.setattr(pins, "datetime", Wrong)
    with store.pins.hold(9, "train"):
        monkeypatch.undo()
        compact(store)
        report = collect_garbage(store, keep=NOW, keep_versions=1)
        assert (report.deleted, report.expired) == ({}, [])
        assert [*report.pins.values()] == [9]
        # The pin of a killed job expires on time, independent of its clock.
        age(store, 2 * 3600)
        assert len(collect_garbage(store, keep=NOW, keep_versions=1).expired) == 1


def test_heartbeat_continues_after_a_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_commits(store, 1)
    replace, failures = store.storage.replace, iter([OSError("no route"), StoreError("SlowDown")])

    def broken(key: str, data: bytes) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        replace(key, data)

    with store.pins.hold(1, "train", timedelta(seconds=1)) as pin:
        monkeypatch.setattr(store.storage, "replace", broken)
        time.sleep(1.5)
        assert store.pins.all()[pin.name].is_valid(datetime.now(UTC))
    assert [record.args and record.args[1] for record in caplog.records] != []
    assert "no route" in caplog.text
    assert "SlowDown" in caplog.text


def test_expired_pin_is_reported_to_its_job(store: Store) -> None:
    add_commits(store, 9)
    with store.pins.hold(9, "train") as pin:
        store.pins.release(pin.name)  # as garbage collection does after the end
        store.pins.renew(pin)  # nothing was expired meanwhile
        assert pin.name in store.pins.all()
        store.pins.release(pin.name)
        compact(store)
        collect_garbage(store, keep=NOW, keep_versions=1)
        with pytest.raises(SnapshotError, match="version 9 was expired"):
            store.pins.renew(pin)
        assert pin.name not in store.pins.all()


def test_read_only_store_needs_a_tag(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(key: str, data: bytes) -> bool:
        raise OSError(errno.EROFS, "Read-only file system", key)

    add_commits(store, 2)
    store.tag("two")
    monkeypatch.setattr(store.storage, "create", refuses)
    with store.pins.hold(2, "train"):
        pass
    with (
        pytest.raises(SnapshotError, match=r"1 cannot be pinned: Read-only .* ixt tag NAME --at 1"),
        store.pins.hold(1, "train"),
    ):
        pass


def test_truncated_pin_stops_garbage_collection(store: Store) -> None:
    add_commits(store, 9)
    store.tag("one", at=1)
    compact(store)
    Path(store.root, "_pins/one.json").write_text('{"version":')
    before = files(store)
    with pytest.raises(CorruptError, match=r"_pins/one\.json: truncated or changed"):
        collect_garbage(store, keep=NOW, keep_versions=1)
    assert files(store) == before


def test_incomplete_list_of_pins_stops_garbage_collection(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_commits(store, 9)
    store.tag("nine")
    compact(store)
    before, listed = files(store), LocalStorage.list

    def empty_pins(storage: LocalStorage, prefix: str) -> Any:
        return iter(()) if prefix == "_pins" else listed(storage, prefix)

    monkeypatch.setattr(LocalStorage, "list", empty_pins)
    with pytest.raises(StoreError, match=r"_pins cannot be listed: the list of 0 files omits"):
        collect_garbage(store, keep=NOW, keep_versions=1)
    with pytest.raises(StoreError, match="cannot be listed"):
        store.pins.now()
    assert files(store) == before


def test_pins_that_cannot_be_listed_stop_garbage_collection(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_commits(store, 9)
    store.tag("nine")
    compact(store)
    before, scandir = files(store), os.scandir

    def stale(path: str) -> Any:
        if Path(path).name == "_pins":
            raise OSError(errno.ESTALE, "Stale file handle")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(OSError, match="Stale"):
        collect_garbage(store, keep=NOW, keep_versions=1)
    assert files(store) == before
