"""A user's column may have any name: every verb works, and gives what it gives without it."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ixt_data
import ixt_inspector
import ixt_tools
import ixt_train
from ixt_data.critics.rules.critic import RulesCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.export.delta import export_delta
from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.mds import export_mds
from ixt_data.export.rows import export_jsonl, export_parquet
from ixt_data.ingestion.columns import INNER, RESERVED
from ixt_data.ingestion.corpus import ingest
from ixt_data.maintenance.compaction import compact
from ixt_data.mix import Mix, observed_feedback, plan_mix
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store
from ixt_tools.curate.near_duplicates import mark_near_duplicates

TEXTS = ["The committee adjourned after a long debate.", "Water boils at 100 degrees.", "x y z"]


def names_in_our_sql() -> list[str]:
    """Return each word that stands in a string of SQL in the source code."""
    words = set[str]()
    for package in (ixt_data, ixt_train, ixt_tools, ixt_inspector):
        for path in Path(package.__path__[0]).rglob("*.py"):
            for text in re.findall(r'"([^"\n]*)"', path.read_text()):
                if re.search(r"\b(SELECT|FROM|WHERE|AS|JOIN|ORDER BY|USING)\b", text):
                    words.update(re.findall(r"[A-Za-z_]\w*", text))
    odd = {f"{INNER}shard", "near_dupe", "K", "Spans", 'a"b', "ß", "it's", "a b", "a.b", "%", ""}
    return sorted(words | RESERVED | odd)


NAMES = names_in_our_sql()


def results(folder: Path, names: list[str]) -> dict[str, Any]:
    """Run the verbs on three documents with these columns; return what they give."""
    store = Store.init(folder / "S")
    lines = [
        {"text": text, "id": f"d{i}", **dict.fromkeys(names, i)} for i, text in enumerate(TEXTS)
    ]
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ingest(store, "web", [path])
    annotate(store, "web", RulesCritic())
    dedupe = mark_near_duplicates(store, threshold=0.5)
    selection = save_selection(store, "good", "score >= 0 AND n_chars > 6")
    compact(store)
    columns = "source_id, n_chars, documents.shard = min(documents.shard) OVER () AS same"
    found: dict[str, Any] = {
        "query": store.sql(
            f"SELECT {columns}, score, status, near_dup_keep FROM documents "
            "JOIN critiques USING (doc_id) ORDER BY 1"
        ).fetchall(),
        "selection": (selection.documents, dedupe.clusters),
    }
    mix = Mix.model_validate(
        {
            **{"store": store.root, "critic": "rules", "weighting": {"by": "score"}},
            "selections": [{"name": "good", "where": "n_chars > 6"}, {"name": "all"}],
        }
    )
    plan = plan_mix(mix, 6, store=store)
    found["plan"] = [order.counts.tolist() for order in plan.orders]
    found["feedback"] = observed_feedback(store, plan.mix)
    selected = MatchedDocuments(store, where="score >= 0")
    export_parquet(selected, folder / "out.parquet")
    export_jsonl(selected, folder / "out.jsonl")
    export_mds(selected, folder / "mds")
    export_delta(store, folder / "delta")
    exported = {
        "parquet": pq.read_table(folder / "out.parquet").to_pylist(),
        "jsonl": [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()],
        "delta": DeltaTable(folder / "delta/documents").to_pyarrow_table().to_pylist(),
    }
    for name, rows in exported.items():
        own = ("source_id", "n_chars", "text", "score", "critique", "spans", "row")
        found[name] = sorted(json.dumps([row.get(one) for one in own]) for row in rows)
    found["columns"] = len(exported["parquet"][0])
    return found


def test_columns_named_like_anything_in_our_sql_change_no_result(tmp_path: Path) -> None:
    """All names at once."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "named").mkdir()
    plain = results(tmp_path / "plain", [])
    named = results(tmp_path / "named", [n for n in NAMES if n not in ("text", "id", "source")])
    assert named.pop("columns") > plain.pop("columns") + 100
    assert named == plain


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names=st.lists(st.sampled_from(NAMES), max_size=6, unique=True))
def test_columns_named_like_some_words_of_our_sql_change_no_result(
    tmp_path_factory, names: list[str]
) -> None:
    names = [name for name in names if name not in ("text", "id", "source")]
    plain = results(tmp_path_factory.mktemp("plain"), [])
    named = results(tmp_path_factory.mktemp("named"), names)
    assert named.pop("columns") >= plain.pop("columns")
    assert named == plain


def test_control_characters_in_a_name_are_replaced(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "x\\u0000y": 1, "x\\ny": 2, "\\u0007": 3}\n')
    report = ingest(store, "web", [tmp_path / "in.jsonl"])
    assert report.renamed == {"x\0y": "x_y", "x\ny": "x_y_2", "\a": "_"}
    assert store.sql("SELECT x_y, x_y_2, _ FROM documents").fetchall() == [(1, 2, 3)]
    export_delta(store, tmp_path / "delta")
    assert "x_y" in DeltaTable(tmp_path / "delta/documents").to_pyarrow_table().column_names
