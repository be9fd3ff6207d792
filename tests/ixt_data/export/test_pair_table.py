"""The pairs of a train run: one of each prompt, chosen by scores."""

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from answered_prompts import write_store

from ixt_data.errors import ConfigError
from ixt_data.export import MatchedDocuments, PairTable, write_pairs
from ixt_data.records import document_id
from ixt_data.store.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    # Two of the worse answers to each prompt have one score: 5 and 6 are wrong by 4 or more.
    return write_store(tmp_path_factory.mktemp("pairs"), prompts=40, errors=(0, 5, 6))


def rows_of(path: Path) -> list[dict[str, object]]:
    return pa.ipc.open_file(str(path)).read_all().to_pylist()


def test_each_prompt_has_one_pair_and_of_equal_scores_the_lowest_id(
    store: Store, tmp_path: Path
) -> None:
    paths = [tmp_path / "one.arrow", tmp_path / "two.arrow"]
    assert write_pairs(MatchedDocuments(store, workers=1), paths[0], 0.1) == (40, 120)
    write_pairs(MatchedDocuments(store, workers=3), paths[1], 0.1)
    rows = rows_of(paths[0])
    assert rows == rows_of(paths[1])
    assert [row["better_id"] for row in rows] == sorted(row["better_id"] for row in rows)
    sql = "SELECT documents.doc_id, documents.off_by FROM documents"
    off_by = {doc_id.bytes: error for doc_id, error in store.sql(sql).fetchall()}
    texts = {bytes(row["doc_id"]): row["text"] for row in _texts(store)}
    for row in rows:
        assert off_by[row["better_id"]] == 0
        prompt = texts[row["better_id"]].rpartition(',{"role"')[0]
        tied = [i for i, text in texts.items() if text.startswith(f"{prompt},") and off_by[i]]
        assert len(tied) == 2
        assert row["worse_id"] == min(tied)


def _texts(store: Store) -> list[dict[str, object]]:
    return [
        row
        for shard in store.snapshot(None).text_shards(None)
        for row in store.shard(shard).rows(("doc_id", "text"))
    ]


def test_table_finds_the_worse_answer_also_after_a_pickle(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "pairs.arrow"
    write_pairs(MatchedDocuments(store), path, 0.1)
    table = pickle.loads(pickle.dumps(PairTable(path)))
    assert len(table) == 40
    for row in rows_of(path):
        worse_id, message = table.worse(row["better_id"])
        assert worse_id == row["worse_id"]
        assert message["role"] == "assistant"
    for unknown in (document_id("no such"), bytes(16), b"\xff" * 16):
        with pytest.raises(ConfigError, match="is not the better answer of a pair in"):
            table.worse(unknown)


def test_ids_that_end_with_zeros_are_found(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "pairs.arrow"
    write_pairs(MatchedDocuments(store), path, 0.1)
    whole = pa.ipc.open_file(str(path)).read_all()
    ids = [bytes([n]) * 3 + bytes(13) for n in range(len(whole))]
    changed = whole.set_column(0, whole.schema.field(0), pa.array(ids, pa.binary(16)))
    other = tmp_path / "zeros.arrow"
    with pa.ipc.new_file(str(other), whole.schema) as writer:
        # In several parts, as a large table has them.
        writer.write_table(changed, max_chunksize=7)
    table = PairTable(other)
    found = [table.worse(doc_id)[0] for doc_id in ids]
    assert found == whole["worse_id"].to_pylist()
    with pytest.raises(ConfigError, match="is not the better answer"):
        table.worse(bytes([1]) * 3 + bytes(12) + b"\x01")
