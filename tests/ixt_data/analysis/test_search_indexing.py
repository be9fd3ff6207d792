"""Indexes as a family of the store: incremental, verified, repaired, collected."""

from datetime import timedelta
from pathlib import Path

import pytest
from small_stores import Length, add_documents

from ixt_data.analysis import build_indexes
from ixt_data.critique_runs import annotate
from ixt_data.maintenance import collect_garbage, repair, verify
from ixt_data.store.store import Store

TEXTS = [f"document {number} about foxes" for number in range(25)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.init(tmp_path / "S")
    add_documents(store, TEXTS)
    return store


def families(store: Store) -> dict[str, int]:
    counts: dict[str, int] = {}
    for shard in store.snapshot().shards:
        kind = shard.family.rpartition("-")[0] or shard.family
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def test_index_is_incremental(store: Store) -> None:
    first = build_indexes(store)
    assert (first.shards, first.skipped, first.texts) == (3, 0, 25)
    again = build_indexes(store)
    assert (again.shards, again.skipped) == (0, 3)
    assert again.snapshot == first.snapshot
    add_documents(store, ["a new fox"], "more")
    annotate(store, "web", Length())
    later = build_indexes(store, workers=2)
    # One text shard, three shards of critiques and three of thinking.
    assert (later.shards, later.skipped) == (7, 3)
    assert families(store)["search/text"] == 4
    assert store.search("fox").total == 1
    assert store.search("characters").total == 25


def test_index_of_one_field(store: Store) -> None:
    annotate(store, "web", Length())
    assert build_indexes(store, ["critique"]).shards == 3
    assert store.search("foxes").scanned == 50


def test_rebuild_replaces_indexes_and_gc_deletes_the_old_ones(store: Store) -> None:
    build_indexes(store)
    old = [shard.path for shard in store.snapshot().family("search/text")]
    assert build_indexes(store, rebuild=True).shards == 3
    assert len(store.snapshot().family("search/text")) == 3
    collect_garbage(store, keep_versions=1, keep=timedelta(0), grace=timedelta(0))
    assert not any((Path(store.root) / path).exists() for path in old)
    assert store.search("foxes").total == 25
    report = verify(store)
    assert report.problems == []
    assert report.orphans == []


def test_lost_index_is_found_repaired_and_built_again(store: Store) -> None:
    build_indexes(store)
    lost = store.snapshot().family("search/text")[1]
    (Path(store.root) / lost.path).write_bytes(b"damaged")
    report = verify(store)
    assert [problem.path for problem in report.problems] == [lost.path]
    assert "ixt search --index" in report.problems[0].remedy
    assert repair(store, report).repaired == [lost.path]
    assert store.search("foxes").scanned == 10
    assert build_indexes(store).shards == 1
    assert verify(store).problems == []


def test_indexes_of_replaced_critiques_are_dropped(store: Store) -> None:
    annotate(store, "web", Length())
    build_indexes(store)
    annotate(store, "web", Length(2))
    assert store.search("characters", fields=("critique",)).scanned == 25
    assert build_indexes(store).shards == 6
    result = store.search("characters", fields=("critique",))
    assert (result.total, result.scanned) == (25, 0)


def test_indexes_of_other_fields_are_left_alone(store: Store) -> None:
    build_indexes(store, ["text", "critique"])
    store.label(
        store.sql("SELECT doc_id::VARCHAR FROM documents").fetchall()[0][0], by="a", score=1
    )
    build_indexes(store, ["critique"])
    old = families(store)
    store.label(
        store.sql("SELECT doc_id::VARCHAR FROM documents").fetchall()[0][0], by="a", score=0
    )
    # The label has replaced the shard of labels, and its index is out of date.
    assert build_indexes(store, ["thinking"]).removed == 0
    assert families(store) == old
    assert verify(store).problems == []
    assert build_indexes(store, ["critique"]).removed == 1
