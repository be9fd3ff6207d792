"""Conversations are judged by the assistant's turns, as prose."""

import orjson

from ixt_data.conversation import canonical_text
from ixt_data.critics.rules.critic import RulesCritic
from ixt_data.records import Critique, Document, document_id

BAD = "Buy now! Buy now! Buy now! Buy now! Buy now! Buy now! Buy now! Buy now! Buy now! Buy now!"
GOOD = "Two and two make four, because each pair adds two to the count of the things."


def judge(text: str) -> Critique:
    return RulesCritic().judge(Document(document_id(text), text))


def conversation(*turns: str) -> str:
    roles = ("user", "assistant")
    return canonical_text([{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)])


def test_a_conversation_is_judged_as_the_text_of_its_turns() -> None:
    found = judge(conversation("What is two and two?", GOOD))
    plain = judge(GOOD)
    assert (found.score, found.scores, found.flags) == (plain.score, plain.scores, plain.flags)
    assert "code" not in found.critique


def test_what_the_user_wrote_does_not_count() -> None:
    assert judge(conversation(BAD, GOOD)).score == judge(GOOD).score


def test_spans_have_offsets_in_the_stored_text() -> None:
    quoted = 'He said "no".\n' + "Lorem ipsum dolor sit amet.\n" * 8
    text = conversation("Hello?", GOOD, "And?", quoted)
    spans = judge(text).spans
    assert spans
    stored = [orjson.loads(f'"{text[span.start : span.end]}"') for span in spans]
    assert all(part in quoted or part in GOOD for part in stored)
    assert any(part == "Lorem ipsum" for part in stored)


def test_a_conversation_without_text_of_the_assistant_is_empty() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    messages = [{"role": "user", "content": "Go"}, {"role": "assistant", "tool_calls": calls}]
    assert judge(canonical_text(messages)).flags == ("empty",)
