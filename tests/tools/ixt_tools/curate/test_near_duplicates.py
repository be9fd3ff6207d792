"""Near-duplicates of real stores, through the command line."""

import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curated_store import Grumbler, run

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import ConfigError, MissingExtra, StoreError
from ixt_data.ingestion.corpus import ingest
from ixt_data.mix import Mix, plan_mix
from ixt_data.store.store import Store
from ixt_tools.curate.complaint_terms import group_complaints
from ixt_tools.curate.near_duplicates import mark_near_duplicates


def test_near_duplicates_become_columns(store: Store) -> None:
    before = store.snapshot().version
    report = run("dedupe", "--store", store.root)
    assert (report["documents"], report["clusters"], report["duplicates"]) == (26, 4, 5)
    assert report["largest"] == 3
    assert report["columns"] == ["near_dup", "near_dup_keep"]
    rows = (
        store.sql(
            "SELECT list(source_id ORDER BY source_id) AS own, "
            "max(source_id) FILTER (doc_id = near_dup) AS kept, "
            "count(*) FILTER (near_dup_keep) AS n "
            "FROM documents GROUP BY near_dup HAVING count(DISTINCT doc_id) > 1 ORDER BY own"
        )
        .arrow()
        .to_pylist()
    )
    assert [row["own"] for row in rows] == [
        ["books1", "web0", "web20"],
        *(["web1", "web21"], ["web2", "web22"], ["web23", "web3"]),
    ]
    # The copies are longer.
    assert [(row["kept"], row["n"]) for row in rows] == [(f"web2{i}", 1) for i in range(4)]
    # The same text in two corpora is one document, and its own keeper in both.
    both = store.sql(
        "SELECT near_dup_keep AS k FROM documents WHERE source_id IN ('web5', 'books0')"
    ).arrow()
    assert both["k"].to_pylist() == [True, True]
    assert "near_dup" not in store.sql("SELECT * FROM documents", at=before).arrow().column_names
    mix = Mix.model_validate(
        {"condition": {"kind": "none"}, "selections": [{"name": "x", "where": "near_dup_keep"}]}
    )
    assert plan_mix(mix, store=store).documents == 22


def test_columns_are_replaced_per_corpus_and_survive_compaction(store: Store) -> None:
    first = mark_near_duplicates(store)
    again = mark_near_duplicates(store, ["web"], keep="first", threshold=0.9)
    assert again.documents == 25
    kept = store.sql(
        "SELECT source_id FROM documents WHERE corpus = 'web' AND NOT near_dup_keep"
    ).arrow()
    assert sorted(kept["source_id"].to_pylist()) == ["web20", "web21", "web22", "web23"]
    old = store.sql(
        "SELECT count(*) AS n FROM documents WHERE NOT near_dup_keep", at=first.snapshot
    ).arrow()
    assert old["n"].to_pylist() == [5]
    run("compact", "--store", store.root, "--full")
    columns = store.sql("DESCRIBE documents").arrow().to_pylist()
    kinds = {row["column_name"]: row["column_type"] for row in columns}
    assert (kinds["near_dup"], kinds["near_dup_keep"]) == ("UUID", "BOOLEAN")
    assert run("verify", "--store", store.root)["ok"]


def test_keep_best_selects_the_best_of_a_cluster(store: Store) -> None:
    annotate(store, "web", Grumbler("flags"))
    mark_near_duplicates(store, ["web"], keep="best", column="dup")
    rows = store.sql(
        "SELECT max(score) = max(score) FILTER (dup_keep) AS best FROM documents "
        "JOIN critiques USING (doc_id) WHERE corpus = 'web' GROUP BY dup"
    ).arrow()
    assert set(rows["best"].to_pylist()) == {True}


def test_dedupe_refuses_invalid_arguments(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no corpus 'wbe' .*corpora: web, books"):
        mark_near_duplicates(store, ["wbe"])
    with pytest.raises(ConfigError, match="column 'source': it already exists"):
        mark_near_duplicates(store, column="source")
    with pytest.raises(
        ConfigError, match=r"threshold 1\.5 is not valid; use a similarity from 0\.1 to 0\.99"
    ):
        mark_near_duplicates(store, threshold=1.5)
    with pytest.raises(ConfigError, match="critic 'rules': only keep best compares scores"):
        mark_near_duplicates(store, critic="rules")
    with pytest.raises(StoreError, match="no critiques in"):
        mark_near_duplicates(store, keep="best")
    version = store.snapshot().version
    assert mark_near_duplicates(store, dry_run=True).duplicates == 5
    assert store.snapshot().version == version


def test_missing_extra_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ixt\[curate\]'"):
        mark_near_duplicates(store)
    annotate(store, "web", Grumbler("words"))
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(MissingExtra, match="scikit-learn"):
        group_complaints(store)


def test_columns_of_the_user_are_never_replaced(store: Store, tmp_path: Path) -> None:
    ids = [uuid.uuid4().bytes]
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16)))
    own = pa.table({"text": ["A text."], "near_dup": column, "near_dup_keep": [True]})
    pq.write_table(own, tmp_path / "a.parquet")
    ingest(store, "own", [tmp_path / "a.parquet"])
    with pytest.raises(ConfigError, match="column 'near_dup': it already exists"):
        mark_near_duplicates(store)
    assert store.sql("SELECT near_dup FROM documents WHERE corpus = 'own'").fetchall() == [
        (uuid.UUID(bytes=ids[0]),)
    ]
