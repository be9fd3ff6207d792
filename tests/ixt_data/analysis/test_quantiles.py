"""Quantiles as a column of critiques."""

from typing import Any

import numpy as np
import pytest
from calibrated_store import Judge, as_json, by_length, noisy, ranks, text_of

from ixt_data.analysis import quantiles
from ixt_data.analysis.quantiles import write_quantiles
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import StoreError
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.verification import verify
from ixt_data.mix import Mix, plan_mix
from ixt_data.store.store import Store


def test_quantiles_are_a_column_of_the_next_snapshot(store: Store) -> None:
    before = store.snapshot().version
    raw = store.sql("SELECT doc_id, score FROM critiques ORDER BY ALL").arrow().to_pylist()
    report = as_json(store, "--critic", "length", "--write-quantiles", "q")["quantiles"]
    assert (report["documents"], report["snapshot"]) == (400, before + 1)
    assert store.sql("SELECT doc_id, score FROM critiques ORDER BY ALL").arrow().to_pylist() == raw
    x = np.array([by_length(text_of(i))[0] for i in range(0, 400, 2)])
    rows = (
        store.sql(
            "SELECT source_id::INT AS i, q FROM documents JOIN critiques USING (doc_id) "
            "WHERE critic = 'length' AND source = 'even' ORDER BY 1"
        )
        .arrow()
        .to_pylist()
    )
    expected = (ranks(x)) / len(x)
    assert [row["q"] for row in rows] == pytest.approx(expected.tolist())
    assert "q" not in store.sql("SELECT * FROM critiques LIMIT 1", at=before).arrow().column_names
    others = store.sql("SELECT count(q) AS n FROM critiques WHERE critic = 'noisy'").arrow()
    assert others["n"].to_pylist() == [0]

    selections = [{"name": "upper", "where": "q > 0.5"}]
    mix = Mix.model_validate({"critic": "length", "selections": selections})
    upper = sum(row["q"] > 0.5 for row in rows)
    assert plan_mix(mix, store=store, samples=64).selections[0].documents == 2 * upper

    annotate(store, "web", Judge("length", noisy, version=2))
    assert store.sql("SELECT count(q) AS n FROM critiques").arrow()["n"].to_pylist() == [0]
    assert write_quantiles(store, "length", "q").documents == 400
    counts = "SELECT count(q) AS n, count(*) AS rows FROM critiques_all"
    assert store.sql(counts).arrow().to_pylist() == [{"n": 400, "rows": 1200}]


def test_quantiles_survive_a_concurrent_compaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, races = quantiles._write_values, iter([True, False])

    def racing(*arguments: Any) -> int:
        if next(races):
            assert compact(store, full=True)
        return write(*arguments)

    monkeypatch.setattr(quantiles, "_write_values", racing)
    assert write_quantiles(store, "length", "q").documents == 400
    counts = "SELECT critic, count(*) AS n, count(q) AS q FROM critiques_all GROUP BY 1 ORDER BY 1"
    assert store.sql(counts).arrow().to_pylist() == [
        {"critic": "length", "n": 400, "q": 400},
        {"critic": "noisy", "n": 400, "q": 0},
    ]
    assert verify(store).problems == []
    # And compaction keeps the column.
    compact(store, full=True)
    assert [row["q"] for row in store.sql(counts).arrow().to_pylist()] == [400, 0]


@pytest.mark.parametrize("name", ["score", "source", "n_chars", "a b", "generation"])
def test_quantiles_refuse_an_existing_column(name: str, store: Store) -> None:
    with pytest.raises(StoreError, match="column"):
        write_quantiles(store, "length", name)
