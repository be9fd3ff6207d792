"""Chunks of long documents and turns of conversations, judged by real critics."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_answers import THINKING
from fake_vllm import DOCUMENT, Running
from hypothesis import given
from hypothesis import strategies as st

from ixt_data.conversation import canonical_text, parse_conversation
from ixt_data.critics.base import EmbeddedCritic, critic_id
from ixt_data.critics.chunked import ChunkedCritic, ChunkOptions, chunk_offsets
from ixt_data.critics.registry import load_critic
from ixt_data.critics.rubric import load_rubric
from ixt_data.critics.vllm.endpoint_pool import Timeouts
from ixt_data.critics.vllm.prompts import JudgeSampling
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CriticError
from ixt_data.ingestion import ingest
from ixt_data.records import Critique, Document, Span, document_id
from ixt_data.store.store import Store

QUICK = Timeouts(request_seconds=2.0, hung_seconds=0.6, no_server_seconds=3.0, watch_seconds=0.1)


class Vowels(EmbeddedCritic):
    """A critic that scores the share of `a`, marks each `bad`, and fails on `silent`."""

    name = "vowels"

    def config(self) -> dict[str, Any]:
        return {"kind": "vowels"}

    def judge(self, document: Document) -> Critique:
        text = document.text
        if "silent" in text:
            return Critique(document.doc_id, "no_answer", error="nothing said", attempts=3)
        at = text.find("bad")
        share = text.count("a") / len(text)
        return Critique(
            document.doc_id,
            critique=f"{len(text)} characters",
            score=share,
            scores={"length": len(text)},
            spans=(Span(at, at + 3, "wrong", "bad", "no"),) if at >= 0 else (),
            flags=("long",) if len(text) > 5 else (),
            thinking="hm",
            n_thinking_tokens=2,
        )


def document(text: str) -> Document:
    return Document(document_id(text), text)


def judged(parts: ChunkOptions, *texts: str) -> list[Critique]:
    found = list(ChunkedCritic(Vowels(), parts).run(map(document, texts)))
    by_id = {critique.doc_id: critique for critique in found}
    assert len(found) == len(by_id) == len(texts)
    return [by_id[document_id(text)] for text in texts]


@given(st.text(alphabet="ab \n"), st.integers(1, 9))
def test_chunk_offsets_cover_the_text_in_order(text: str, size: int) -> None:
    places = list(chunk_offsets(text, size))
    assert "".join(text[a:b] for a, b in places) == text
    assert all(0 < b - a <= size for a, b in places)


def test_chunk_offsets_end_at_a_line_or_a_word() -> None:
    assert list(chunk_offsets("one twos\nthree four", 10)) == [(0, 9), (9, 19)]
    assert list(chunk_offsets("x" * 25, 10)) == [(0, 10), (10, 20), (20, 25)]


def test_chunked_score_is_the_mean_of_the_chunks() -> None:
    (critique,) = judged(ChunkOptions("chunk", chars=10), "aaaaabbbbb" + "abad bbbbb" + "aaaaa")
    assert critique.status == "ok"
    assert critique.score == pytest.approx((0.5 * 10 + 0.2 * 10 + 1.0 * 5) / 25)
    assert critique.scores == {"length": pytest.approx(9), "chunks": 3, "lowest": 0.2}
    assert critique.critique == "10 characters"
    assert critique.spans == (
        Span(0, 10, "chunk", "", "10 characters", 0.5),
        Span(10, 20, "chunk", "", "10 characters", 0.2),
        Span(11, 14, "wrong", "bad", "no"),
        Span(20, 25, "chunk", "", "5 characters", 1.0),
    )
    assert critique.flags == ("long",)
    assert critique.thinking is not None
    assert critique.thinking.count("hm") == 3
    assert critique.n_thinking_tokens == 6


def test_chunked_short_document_is_one_chunk() -> None:
    short, blank = judged(ChunkOptions("chunk", chars=10), "ab", "ab" + " " * 20)
    assert short.spans == (Span(0, 2, "chunk", "", "2 characters", 0.5),)
    assert short.thinking == "hm"
    # White space alone is not judged.
    assert blank.scores["chunks"] == 1


def test_chunked_failures_are_flagged() -> None:
    some, most = judged(
        ChunkOptions("chunk", chars=8), "aaaabbbb" * 3 + "silentbb", "aabbaabb" + "silentbb" * 2
    )
    assert (some.status, some.score, some.attempts) == ("ok", pytest.approx(0.5), 3)
    assert some.scores["coverage"] == pytest.approx(0.75)
    assert some.spans[-1] == Span(24, 32, "failed", "", "no_answer: nothing said")
    assert "failed_parts" in some.flags
    assert (most.status, most.score) == ("no_answer", None)
    assert most.error == "2 of 3 chunks failed; the first: nothing said"


def test_chunk_options_are_part_of_the_id() -> None:
    whole = load_critic("rules")
    ids = {critic_id(whole)}
    for parts in (
        ChunkOptions("chunk", 100),
        ChunkOptions("chunk", 200),
        ChunkOptions("turn"),
        ChunkOptions("conversation"),
    ):
        ids.add(critic_id(load_critic("rules", parts=parts)))
    assert len(ids) == 5
    with pytest.raises(CriticError, match="cannot count tokens: give --chunk-chars"):
        load_critic("rules", parts=ChunkOptions("chunk", tokens=100))
    with pytest.raises(CriticError, match="size of 1 or more"):
        ChunkOptions("chunk")


TALK = [
    {"role": "user", "content": "Say a"},
    {"role": "assistant", "content": "aaaa"},
    {"role": "user", "content": 'And "b"?'},
    {"role": "assistant", "content": "bbbb"},
]


def store_of(folder: Path, lines: list[dict[str, Any]]) -> Store:
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    store = Store.init(folder / "S")
    ingest(store, "chat", [folder / "in.jsonl"])
    return store


def test_turns_become_rows_spans_and_shards(tmp_path: Path) -> None:
    store = store_of(tmp_path, [{"messages": TALK}, {"text": "plain aaaa"}])
    report = annotate(store, "chat", ChunkedCritic(Vowels(), ChunkOptions("turn")))
    assert report.statuses == {"ok": 2}
    rows = store.sql("SELECT * FROM critiques JOIN documents USING (doc_id)").arrow().to_pylist()
    row = next(row for row in rows if row["stage"] == "sft")
    assert dict(row["scores"])["turns"] == 2
    assert row["n_spans"] == 2
    (shard,) = store.snapshot().family(f"critique/{report.critic}")
    spans = [[Span(*span) for span in found] for found in store.shard(shard).column("spans")]
    first, second = next(found for found in spans if len(found) == 2)
    text = canonical_text(TALK)
    assert [text[s.start : s.end] for s in (first, second)] == ["aaaa", "bbbb"]
    assert first.verdict == "turn"
    assert (first.score or 0) > 0
    plain = next(row for row in rows if row["stage"] == "pretrain")
    assert (plain["n_spans"], dict(plain["scores"])) == (0, {"length": 10})


def asked(fake: Running) -> list[str]:
    """What the judge was given, in the order of the turns."""
    users = [body["messages"][1]["content"] for body in fake.fake.bodies]
    found = (DOCUMENT.search(user) for user in users)
    return sorted((match[2] for match in found if match), key=len)


def judge(fake: Running, parts: ChunkOptions, **options: Any) -> ChunkedCritic:
    given = {"endpoints": fake.url, "model": "judge", "timeouts": QUICK, "rubric": "sft"}
    given["sampling"] = JudgeSampling(expected=False)
    found = load_critic("vllm", options=given | options, parts=parts)
    assert isinstance(found, ChunkedCritic)
    return found


def test_turn_request_contains_the_previous_messages() -> None:
    text = canonical_text(TALK)
    with Running({"keep_bodies": True}) as fake:
        critic = judge(fake, ChunkOptions("turn"))
        (critique,) = critic.run([document(text)])
        critic.close()
        first, second = asked(fake)
    mark = document_id(text).hex()[-8:]
    assert f"{mark} assistant:\naaaa\n" in first
    assert "bbbb" not in first
    assert second.endswith(f'{mark} user:\nAnd "b"?\n\n{mark} assistant:\nbbbb\n')
    assert critique.scores["turns"] == 2
    turns = [span for span in critique.spans if span.verdict == "turn"]
    assert [text[span.start : span.end] for span in turns] == ["aaaa", "bbbb"]
    assert critique.thinking is not None
    assert critique.thinking.count(THINKING) == 2
    # The fake server quotes the header of the prompt, which is not in the document.
    assert "quote_not_found" in critique.flags


def test_conversation_is_one_request() -> None:
    text = canonical_text(TALK)
    with Running({"keep_bodies": True}) as fake:
        critic = judge(fake, ChunkOptions("conversation"))
        (critique,) = critic.run([document(text)])
        critic.close()
        (seen,) = asked(fake)
    assert "aaaa" in seen
    assert "bbbb" in seen
    assert '{"messages"' not in seen
    assert (critique.status, critique.spans) == ("ok", ())
    assert "turns" not in critique.scores


def test_turn_quotes_map_to_stored_offsets() -> None:
    talk = [TALK[0], {"role": "assistant", "content": 'He said\n"a" twice.'}]
    text = canonical_text(talk)
    found = parse_conversation(text)
    assert found is not None
    part = ChunkedCritic(Vowels(), ChunkOptions("turn"))._divide(document(text))[0]
    start = part.text.index('"a" twice')
    place = part.to_document(start, start + 9)
    assert place is not None
    assert text[slice(*place)] == r"\"a\" twice"


def test_chunk_size_in_the_judges_tokens() -> None:
    text = "word " * 1000
    with Running({"keep_bodies": True}) as fake:
        critic = judge(fake, ChunkOptions("chunk", tokens=500), rubric="web")
        long, short = critic.run([document(text), document("short")])
        critic.close()
        sizes = [len(seen) for seen in asked(fake)]
    # The fake has a token for each byte of a bare text.
    assert long.scores["chunks"] == len(sizes) - 1 == 10
    assert max(sizes) <= 500
    assert short.scores["chunks"] == 1
    assert {span.verdict for span in long.spans} >= {"chunk"}


def test_the_sft_rubric_judges_the_assistant() -> None:
    assert "assistant's turns" in load_rubric("sft").system_message
