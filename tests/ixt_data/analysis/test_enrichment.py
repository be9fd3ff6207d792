"""Enrichers write columns next to the documents, once per document, in one commit."""

from pathlib import Path

import pytest
from small_stores import add_documents

from ixt_data.analysis import enrich, load_enricher
from ixt_data.analysis.text_enrichers import TextStatistics
from ixt_data.errors import ConfigError, StoreError
from ixt_data.maintenance import verify
from ixt_data.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.init(tmp_path / "S")


SQL = "SELECT source_id, n_words, n_lines, compression_ratio FROM documents"


def test_statistics_are_columns_of_a_new_snapshot(store: Store) -> None:
    add_documents(store, ["one two", "a\\nb", "word " * 500])
    before = store.snapshot().version
    report = enrich(store, "statistics", load_enricher("statistics"))
    assert report.snapshot == before + 1
    assert report.documents == 3
    rows = {row[1:3] for row in store.sql(SQL)}
    assert rows >= {(2, 1), (500, 1)}
    assert max(row[3] for row in store.sql(SQL)) > 20
    assert "n_words" not in store.catalog(before).columns["documents"]
    assert verify(store).problems == []


def test_existing_columns_need_replace(store: Store) -> None:
    add_documents(store, ["one two"])
    enrich(store, "statistics", TextStatistics())
    with pytest.raises(StoreError, match="column 'n_words' exists already"):
        enrich(store, "statistics", TextStatistics())
    enrich(store, "statistics", TextStatistics(), replace=True)
    assert [row[1] for row in store.sql(SQL)] == [2]


def test_later_documents_have_null(store: Store) -> None:
    add_documents(store, ["one two"])
    enrich(store, "statistics", TextStatistics())
    add_documents(store, ["new words here"])
    assert sorted((row[1] for row in store.sql(SQL)), key=str) == [2, None]


def test_a_base_column_is_never_replaced(store: Store) -> None:
    class Bad(TextStatistics):
        columns = {"corpus": "VARCHAR"}  # noqa: RUF012

    add_documents(store, ["one"])
    for name in ("corpus", "Score", "text", "reviewer", "_ixt_shard"):
        Bad.columns = {name: "VARCHAR"}
        with pytest.raises(StoreError, match=f"column '{name}': the views"):
            enrich(store, "bad", Bad(), replace=True)


def test_unknown_enricher_names_valid_ones() -> None:
    with pytest.raises(ConfigError, match="enricher 'stats' does not exist; valid are language, s"):
        load_enricher("stats")


def test_unknown_corpus_names_valid_ones(store: Store) -> None:
    add_documents(store, ["one two"])
    version = store.snapshot().version
    with pytest.raises(StoreError, match=r"no corpus 'wbe' in .*; corpora: web"):
        enrich(store, "statistics", TextStatistics(), corpora=("web", "wbe"))
    assert store.snapshot().version == version


def test_empty_store_has_nothing_to_enrich(store: Store) -> None:
    with pytest.raises(StoreError, match="no documents"):
        enrich(store, "statistics", TextStatistics())
