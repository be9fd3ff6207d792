import math
from pathlib import Path

import pytest
from exported_stores import expected_rows
from streaming import StreamingDataset

from ixt_data.export import MatchedDocuments, export_mds
from ixt_data.ingestion.adoption import adopt
from ixt_data.store.store import Store


def test_mds_opens_in_a_stock_dataset(full: Store, tmp_path: Path) -> None:
    selected = MatchedDocuments(full, corpora=["web", "old"])
    report = export_mds(selected, tmp_path / "out", shard_bytes=500)
    dataset = StreamingDataset(local=str(tmp_path / "out"), shuffle=False, batch_size=1)
    samples = list(dataset)
    assert len(dataset.shards) > 2
    expected = {row["doc_id"].hex: row for row in expected_rows(full).values()}
    assert report.documents == len(samples) == 47
    for sample in samples:
        ours = expected[sample["doc_id"]]
        assert sample["critique"] == (ours["critique"] or "")
        assert sample["source_id"] == ours["source_id"]
        if ours["score"] is None:
            assert math.isnan(sample["score"])
        else:
            assert sample["score"] == pytest.approx(ours["score"])
    # And what was exported can be adopted again.
    again = Store.init(tmp_path / "again")
    adopt(again, "back", tmp_path / "out", id_field="source_id")
    ids = "SELECT doc_id FROM documents WHERE corpus IN ('web', 'old', 'back') ORDER BY doc_id"
    assert (
        again.sql(ids).arrow()["doc_id"].to_pylist() == full.sql(ids).arrow()["doc_id"].to_pylist()
    )
