"""Garbage collection: what it deletes, and what it retains."""

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_stores import add_commits
from store_files import age, files

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import SnapshotError, TransactionAborted
from ixt_data.log import checkpoint
from ixt_data.log.snapshot import Entry
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import repair, verify
from ixt_data.mds.shards import TEXT_COLUMNS
from ixt_data.records import Critique, Document
from ixt_data.storage.local import LocalStorage
from ixt_data.store.store import Store, Transaction

NOW = timedelta(0)


class Zero(EmbeddedCritic):
    name = "zero"

    def config(self) -> dict:
        return {}

    def judge(self, document: Document) -> Critique:
        return Critique(document.doc_id, score=0.0)


def test_files_of_expired_versions_are_deleted(store: Store) -> None:
    add_commits(store, 9)
    compact(store)
    old = {path for path in files(store) if path.startswith("meta/")} - {*store.snapshot().rows}
    assert collect_garbage(store, keep=NOW, keep_versions=1, dry_run=True).deleted.keys() == old
    assert files(store) >= old
    report = collect_garbage(store, keep=NOW, keep_versions=1)
    assert report.deleted.keys() == old
    assert files(store).isdisjoint(old)
    assert store.sql("SELECT count(*) AS n FROM documents").arrow()["n"].to_pylist() == [27]
    assert collect_garbage(store, keep=NOW, keep_versions=1).deleted == {}


def test_recent_versions_and_tags_are_retained(store: Store) -> None:
    add_commits(store, 9)
    store.tag("nine")
    compact(store)
    assert collect_garbage(store, keep=timedelta(hours=1), keep_versions=1).deleted == {}
    assert collect_garbage(store, keep=NOW, keep_versions=1).deleted == {}
    assert store.sql("SELECT count(*) AS n FROM documents", at="nine").arrow()["n"].to_pylist() == [
        27
    ]
    with pytest.raises(SnapshotError, match="was expired"):
        store.tag("gone", at=3)
    assert store.tags() == {"nine": 9}
    # A version below the oldest that another tag holds can still be tagged.
    assert store.tag("again", at=9) == 9


def slow(store: Store) -> Transaction:
    """A transaction that has uploaded everything but its log entry."""
    txn = store.begin("ingest")
    family = txn.family("text", "web", TEXT_COLUMNS)
    family.write({"doc_id": b"x" * 16, "source": "", "source_id": "", "text": "x"})
    family.cut()
    family.close()
    paths = [path for path in txn.scratch.rglob("*") if path.is_file()]
    store.storage.publish({p.relative_to(txn.scratch).as_posix(): p for p in paths})
    txn._families.clear()
    return txn


def test_stale_writer_is_aborted_and_stops(store: Store) -> None:
    add_commits(store, 2)
    txn = slow(Store.open(store.root))
    assert collect_garbage(store).aborted == []
    age(store, 3 * 24 * 3600)
    report = collect_garbage(store)
    assert report.aborted == [txn.id]
    assert {key for key in report.deleted if txn.id in key} == {*report.deleted}
    with pytest.raises(TransactionAborted, match="aborted as stale"):
        txn.commit()
    assert store.snapshot().corpora["web"].documents == 6


def commit_after_a_collection(store: Store) -> None:
    with Store.open(store.root).begin("ingest") as txn:
        family = txn.family("text", "web", TEXT_COLUMNS)
        family.write({"doc_id": b"x" * 16, "source": "", "source_id": "", "text": "x"})
        family.cut()
        age(store, 3 * 24 * 3600)
        assert collect_garbage(store).aborted == [txn.id]
        txn.commit()


def test_aborted_writer_reports_the_reason(store: Store) -> None:
    add_commits(store, 2)
    with pytest.raises(TransactionAborted, match="aborted as stale by version 3"):
        commit_after_a_collection(store)


def test_active_writer_is_not_aborted(store: Store) -> None:
    add_commits(store, 2)
    txn = slow(Store.open(store.root))
    assert collect_garbage(store, keep=NOW, keep_versions=1).deleted == {}
    assert txn.commit() == 4  # after the collection's own commit
    assert not any(p.is_file() for p in Path(store.root, "_tmp").rglob("*"))


def test_empty_folders_of_killed_writers_are_removed(store: Store) -> None:
    killed, active = store.begin("ingest").scratch, store.begin("ingest").scratch
    (killed / "shards" / "text").mkdir(parents=True)
    old = time.time() - 3 * 24 * 3600
    for path in (killed / "shards" / "text", killed / "shards", killed):
        os.utime(path, (old, old))
    collect_garbage(store)
    assert [*Path(store.root, "_tmp").iterdir()] == [active]


def test_files_of_killed_writers_are_deleted(store: Store) -> None:
    txn = store.begin("ingest")
    (txn.scratch / "half").write_text("x")
    age(store, 3 * 24 * 3600)
    assert len(collect_garbage(store).deleted) == 1
    assert files(store) == set()


def test_aligned_shards_stay_readable(store: Store) -> None:
    add_commits(store, 9)
    annotate(store, "web", Zero())
    compact(store)
    collect_garbage(store, keep=NOW, keep_versions=1)
    for shard in store.snapshot().shards:
        assert store.shard(shard).samples == 3
    assert store.sql("SELECT count(*) AS n FROM critiques").arrow()["n"].to_pylist() == [27]


def test_temporary_files_next_to_the_log_are_deleted(store: Store) -> None:
    add_commits(store, 1)
    beside = Path(store.root, "_log", ".00000000000000000002.json.abc.tmp")
    beside.write_text("{")
    assert collect_garbage(store).deleted == {}
    age(store, 3 * 24 * 3600)
    assert collect_garbage(store).deleted.keys() == {f"_log/{beside.name}"}
    assert not beside.exists()
    assert Store.open(store.root).snapshot().version == 1


def test_checkpoints_of_expired_versions_are_deleted(store: Store) -> None:
    for i in range(160):
        store.log.commit(Entry(0, f"{i}", "critique"), i)
    store.tag("old", at=60)
    state = store.snapshot(60)
    gone = collect_garbage(store, keep=NOW, keep_versions=5).deleted
    # Version 60 is built from 50, and the retained ones from 150.
    assert {key.split("/")[1].lstrip("0") for key in gone} == {"100"}
    assert Store.open(store.root).snapshot(60) == state
    assert Store.open(store.root).snapshot(120).version == 120
    store.untag("old")
    assert len(collect_garbage(store, keep=NOW, keep_versions=5).deleted) == 5
    assert Store.open(store.root).snapshot().rows == state.rows


def test_checkpoint_that_another_one_continues_is_retained(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "RECORDS_PER_ENTRY", 1)
    for i in range(260):
        store.log.commit(Entry(0, f"{i}", "critique"), i)
    # Complete checkpoints are 50, 150 and 300; 100, 200 and 250 continue them.
    gone = collect_garbage(store, keep=NOW, keep_versions=5).deleted
    assert {key.split("/")[1].lstrip("0") for key in gone} == {"50", "100", "200"}
    assert verify(store).problems == []
    base = Path(store.root, checkpoint.key(150, "files.parquet"))
    base.write_bytes(base.read_bytes()[:-1])
    assert {problem.path for problem in verify(store).problems} == {checkpoint.key(150, base.name)}
    repaired = repair(Store.open(store.root), verify(store)).repaired
    assert set(repaired) == {checkpoint.key(150, base.name)}
    assert verify(store).problems == []
    assert Store.open(store.root).snapshot() == store.snapshot()


def test_checkpoint_deleted_during_a_read_is_ignored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(120):
        store.log.commit(Entry(0, f"{i}", "critique"), i)
    reader, read = Store.open(store.root), LocalStorage.read

    def read_late(storage: LocalStorage, key: str) -> bytes:
        data = read(storage, key)
        if key == "_checkpoint/00000000000000000050/state.json":
            collect_garbage(store, keep=NOW, keep_versions=1)
        return data

    monkeypatch.setattr(LocalStorage, "read", read_late)
    assert reader.snapshot(60).version == 60
    assert not Path(store.root, "_checkpoint/00000000000000000050").exists()


def test_killed_collector_leaves_no_partial_checkpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(120):
        store.log.commit(Entry(0, f"{i}", "critique"), i)
    unlink = Path.unlink

    def killed_after_one(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if "_checkpoint" in path.parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed_after_one)
        with pytest.raises(KeyboardInterrupt):
            collect_garbage(store, keep=NOW, keep_versions=1)
    assert len(list(Path(store.root, "_checkpoint/00000000000000000050").iterdir())) == 4
    assert Store.open(store.root).snapshot(60).version == 60


def test_expired_version_error_says_so(store: Store) -> None:
    add_commits(store, 9)
    compact(store)
    collect_garbage(store, keep=NOW, keep_versions=1)
    with pytest.raises(SnapshotError, match=r"version 3 was expired .* from 10 on"):
        store.sql("SELECT * FROM documents", at=3).arrow()


def test_collector_with_a_wrong_clock_retains_recent_versions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_commits(store, 9)
    compact(store)

    class NextYear(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=365)

    monkeypatch.setattr("ixt_data.maintenance.garbage_collection.datetime", NextYear)
    assert collect_garbage(store, keep_versions=1).deleted == {}
    assert store.snapshot().min_version == 0
