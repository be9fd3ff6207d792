"""Differences between snapshots: columns that were added, changed or lost."""

import json
from collections.abc import Mapping
from pathlib import Path

from command_line import as_json, ixt
from small_stores import Length, add_documents

from ixt_data.analysis.enrichment import enrich
from ixt_data.analysis.snapshot_diff import diff
from ixt_data.critique_runs.annotation import annotate
from ixt_data.store.store import Store


def test_new_columns_are_a_difference_with_their_number_of_values(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one two", "n": 1}\n{"text": "three", "n": 2}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "four", "n": 2.5}\n')
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    ixt("enrich", "--with", "statistics", folder=tmp_path)
    changed = {one["column"]: one for one in as_json("diff", "1", "2", folder=tmp_path)["columns"]}
    assert set(changed) == {"n_words", "n_lines", "compression_ratio"}
    assert changed["n_words"] == {
        "view": "documents",
        "column": "n_words",
        "change": "added",
        "before": None,
        "after": "BIGINT",
        "values": 2,
    }
    assert "n_words" in ixt("diff", "1", "2", folder=tmp_path).stdout
    back = as_json("diff", "2", "1", folder=tmp_path)["columns"]
    assert {one["change"] for one in back} == {"removed"}
    ixt("ingest", "--corpus", "web", "b.jsonl", folder=tmp_path)
    (widened,) = as_json("diff", "2", "3", folder=tmp_path)["columns"]
    assert (widened["column"], widened["change"]) == ("n", "type")
    assert (widened["before"], widened["after"]) == ("BIGINT", "DOUBLE")


def test_changes_are_listed_down_to_documents(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 8)):
        records = [
            {"id": f"page-{n}", "text": f"text {n}", "n": n} for n in range(first, first + 8)
        ]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / f"{name}.jsonl").write_text(text)
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    ixt("critique", "--corpus", "web", "--critic", "rules", folder=tmp_path)
    ixt("tag", "v1", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "b.jsonl", folder=tmp_path)
    added = as_json("diff", "v1", "--show", "3", folder=tmp_path)["changed"]
    assert added["added"]["total"] == 8
    assert len(added["added"]["documents"]) == 3
    assert {one["source_id"] for one in added["added"]["documents"]} < {
        f"page-{n}" for n in range(8, 16)
    }
    assert added["removed"] == {"total": 0, "documents": []}
    removed = as_json("diff", "3", "v1", folder=tmp_path)["changed"]
    assert removed["removed"]["total"] == 8
    assert removed["values"] == []
    text = ixt("diff", "v1", "--show", "3", folder=tmp_path).stdout
    assert "added: 3 of 8 documents" in text


class Doubled:
    """An enricher whose values depend on its version."""

    columns: Mapping[str, str] = {"doubled": "BIGINT"}

    def __init__(self, version: int) -> None:
        self.version = version

    def enrich(self, text: str) -> Mapping[str, int]:
        number = int(text.split()[1])
        return {"doubled": 2 * number + (self.version if number < 3 else 0)}


def test_replaced_values_and_changed_scores_are_differences(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    add_documents(store, [f"text {n}" for n in range(12)], n=list(range(12)))
    annotate(store, "web", Length())
    enrich(store, "doubled", Doubled(0), workers=1)
    before = store.snapshot().version
    assert diff(store, before - 1)["changed"]["values"] == []
    enrich(store, "doubled", Doubled(5), workers=1, replace=True)
    changes = diff(store, before)
    (values,) = changes["changed"]["values"]
    assert (values["column"], values["total"]) == ("doubled", 3)
    found = sorted((one["before"], one["after"]) for one in values["documents"])
    assert found == [("0", "5"), ("2", "7"), ("4", "9")]
    (column,) = changes["columns"]
    assert (column["column"], column["change"], column["values"]) == ("doubled", "values", 3)
    assert changes["critiques"] == []
    assert changes["changed"]["added"]["total"] == 0
    annotate(store, "web", Length(version=2))
    rescored = diff(store, before, documents=2)["changed"]["rescored"]
    assert rescored["total"] == 12 - sum(len(f"text {n}") >= 10 for n in range(12))
    assert len(rescored["documents"]) == 2
    assert all(one["after"] > one["before"] for one in rescored["documents"])
    assert {one["corpus"] for one in rescored["documents"]} == {"web"}
    nothing = diff(store, before, documents=0)["changed"]
    assert nothing["rescored"] == {"total": rescored["total"], "documents": []}
    assert nothing["values"][0]["documents"] == []
