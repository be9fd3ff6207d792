"""Pairwise runs: a judge compares documents, and each gets a score that is published."""

import json
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import as_json, ixt
from critique_processes import command, start
from fake_vllm import Running

from ixt_data.critics.comparison import comparison_document, comparison_rubric
from ixt_data.critics.rubric import load_rubric, shipped_rubrics
from ixt_data.records import Document, document_id
from ixt_data.store.store import Store


def ingested(folder: Path, texts: list[str]) -> Store:
    lines = [{"text": one, "id": quality_of(one)} for one in texts]
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ixt("init", folder=folder)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=folder)
    return Store.open(folder / "S")


def pages(n: int) -> list[str]:
    qualities = list(range(n))
    random.Random(2).shuffle(qualities)
    return [f"A page of quality {quality}." for quality in qualities]


def quality_of(text: str) -> int:
    found = re.search(r"quality (\d+)", text)
    return int(found[1]) if found else -1


def pairwise(fake: Running, *more: object) -> tuple[object, ...]:
    return command(fake, "--pairwise", "--no-expected", *more)


def rank_correlation(store: Store, name: str = "pairwise") -> float:
    rows = store.sql(
        "SELECT source_id::INT FROM documents JOIN critiques USING (doc_id) "
        "WHERE critic = ? ORDER BY score",
        parameters=[name],
    )
    ranks = [row[0] for row in rows.fetchall()]
    n = len(ranks)
    return 1 - 6 * sum((i - rank) ** 2 for i, rank in enumerate(ranks)) / (n * (n * n - 1))


def test_scores_follow_the_quality_and_are_a_critic(tmp_path: Path) -> None:
    store = ingested(tmp_path, pages(60))
    with Running() as fake:
        file = tmp_path / "pairs.jsonl"
        found = as_json(*pairwise(fake, "--comparisons", file), folder=tmp_path)
        assert found["requested"] == 2 * found["pairs"] == fake.fake.requests["chat"]
        assert 236 <= found["pairs"] <= 240
        assert (found["failed"], found["inconsistent_pairs"], found["tied_pairs"]) == (0, 0, 0)
        assert found["first_wins_share"] == pytest.approx(0.5)
        assert rank_correlation(store) > 0.95
        rows = store.sql(
            "SELECT score, critique, scores['games'], scores['wins_as_first'] + "
            "scores['wins_as_second'], scores['strength'] FROM critiques ORDER BY score"
        ).fetchall()
        assert len(rows) == 60
        assert {row[1] for row in rows} == {""}
        assert sum(row[2] for row in rows) == 2 * found["requested"]
        assert sum(row[3] for row in rows) == found["requested"]
        assert rows[0][0] < 0.2 < 0.8 < rows[-1][0]
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(lines) == found["written"] == found["requested"]
        assert {*lines[0]} == {"first", "second", "status", "second_wins", "critique", "error"}
        again = as_json(*pairwise(fake), folder=tmp_path)
        assert (again["critic"], again["requested"], again["scored"]) == (found["critic"], 0, 0)
        # More pairs reuse nothing by chance alone, and are another critic by the same name.
        more = as_json(*pairwise(fake, "--pairs-per-document", 10), folder=tmp_path)
        assert more["critic"] != found["critic"]
        assert more["requested"] < 2 * more["pairs"]


def test_judge_that_prefers_the_first_document_is_found(tmp_path: Path) -> None:
    store = ingested(tmp_path, pages(40))
    with Running({"prefers_first": 0.5}) as fake:
        found = as_json(*pairwise(fake, "--name", "biased"), folder=tmp_path)
    assert found["first_wins_share"] > 0.6
    assert 0.3 < found["inconsistent_share"] < 0.7
    # Both orders of each pair: the preference for a place cancels out.
    assert rank_correlation(store, "biased") > 0.7
    ((first, second),) = store.sql(
        "SELECT sum(scores['wins_as_first']), sum(scores['wins_as_second']) FROM critiques"
    ).fetchall()
    assert first / (first + second) == pytest.approx(found["first_wins_share"], abs=1e-4)


def test_killed_run_requests_no_comparison_again(tmp_path: Path) -> None:
    store = ingested(tmp_path, pages(40))
    with Running({"delay": 0.05}) as fake:
        words = pairwise(fake, "--concurrency", 4)
        process = start(tmp_path, *words)
        deadline = time.monotonic() + 60
        while fake.fake.requests["chat"] < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        time.sleep(0.2)
        before = fake.fake.requests["chat"]
        found = as_json(*words, folder=tmp_path)
        games = 2 * found["pairs"]
        assert before >= 60
        # Only requests in flight at the kill are repeated.
        assert games <= fake.fake.requests["chat"] <= games + 4
        assert found["requested"] == fake.fake.requests["chat"] - before
    assert rank_correlation(store) > 0.95


def test_failed_comparisons_are_counted_and_retried(tmp_path: Path) -> None:
    store = ingested(tmp_path, [*pages(20), "A page that is [[refused]], of quality 7."])
    with Running() as fake:
        found = as_json(*pairwise(fake), folder=tmp_path)
        assert found["failed"] == found["statuses"]["refused"] == 16
        statuses = store.sql("SELECT status, count(*) FROM critiques GROUP BY 1 ORDER BY 1")
        assert statuses.fetchall() == [("no_comparison", 1), ("ok", 20)]
        done = ixt(*pairwise(fake, "--retry-failed", "--max-failed", 0.01), folder=tmp_path, code=1)
        assert "of the comparisons failed" in done.stderr
        assert "--retry-failed" in done.stderr
        fake.fake.plan["refused"] = 1
        nothing = ixt(*pairwise(fake, "--pair-seed", 9, "--max-failed", 1, "--name", "none"),
                      folder=tmp_path)  # fmt: skip
        assert "refused" in nothing.stderr
    alone = tmp_path / "alone"
    alone.mkdir()
    ingested(alone, pages(3))
    with Running({"refused": 1}) as fake:
        failed = ixt(*pairwise(fake), folder=alone, code=1)
        assert "no comparison of 6 succeeded; the first one: refused" in failed.stderr


def test_run_stops_at_its_maximum_cost_and_continues(tmp_path: Path) -> None:
    store = ingested(tmp_path, pages(10))
    with Running() as fake:
        words = pairwise(fake, "--price-out", 1_000_000, "--max-tokens", 200)
        stopped = ixt(*words, "--max-cost", 3000, folder=tmp_path, code=1)
        assert "the same command with a higher --max-cost continues" in stopped.stderr
        paid = fake.fake.requests["chat"]
        found = as_json(*words, "--max-cost", 50_000, folder=tmp_path)
        assert 0 < paid < 30
        assert found["requested"] == 2 * found["pairs"] - paid
    assert rank_correlation(store) > 0.9


def test_long_documents_and_conversations_are_shown_in_parts(tmp_path: Path) -> None:
    long = "A page of quality 90. " + "word " * 20_000
    store = ingested(tmp_path, [*pages(3), long])
    turns = [("user", "Tell me."), ("assistant", "It has a quality 50.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    ixt("ingest", "--corpus", "web", "b.jsonl", folder=tmp_path)
    with Running({"context": 8192, "keep_bodies": True}) as fake:
        found = as_json(*pairwise(fake, "--max-tokens", 1000), folder=tmp_path)
        assert (found["documents"], found["failed"], found["excerpted"]) == (5, 0, 1)
        shown = [body["messages"][1]["content"] for body in fake.fake.bodies]
    assert max(map(len, shown)) < 4 * 8192
    assert sum("characters left out" in one for one in shown) == 8
    assert sum("assistant:\nIt has a quality 50." in one for one in shown) == 8
    assert rank_of(store, long) == 0


def rank_of(store: Store, text: str) -> int:
    rows = store.sql("SELECT doc_id::VARCHAR FROM critiques ORDER BY score DESC").fetchall()
    ids = [row[0].replace("-", "") for row in rows]
    return ids.index(document_id(text).hex())


@pytest.mark.parametrize("name", shipped_rubrics())
def test_comparison_rubric_has_the_questions_of_its_rubric(name: str) -> None:
    rubric = load_rubric(name)
    found = comparison_rubric(rubric)
    assert all(one.question in found.system_message for one in rubric.dimensions)
    assert "5: B is much better" in found.system_message
    assert found.id != comparison_rubric(load_rubric("web")).id or name == "web"
    assert found.flags == ()


def test_comparison_shows_both_documents_between_marks() -> None:
    first, second = (Document(document_id(text), text) for text in ("one", "two"))
    pair, swapped = comparison_document(first, second), comparison_document(second, first)
    assert pair.doc_id != swapped.doc_id
    assert pair.text.index("one") < pair.text.index("two")
    assert pair.text.count(pair.doc_id.hex()[:12]) == 4


def test_pairwise_refuses_what_does_not_fit(tmp_path: Path) -> None:
    ingested(tmp_path, ["one page"])
    with Running() as fake:
        cases: list[tuple[tuple[Any, ...], str]] = [
            (("--workers", 2), "is not for --pairwise"),
            (("--per-chunk",), "is not for --pairwise"),
            (("--estimate",), "is not for --pairwise"),
        ]
        for more, message in cases:
            assert message in ixt(*pairwise(fake, *more), folder=tmp_path, code=2).stderr
        plain = ixt(*command(fake), "--pair-seed", 3, folder=tmp_path, code=2)
        assert "requires --pairwise" in plain.stderr
        rules = ("critique", "--corpus", "web", "--critic", "rules", "--pairwise")
        assert "is for a judge" in ixt(*rules, folder=tmp_path, code=2).stderr
        assert "a comparison needs two" in ixt(*pairwise(fake), folder=tmp_path, code=1).stderr
