"""Pairs of a better and a worse answer to one prompt."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ixt_data.cli import build
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import UsageError
from ixt_data.export import MatchedDocuments, PreferenceOptions, export_preferences
from ixt_data.ingestion import ingest
from ixt_data.records import Critique, Document
from ixt_data.store.store import Store


class LastNumber(EmbeddedCritic):
    """A critic whose score is the number at the end of the answer."""

    name = "numbers"

    def config(self) -> dict[str, Any]:
        return {}

    def judge(self, document: Document) -> Critique:
        digits = [word for word in document.text.split() if word.strip('"}]').isdigit()]
        score = int(digits[-1].strip('"}]')) / 10 if digits else None
        return Critique(document.doc_id, critique="read", score=score)


def conversation(prompt: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    records: list[dict[str, Any]] = [
        conversation(f"prompt {prompt}", f"answer with {score}")
        for prompt, scores in {"a": (1, 9, 5), "b": (3, 3), "c": (4,), "d": (2, 8)}.items()
        for score in scores
    ]
    # Equal scores, of two different answers.
    records[4]["messages"][1]["content"] = "another answer with 3"
    records += [conversation("prompt d", "no number")]
    records += [{"messages": [*conversation("x", "y 1")["messages"], records[0]["messages"][0]]}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    store = Store.init(tmp_path / "S")
    ingest(store, "chat", [path], stage="sft")
    annotate(store, "chat", LastNumber())
    return store


def pairs(path: Path) -> list[tuple[str, str, str]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(row["chosen_score"] > row["rejected_score"] for row in rows)
    assert len({row["chosen_id"] for row in rows} & {row["rejected_id"] for row in rows}) <= 1
    return sorted(
        (row["prompt"][-1]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"])
        for row in rows
    )


def test_best_and_worst_answer_of_each_prompt_are_a_pair(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    report = export_preferences(MatchedDocuments(store), out, PreferenceOptions())
    assert pairs(out) == [
        ("prompt a", "answer with 9", "answer with 1"),
        ("prompt d", "answer with 8", "answer with 2"),
    ]
    assert (report.pairs, report.prompts, report.answers) == (2, 2, 8)
    # One answer has no score, and one conversation ends with the user.
    assert report.skipped == 2
    more = PreferenceOptions(per_prompt=5, min_difference=0.4)
    report = export_preferences(MatchedDocuments(store), out, more, overwrite=True)
    assert (report.pairs, report.prompts) == (4, 2)


@pytest.mark.parametrize(
    ("where", "options", "message"),
    [
        ("score = 0.3", {}, "differ by at most 0, and min_difference is 0.1"),
        ("score = 0.4", {}, "no two of the 1 answers are to one prompt"),
        ("score > 1", {}, "none of the 0 matching documents"),
        (None, {"min_difference": 0.9}, "at most 0.8, and min_difference is 0.9"),
    ],
)
def test_without_a_pair_the_reason_is_reported_and_nothing_is_written(
    store: Store, tmp_path: Path, where: str | None, options: dict[str, Any], message: str
) -> None:
    out = tmp_path / "pairs.jsonl"
    with pytest.raises(UsageError, match=message):
        export_preferences(MatchedDocuments(store, where=where), out, PreferenceOptions(**options))
    assert not out.exists()


def test_command_exports_pairs(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    command = ["export", str(out), "--format", "preferences", "--store", store.root]
    done = CliRunner().invoke(build(), [*command, "--option", "per_prompt=3", "--output", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pairs"] == 4
