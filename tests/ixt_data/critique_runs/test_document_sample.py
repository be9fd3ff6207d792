"""A random sample of documents: each once, from a bounded number of shards."""

from pathlib import Path

from small_stores import add_documents

from ixt_data.critique_runs.document_sample import sample_documents
from ixt_data.records import Document
from ixt_data.store.store import Store


def sampled(store: Store, n: int, max_shards: int, seed: int = 1) -> list[Document]:
    snapshot = store.snapshot()
    shards = snapshot.text_shards({"web"})
    return sample_documents(store, snapshot, shards, n, max_shards=max_shards, seed=seed)


def test_sample_has_distinct_documents_of_a_few_shards(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    add_documents(store, [f"page {i}" for i in range(100)])
    found = sampled(store, 12, 3)
    assert len({one.doc_id for one in found}) == 12
    assert len({int(one.text.split()[1]) // 10 for one in found}) == 3
    assert found == sampled(store, 12, 3)
    assert found != sampled(store, 12, 3, seed=2)
    assert len(sampled(store, 500, 100)) == 100
    assert sample_documents(store, store.snapshot(), [], 5, max_shards=3) == []


def test_document_of_two_shards_is_sampled_once(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    add_documents(store, ["a", "b", "c"])
    add_documents(store, ["c", "d"])
    assert sorted(one.text for one in sampled(store, 9, 9)) == ["a", "b", "c", "d"]
