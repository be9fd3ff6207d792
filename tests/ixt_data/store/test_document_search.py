"""Search in a snapshot: the same matches by an index and by a scan."""

from pathlib import Path

import pytest
from small_stores import Length, add_documents

from ixt_data.analysis import build_indexes
from ixt_data.critique_runs import annotate
from ixt_data.errors import QueryError, StoreError
from ixt_data.store.document_search import search_documents, search_table
from ixt_data.store.store import Store

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A brown dog and a brown fox. " * 3,
    "Foxes don't jump; они не прыгают.",
    "这是中文字。",
    "snake_case and camelCase, Straße and CAFÉ",
    "ο ΟΔΥΣΣΕΥΣ in İstanbul",
    "का",
    "cafe\u0301 cafe❤️fox fox中 นี่fox",
    *(f"filler number {n}" for n in range(30)),
]
SEARCHES = [
    *("fox", "brown fox", '"brown fox"', "jum*", '"the la*"', "fox -lazy", "don't", "они"),
    *("οδυσσευς", "ΟΔΥΣΣΕΥΣ", "İstanbul", "istanbul", "कि", "का", "cafe", "cafe\u0301", "caf*"),
    *('"cafe fox"', "นี", "นี่", "fox中", "strasse", "STRASSE", "i\u0307*"),
    *("中文", "文中", "straße", "café", "snake_case", "filler", "nosuchword", "characters", "hm"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("search") / "S")
    add_documents(store, TEXTS, per_shard=6)
    annotate(store, "web", Length())
    return store


@pytest.fixture(scope="module")
def indexed(store: Store) -> Store:
    """The same store with its indexes, which later versions have."""
    build_indexes(store)
    return store


def found(store: Store, words: str, at: int) -> list[tuple[str, str]]:
    result = store.search(words, at=at, limit=100)
    assert result.total == len(result.hits)
    return sorted((hit.field, hit.source_id) for hit in result.hits)


@pytest.mark.parametrize("words", SEARCHES)
def test_index_finds_what_a_scan_finds(indexed: Store, words: str) -> None:
    before = next(
        entry.version
        for entry in indexed.log.entries(1, indexed.log.newest())
        if entry.op == "index"
    )
    scanned = indexed.search(words, at=before - 1, limit=100)
    assert scanned.scanned > 0
    by_index = indexed.search(words, limit=100)
    assert by_index.scanned == 0
    assert found(indexed, words, before - 1) == found(indexed, words, indexed.log.newest())
    for hit in by_index.hits:
        assert hit.snippet.marks
    assert [hit.rank for hit in by_index.hits] == list(range(1, len(by_index.hits) + 1))


def test_hits_are_in_the_order_of_relevance(indexed: Store) -> None:
    hits = indexed.search("brown fox", fields=("text",)).hits
    assert [hit.source_id for hit in hits] == ["1", "0"]
    assert hits[0].relevance > hits[1].relevance
    assert hits[0].corpus == "web"


def test_predicate_filters_hits(indexed: Store) -> None:
    assert indexed.search("filler", where="n_chars > 15 AND score > 0").total == 20
    assert indexed.search("filler", where="n_chars > 15", limit=3).total == 20
    with pytest.raises(QueryError, match="nosuch"):
        indexed.search("filler", where="nosuch > 15")


def test_fields_and_critics_are_checked(indexed: Store) -> None:
    assert indexed.search("characters", fields=("text",)).total == 0
    snapshot = indexed.snapshot()
    assert search_documents(indexed, snapshot, "characters", critics=["length"]).total == len(TEXTS)
    with pytest.raises(QueryError, match="valid: text, critique, thinking"):
        indexed.search("fox", fields=("title",))
    with pytest.raises(StoreError, match="critics: length"):
        search_documents(indexed, snapshot, "fox", critics=["nosuch"])


def test_scan_has_a_limit(store: Store) -> None:
    at = store.snapshot(2)
    result = search_documents(store, at, "filler", scan_bytes=1500, fields=("text",))
    assert result.scanned
    assert result.unsearched
    assert result.scanned + result.unsearched == len(TEXTS)


def test_sql_refuses_an_incomplete_search(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixt_data.store.document_search.SCAN_BYTES", 1500)
    with pytest.raises(QueryError, match="ixt search --index"):
        search_table(store, store.snapshot(1), "filler")


def test_document_of_two_corpora_is_one_hit(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    add_documents(store, ["one fox", "two"], "web")
    add_documents(store, ["one fox", "three"], "books")
    for _ in range(2):
        result = store.search("fox")
        assert (result.total, len(result.hits)) == (1, 1)
        build_indexes(store)


def test_empty_store_has_no_hits(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    assert store.search("fox").total == 0
    build_indexes(store)
    assert store.search("fox").total == 0
