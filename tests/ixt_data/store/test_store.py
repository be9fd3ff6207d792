from pathlib import Path

import pytest
from small_stores import Length, add_documents

from ixt_data.analysis.snapshot_diff import diff
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CriticError, QueryError, SnapshotError, StoreError
from ixt_data.records import document_id, format_id, parse_id
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store, open_store


def test_shards_and_rows_appear_together(store: Store) -> None:
    assert store.snapshot().version == 0
    version = add_documents(store, [f"text {i}" for i in range(25)])
    snapshot = store.snapshot()
    assert version == snapshot.version == 1
    assert [shard.samples for shard in snapshot.text_shards()] == [10, 10, 5]
    assert snapshot.corpora["web"].documents == 25
    assert store.shard(snapshot.text_shards()[1]).column("text")[0] == "text 10"


def test_transaction_without_commit_leaves_no_files(store: Store) -> None:
    def break_off() -> None:
        with store.begin("ingest") as txn:
            txn.family("text", "web", {"doc_id": "bytes"}).write({"doc_id": b"x"})
            raise RuntimeError("failure")

    with pytest.raises(RuntimeError, match="failure"):
        break_off()
    names = sorted(p.name for p in Path(store.root).rglob("*") if p.is_file())
    assert names == ["_reserve", "ixt.json"]


def test_time_travel_and_tags(store: Store) -> None:
    add_documents(store, ["one"])
    assert store.tag("first") == 1
    add_documents(store, ["two"])
    count = "SELECT count(*) AS n FROM documents"
    assert store.sql(count).arrow()["n"].to_pylist() == [2]
    assert store.sql(count, at="first").arrow()["n"].to_pylist() == [1]
    assert store.sql(count, at=0).arrow()["n"].to_pylist() == [0]
    assert store.tag("first", at=1) == 1
    with pytest.raises(SnapshotError, match="tags do not move"):
        store.tag("first")
    with pytest.raises(SnapshotError, match="tags: first"):
        store.snapshot("frist")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "-x", "7"])
def test_tag_refuses_invalid_names(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="tag"):
        store.tag(name)


def test_open_missing_store_and_init_existing_store_are_refused(
    tmp_path: Path, store: Store
) -> None:
    with pytest.raises(StoreError, match="ixt init"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(StoreError, match="already is a store"):
        Store.init(store.root)


@pytest.mark.parametrize("store_format", [1, 3])
def test_store_of_another_format_is_refused_with_remedy(store: Store, store_format: int) -> None:
    Path(store.root, "ixt.json").write_text(f'{{"format": {store_format}}}')
    with pytest.raises(StoreError) as refused:
        open_store(store.root)
    assert str(refused.value) == (
        f"{store.root} has store format {store_format}, this version of ixt reads format 2. "
        "Ingest its data again with this version, or install the ixt version that created it"
    )


def test_ids_in_and_out() -> None:
    doc_id = document_id("text")
    assert len(doc_id) == 16
    assert parse_id(format_id(doc_id)) == parse_id(doc_id.hex()) == doc_id


def test_diff_lists_changes_between_snapshots(store: Store) -> None:
    add_documents(store, ["a", "bb"])
    annotate(store, "web", Length())
    store.tag("before")
    add_documents(store, ["ccc"])
    add_documents(store, ["dddd"], "books")
    annotate(store, "web", Length(version=2))
    changes = diff(store, "before")
    assert (changes["from"], changes["to"]) == (2, 6)
    assert changes["documents"] == [
        {"corpus": "books", "added": 1, "removed": 0},
        {"corpus": "web", "added": 1, "removed": 0},
    ]
    (critic,) = changes["critiques"]
    assert (critic["added"], critic["removed"], critic["rescored"], critic["higher"]) == (
        1,
        0,
        2,
        2,
    )
    assert critic["mean_change"] == pytest.approx(0.15)
    assert {s["family"].split("-")[0]: s["added"] for s in changes["shards"]} == {
        "text": 2,
        "critique/length": 2,
    }
    assert diff(store, 6, "before")["documents"][0]["removed"] == 1
    assert diff(store, "before", 2)["critiques"] == []


def test_open_store_refuses_an_empty_root_and_expands_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="the root of the store is empty"):
        open_store("", create=True)
    open_store("~/S", create=True)
    assert (tmp_path / "S/ixt.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["S"]


def test_annotate_refuses_what_is_not_a_critic(store: Store) -> None:
    with pytest.raises(CriticError, match=r"'rules' is not a critic; create one by load_critic"):
        annotate(store, "web", "rules")  # type: ignore[arg-type]


def test_save_selection_refuses_an_empty_predicate(store: Store) -> None:
    with pytest.raises(QueryError, match="the predicate is empty"):
        save_selection(store, "x", " ")
