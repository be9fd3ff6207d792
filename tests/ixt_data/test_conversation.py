"""Conversations: kept whole, shown readably, and passages found again in what is stored."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_data.conversation import (
    InvalidConversation,
    build_excerpt,
    canonical_text,
    parse_conversation,
)
from ixt_data.ingestion import ingest
from ixt_data.store.store import Store

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be short."},
    {"content": 'What is "2 + 2"?\n', "role": "user"},
    {"role": "assistant", "content": "It is 4 — surely."},
    {"role": "user", "content": "And 2 + 3?", "name": None},
    {"role": "assistant", "content": "", "tool_calls": [{"id": 1, "function": "add"}]},
    {"role": "tool", "content": "5", "id": 1},
    {"role": "assistant", "content": "5, of\tcourse."},
]

words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip)


def test_the_text_is_canonical() -> None:
    text = canonical_text([{"z": 1, "content": "hi", "a": None, "role": "assistant"}])
    assert text == '{"messages":[{"role":"assistant","content":"hi","z":1}]}'
    found = parse_conversation(canonical_text(TALK))
    assert found is not None
    assert found.turns == [2, 4, 6]
    assert [dict(m) for m in found.messages] == [
        {key: value for key, value in message.items() if value is not None} for message in TALK
    ]


@given(st.lists(words, min_size=1, max_size=5), st.data())
def test_every_passage_is_found_in_what_is_stored(said: list[str], data: st.DataObject) -> None:
    roles = ("user", "assistant")
    text = canonical_text(
        [{"role": "assistant", "content": "a"}]
        + [{"role": roles[i % 2], "content": content} for i, content in enumerate(said)]
    )
    found = parse_conversation(text)
    assert found is not None
    view = build_excerpt(found, "c0ffee")
    number = data.draw(st.integers(1, len(said)))
    content = said[number - 1]
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    at = view.places[number][0]
    assert view.text[at + start : at + end] == content[start:end]
    place = view.stored(at + start, at + end)
    assert place is not None
    assert json.loads(f'"{text[slice(*place)]}"') == content[start:end]
    first, last = found.span(number)
    assert json.loads(f'"{text[first:last]}"') == content


def test_what_a_judge_reads() -> None:
    found = parse_conversation(canonical_text(TALK))
    assert found is not None
    view = build_excerpt(found, "c0ffee", 2)
    assert view.text.endswith(
        '\nc0ffee user:\nWhat is "2 + 2"?\n\n\nc0ffee assistant:\nIt is 4 — surely.\n'
    )
    assert "And 2 + 3?" not in view.text
    assert "The last one, the assistant's, is to be judged" in view.text
    # Headers belong to no turn.
    assert view.stored(0, 14) is None
    whole = build_excerpt(found, "c0ffee").text
    assert 'c0ffee calls: [{"id":1,"function":"add"}]' in whole


def test_parts_of_a_content_are_shown_as_text() -> None:
    content = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": "x"}]
    talk = [{"role": "user", "content": content}, {"role": "assistant", "content": "A cat."}]
    text = canonical_text(talk)
    found = parse_conversation(text)
    assert found is not None
    view = build_excerpt(found, "c0ffee")
    assert "Look:\n[image_url]\n" in view.text
    start, end = found.span(0)
    assert json.loads(text[start:end]) == content
    assert view.stored(*view.places[0]) == (start, end)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "not a list of messages"),
        ("hi", "not a list of messages"),
        (["hi"], "messages[0]: not an object"),
        ([{"role": "user", "content": "hi"}], "no message has the role assistant"),
        ([{"role": "bot", "content": "hi"}], "messages[0]: role 'bot' is not one of system, "),
        ([{"content": "hi"}], "messages[0]: role None"),
        (
            [{"role": "assistant", "content": "  "}],
            "messages[0]: the content of the assistant is empty",
        ),
        (
            [{"role": "assistant", "content": 3}],
            "messages[0]: the content of the assistant is empty",
        ),
    ],
)
def test_canonical_text_refuses_invalid_conversation(
    messages: Any, why: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConversation) as caught:
        canonical_text(messages)
    assert why in str(caught.value)
    lines = [{"messages": messages}, {"messages": TALK, "id": "x", "topic": "sums"}]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    report = ingest(store, "chat", [path])
    assert (report.documents, report.quarantined) == (1, 1)
    assert report.quarantine_file is not None
    (rejected,) = store.storage.read(report.quarantine_file).splitlines()
    assert why in json.loads(rejected)["reason"]


def test_other_texts_are_no_conversations() -> None:
    for text in ('{"messages":[]}', '{"messages":[{"role":"assistant", "content":"a"}]}', "hi"):
        assert parse_conversation(text) is None


def test_jsonl_and_parquet_give_the_same_documents(store: Store, tmp_path: Path) -> None:
    plain = {"text": "No conversation."}
    lines = [{"messages": TALK, "id": "x", "topic": "sums"}, plain]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = ingest(store, "mixed", [tmp_path / "a.jsonl"])
    assert (report.documents, report.quarantined) == (2, 0)
    rows = store.sql("SELECT stage, topic, source_id FROM documents ORDER BY 1").arrow().to_pylist()
    assert [row["stage"] for row in rows] == ["pretrain", "sft"]
    assert (rows[1]["topic"], rows[1]["source_id"]) == ("sums", "x")
    short = [TALK[1], TALK[2]]
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": short}))
    pq.write_table(pa.table({"messages": [short], "topic": ["sums"]}), tmp_path / "b.parquet")
    assert ingest(store, "one", [tmp_path / "b.jsonl"], stage="midtrain").documents == 1
    again = ingest(store, "one", [tmp_path / "b.parquet"])
    assert (again.documents, again.duplicates) == (0, 1)
    found = (
        store.sql("SELECT stage FROM documents WHERE corpus = 'one'").arrow()["stage"].to_pylist()
    )
    assert found == ["midtrain"]
    (tmp_path / "c.jsonl").write_text(json.dumps({"dialogue": short}))
    assert ingest(store, "one", [tmp_path / "c.jsonl"], text_field="dialogue").duplicates == 1
