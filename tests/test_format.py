"""docs/format.md is enough to read a store: a reader that uses only its facts finds what we do."""

import math
from pathlib import Path

import pytest
from format_reader import samples, snapshot, table

from ixt_data.critics.registry import load_critic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.ingestion import ingest
from ixt_data.maintenance.compaction import compact
from ixt_data.store.store import Store
from ixt_tools.demo.clock_arithmetic import write_corpus

HERE = Path(__file__).parent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.init(tmp_path / "store")
    for seed in (0, 1):
        sums, _ = write_corpus(tmp_path, documents=30, bad=0.5, seed=seed, problems=1)
        ingest(store, "sums", [sums], id_field="id")
        annotate(store, "sums", load_critic("arithmetic"))
    # Compaction replaces files of rows; their critiques stay the latest.
    compact(store)
    return store


def test_the_reader_is_short_and_knows_only_the_specification() -> None:
    text = (HERE / "support" / "format_reader.py").read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 60
    assert "ixt_" not in text
    assert "streaming" not in text.split('"""')[2]


def test_a_reader_of_the_specification_finds_every_document_and_critique(store: Store) -> None:
    version = store.snapshot().version
    rows, shards, critics = snapshot(Path(store.root), version)
    assert [critic["name"] for critic in critics.values()] == ["arithmetic"]
    texts = {
        path: samples(Path(store.root), s) for path, s in shards.items() if s["family"] == "text"
    }
    joined = {}
    for shard in shards.values():
        if not shard["family"].startswith("critique/"):
            continue
        judged = samples(Path(store.root), shard)
        assert [j["doc_id"] for j in judged] == [t["doc_id"] for t in texts[shard["aligned_with"]]]
        joined |= {
            j["doc_id"]: (t, j) for t, j in zip(texts[shard["aligned_with"]], judged, strict=True)
        }
    ours = store.sql("SELECT * FROM documents JOIN critiques USING (doc_id)").arrow().to_pylist()
    assert len(ours) == len(joined) == 60
    for row in ours:
        text, critique = joined[row["doc_id"].bytes]
        assert text["source_id"] == row["source_id"]
        assert len(text["text"]) == row["n_chars"]
        assert critique["critique"] == row["critique"]
        assert math.isclose(critique["score"], row["score"], rel_tol=1e-6)
        assert len(critique["spans"]) == row["n_spans"]
    theirs = {row["doc_id"]: row["critique"] for row in table(Path(store.root), rows, "critiques")}
    assert theirs == {row["doc_id"]: row["critique"] for row in ours}
    assert len(table(Path(store.root), rows, "documents")) == 60


def test_a_reader_of_the_specification_travels_in_time_and_notices_damage(store: Store) -> None:
    root = Path(store.root)
    _, shards, _ = snapshot(root, 1)
    assert [shard["family"] for shard in shards.values()] == ["text"]
    entry = root / "_log" / f"{2:020d}.json"
    entry.write_bytes(entry.read_bytes().replace(b"arithmetic", b"arithmetiC", 1))
    with pytest.raises(AssertionError, match="not what was written"):
        snapshot(root, 2)
