import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_stores import add_documents

from ixt_data.annotate import annotate
from ixt_data.compact import choose, compact
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.errors import Aborted, SnapshotError
from ixt_data.gc import collect
from ixt_data.model import Critique, Document
from ixt_data.pins import Pin
from ixt_data.shards import TEXT_COLUMNS
from ixt_data.snapshot import RowsFile
from ixt_data.store import Store, Transaction

NOW = timedelta(0)


class Zero(EmbeddedCritic):
    name = "zero"

    def config(self) -> dict:
        return {}

    def judge(self, document: Document) -> Critique:
        return Critique(document.doc_id, score=0.0)


def files(store: Store) -> set[str]:
    root = Path(store.root)
    folders = [root / "shards", root / "meta", root / "_tmp"]
    return {p.relative_to(root).as_posix() for f in folders for p in f.rglob("*") if p.is_file()}


def age(store: Store, seconds: float) -> None:
    for path in Path(store.root).rglob("*"):
        when = time.time() - seconds
        os.utime(path, (when, when))


def many(store: Store, n: int) -> None:
    for i in range(n):
        add_documents(store, [f"{i}-{j}" for j in range(3)])


def test_compaction_keeps_the_rows_and_leaves_one_file(store: Store) -> None:
    many(store, 9)
    before = store.sql("SELECT * FROM documents ORDER BY doc_id").to_pylist()
    (merge,) = compact(store)
    assert (merge.files, merge.rows, merge.snapshot) == (9, 27, 10)
    assert len(store.snapshot().rows) == 1
    assert store.sql("SELECT * FROM documents").to_pylist() == before  # it is sorted by document
    assert compact(store) == []
    assert store.sql("SELECT count(*) AS n FROM documents", at=9)["n"].to_pylist() == [27]


def test_of_two_compactions_one_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    many(store, 9)
    annotate(store, "web", Zero())
    other, begin = Store.open(store.root), store.begin

    def late(*args: Any, **options: Any) -> Transaction:
        monkeypatch.setattr(store, "begin", begin)
        assert len(compact(other)) == 2
        return begin(*args, **options)

    # Both chose the same files, and the other one was done before this one began to write.
    monkeypatch.setattr(store, "begin", late)
    assert compact(store) == []
    for table in ("documents", "critiques"):
        assert store.sql(f"SELECT count(*) AS n FROM {table}")["n"].to_pylist() == [27]


def test_a_large_base_is_left_alone() -> None:
    sizes = [100_000, 10, 12, 9]
    lane = [RowsFile(f"{size}", "documents", "web", 1, size, "", {}) for size in sizes]
    assert [file.bytes for file in choose(lane)] == [9, 10, 12]


def test_what_only_old_versions_hold_goes(store: Store) -> None:
    many(store, 9)
    compact(store)
    old = {path for path in files(store) if path.startswith("meta/")} - {*store.snapshot().rows}
    assert collect(store, keep=NOW, keep_versions=1, dry_run=True).deleted.keys() == old
    assert files(store) >= old
    report = collect(store, keep=NOW, keep_versions=1)
    assert report.deleted.keys() == old
    assert files(store).isdisjoint(old)
    assert store.sql("SELECT count(*) AS n FROM documents")["n"].to_pylist() == [27]
    assert collect(store, keep=NOW, keep_versions=1).deleted == {}


def test_young_versions_and_tags_are_kept(store: Store) -> None:
    many(store, 9)
    store.tag("nine")
    compact(store)
    assert collect(store, keep=timedelta(hours=1), keep_versions=1).deleted == {}
    assert collect(store, keep=NOW, keep_versions=1).deleted == {}
    assert store.sql("SELECT count(*) AS n FROM documents", at="nine")["n"].to_pylist() == [27]
    with pytest.raises(SnapshotError, match="let go"):
        store.tag("gone", at=3)
    assert store.tags() == {"nine": 9}
    # A version below the oldest that another tag holds can still be tagged.
    assert store.tag("again", at=9) == 9


def test_a_job_holds_its_version_and_a_dead_one_does_not(store: Store) -> None:
    many(store, 9)
    with store.pins.held(9, "train") as pin:
        compact(store)
        assert collect(store, keep=NOW, keep_versions=1).deleted == {}
        assert store.pins.all().keys() == {pin.name}
    assert store.pins.all() == {}
    store.pins.create(Pin("dead", 10, datetime.now(UTC) - timedelta(seconds=1)))
    report = collect(store, keep=NOW, keep_versions=1)
    assert report.expired == ["dead"]
    assert len(report.deleted) == 9


def test_the_heartbeat_moves_the_end(store: Store) -> None:
    with store.pins.held(0, "train", timedelta(seconds=1.2)) as pin:
        time.sleep(2.5)
        assert store.pins.all()[pin.name].alive(datetime.now(UTC))


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


def test_a_stale_writer_is_fenced_and_stops(store: Store) -> None:
    many(store, 2)
    txn = slow(Store.open(store.root))
    assert collect(store).aborted == []
    age(store, 3 * 24 * 3600)
    report = collect(store)
    assert report.aborted == [txn.id]
    assert {key for key in report.deleted if txn.id in key} == {*report.deleted}
    with pytest.raises(Aborted, match="given up as stale"):
        txn.commit()
    assert store.snapshot().corpora["web"].documents == 6


def test_a_writer_in_time_is_not_touched(store: Store) -> None:
    many(store, 2)
    txn = slow(Store.open(store.root))
    assert collect(store, keep=NOW, keep_versions=1).deleted == {}
    assert txn.commit() == 4  # after the collection's own commit
    assert not any(p.is_file() for p in Path(store.root, "_tmp").rglob("*"))


def test_what_is_left_of_killed_writers_goes(store: Store) -> None:
    txn = store.begin("ingest")
    (txn.scratch / "half").write_text("x")
    age(store, 3 * 24 * 3600)
    assert len(collect(store).deleted) == 1
    assert files(store) == set()


def test_aligned_shards_stay_readable_after_everything(store: Store) -> None:
    many(store, 9)
    annotate(store, "web", Zero())
    compact(store)
    collect(store, keep=NOW, keep_versions=1)
    for shard in store.snapshot().shards:
        assert store.shard(shard).samples == 3
    assert store.sql("SELECT count(*) AS n FROM critiques")["n"].to_pylist() == [27]
