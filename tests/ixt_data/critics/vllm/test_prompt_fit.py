"""Documents that do not fit into a judge's context: parts, excerpts, and extreme sizes."""

import dataclasses
import time
from typing import Any

import pytest
from batch_server import RunningBatches
from fake_vllm import DOCUMENT, Running
from judging import PLAIN, QUICK, document, judged

from ixt_data.critics.chunked import ChunkedCritic, ChunkOptions
from ixt_data.critics.rubric import Rubric, load_rubric
from ixt_data.critics.vllm.batch_critic import BatchCritic
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.records import Critique

LINES = "".join(f"{i:07d}\n" for i in range(5000))
SHORT = dataclasses.replace(PLAIN, max_tokens=800)


def web(**long: Any) -> Rubric:
    """Return the rubric `web` with other rules for long documents."""
    return Rubric.model_validate(load_rubric("web").model_dump() | {"long": long})


EXCERPTS = web(policy="excerpts")


def judge_lines(context: int, text: str = LINES, **options: Any) -> tuple[Critique, list[str]]:
    """Return the critique of a text, and the documents that the judge was shown."""
    with Running({"context": context, "keep_bodies": True}) as fake:
        (critique,) = judged(fake, text, sampling=SHORT, **options)
        bodies = [body["messages"][1]["content"] for body in fake.fake.bodies]
    shown = [match[2] for body in bodies if (match := DOCUMENT.search(body))]
    return critique, sorted(shown)


def test_document_that_does_not_fit_is_judged_in_parts() -> None:
    critique, shown = judge_lines(4000)
    assert critique.status == "ok"
    assert critique.flags == ("judged_in_parts",)
    assert critique.scores["chunks"] == len(shown) > 2
    assert "coverage" not in critique.scores
    spans = [span for span in critique.spans if span.verdict == "chunk"]
    assert [LINES[span.start : span.end].rstrip("\n") for span in spans] == [
        part.rstrip("\n") for part in shown
    ]
    lengths = [span.end - span.start for span in spans]
    scores = [span.score or 0 for span in spans]
    mean = sum(n * score for n, score in zip(lengths, scores, strict=True)) / len(LINES)
    assert critique.score == pytest.approx(mean)
    assert critique.scores["lowest"] == min(scores)


def test_document_that_fits_is_one_request() -> None:
    critique, shown = judge_lines(4000, "A page.")
    assert shown == ["A page."]
    assert critique.flags == ()
    assert "chunks" not in critique.scores
    assert critique.spans == ()


def test_document_of_too_many_parts_is_excerpted() -> None:
    critique, shown = judge_lines(4000, rubric=web(max_parts=2))
    assert len(shown) == 1
    assert critique.flags == ("excerpted",)


def test_first_lines_say_what_happens_to_long_documents() -> None:
    lines = {}
    for policy in ("parts", "excerpts", "refuse"):
        with Running({"context": 4000}) as fake:
            options: dict[str, Any] = {"sampling": SHORT, "timeouts": QUICK}
            with VllmCritic(fake.url, "judge", web(policy=policy), **options) as critic:
                lines[policy] = critic.describe()[-1]
    assert all("documents of more than about " in line for line in lines.values())
    assert lines["parts"].endswith("judged in parts, up to 16; longer ones are excerpted")
    assert lines["excerpts"].endswith("are excerpted")
    assert lines["refuse"].endswith("are too_long")


def test_parts_are_estimated_where_no_server_counts() -> None:
    with Running({"context": 4000, "tokenize": False}) as fake:
        long, short = judged(fake, "word " * 9000, "A page.", sampling=SHORT)
    assert long.flags == ("estimated_tokens", "judged_in_parts")
    assert "coverage" not in long.scores
    assert short.flags == ("estimated_tokens",)


def test_documents_fit_into_the_smallest_context() -> None:
    with Running({"context": 32768}) as large, Running({"context": 4000}) as small:
        urls = [large.url, small.url]
        texts = [f"{i} word " * 3000 for i in range(4)]
        found = judged(large, *texts, sampling=SHORT, urls=urls)
    assert {critique.flags for critique in found} == {("judged_in_parts",)}


@pytest.mark.parametrize("by", ["fit", "tokens"])
def test_batches_judge_parts(tmp_path: Any, by: str) -> None:
    with RunningBatches({"context": 4000}) as server:
        judge: Any = BatchCritic(
            str(tmp_path / "batches"),
            poll_seconds=0.02,
            endpoints=server.url,
            model="judge",
            sampling=SHORT,
            timeouts=QUICK,
        )
        critic = judge if by == "fit" else ChunkedCritic(judge, ChunkOptions("chunk", tokens=4000))
        long, short = sorted(
            critic.run([document(LINES), document("A page.")]), key=lambda one: -len(one.spans)
        )
        judge.close()
        submitted = len(server.fake.submitted())
    assert (long.status, short.status) == ("ok", "ok")
    assert ("judged_in_parts" in long.flags) == (by == "fit")
    assert submitted == 1 + long.scores["chunks"]
    assert long.scores["chunks"] > 2


def test_excerpt_has_its_coverage() -> None:
    critique, (prompt,) = judge_lines(4000, rubric=EXCERPTS)
    assert critique.flags == ("excerpted",)
    parts = prompt.split(" characters left out ...]")
    assert len(parts) == 3
    assert parts[2].endswith("0004999\n")
    kept = sum(len(line) + 1 for line in prompt.splitlines() if len(line) == 7 and line.isdigit())
    assert critique.scores["coverage"] == pytest.approx(kept / len(LINES), abs=0.01)
    empty = EXCERPTS.system_message + EXCERPTS.empty_message
    used = (len(empty.encode()) + len(prompt.encode())) / 4
    assert 0.85 * 3200 < used <= 3200


def test_policy_refuse_is_too_long() -> None:
    critique, shown = judge_lines(4000, rubric=web(policy="refuse"))
    assert (critique.status, critique.attempts, shown) == ("too_long", 0, [])
    assert "do not fit into 4,000" in (critique.error or "")


@pytest.mark.parametrize(("characters", "status"), [(400_000, "ok"), (30_000_000, "too_long")])
def test_huge_document_is_not_counted(characters: int, status: str) -> None:
    text = "All that was ever said. " * (characters // 24)
    with Running({"context": 8000}) as fake:
        start = time.monotonic()
        (critique,) = judged(fake, text, sampling=SHORT, rubric=EXCERPTS)
        assert time.monotonic() - start < 20
        assert fake.fake.largest < 200_000
    assert critique.status == status
    if status == "ok":
        assert 0.02 < critique.scores["coverage"] < 0.08
    else:
        assert "over 1,8" in (critique.error or "")


def test_huge_document_is_divided_by_the_count_of_its_start() -> None:
    with Running({"context": 8000}) as fake:
        (critique,) = judged(fake, "All that was ever said. " * 9000, sampling=SHORT)
        assert fake.fake.largest < 100_000
    assert critique.flags == ("judged_in_parts",)
    assert critique.scores["chunks"] > 8


def test_huge_text_is_counted_in_parts() -> None:
    with Running() as fake, VllmCritic(fake.url, "judge", sampling=PLAIN) as critic:
        assert critic.count_tokens("word " * 200_000) == 1_000_000
        assert fake.fake.largest < 300_000
