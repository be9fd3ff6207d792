"""Differences between snapshots: columns that were added, changed or lost."""

from pathlib import Path

from command_line import as_json, ixt


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
