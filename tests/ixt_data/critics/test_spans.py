"""Passages that a judge quotes: found to the letter, else by the stated tolerance, else flagged."""

import random
import re
import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixt_data.critics.rubric import Rubric, harmless, load_rubric, restored
from ixt_data.critics.vllm.client import HttpResponse
from ixt_data.critics.vllm.quote_matching import GAP, locate
from ixt_data.critics.vllm.responses import FailureStatus, InvalidResponse, read_answer, to_critique
from ixt_data.records import Document, Span, document_id

TEXT = "He said: “It’s  2 – 3,\nno more”. Then he left.\nIt's said he said it again."


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("he said", "he said"),
        ("He said", "He said"),
        ('"It\'s 2 - 3, no more"', "“It’s  2 – 3,\nno more”"),
        ("IT’S SAID HE", "It's said he"),
        ("He said: … he left.", "He said: “It’s  2 – 3,\nno more”. Then he left."),
        ("  Then   he\tleft.  ", "Then he left."),
        (".", "."),
        ("then", "Then"),
    ],
)
def test_where_a_quote_stands(quote: str, found: str) -> None:
    place = locate(TEXT, quote)
    assert place is not None
    assert TEXT[slice(*place)] == found


@pytest.mark.parametrize("quote", ["", "  ", "he sang", "HE", "left … said: “It’s", "He again"])
def test_what_is_not_there_is_not_found(quote: str) -> None:
    assert locate(TEXT, quote) is None


def test_an_ellipsis_has_its_limit() -> None:
    assert locate("begin" + "x" * GAP + "end", "begin...end") is not None
    assert locate("begin" + "x" * (GAP + 1) + "end", "begin...end") is None


def test_dots_may_be_the_texts_own() -> None:
    assert locate("aaaaaaaaaaa...aaaaaa", "AAAAAA...") == (5, 14)


def test_many_ellipses_in_a_text_that_repeats_itself_take_no_time() -> None:
    start = time.monotonic()
    assert locate("ab cd " * 20_000, " ... ".join(["ab"] * 12) + " ... nowhere") is None
    assert time.monotonic() - start < 5
    assert locate("ab cd " * 20_000 + "end", "ab ... cd ... ab") == (0, 8)


@settings(deadline=None)
@given(st.text(alphabet="abcdef .,'\"-\n", min_size=20, max_size=200), st.data())
def test_a_quote_copied_badly_is_found_again(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 10))
    quote = text[start : start + data.draw(st.integers(5, 60))].strip()
    if sum(map(str.isalnum, quote)) < 4:
        return
    dice = random.Random(data.draw(st.integers()))
    swaps = {"'": "’", '"': "”", "-": "—"}
    worse = "".join(swaps.get(c, c) if dice.random() < 0.5 else c for c in quote)
    worse = re.sub(r"\s+", lambda _: dice.choice((" ", "\n", "  ")), worse)
    if dice.random() < 0.3:
        worse = worse.upper()
    place = locate(text, worse)
    assert place is not None
    # Perhaps an earlier one, but the same in all that counts.
    assert plain(text[slice(*place)]) == plain(quote)


def plain(text: str) -> str:
    return " ".join(text.split()).lower()


def answer(rubric: Rubric, spans: object) -> HttpResponse:
    said = {
        "critique": "so",
        "flags": [],
        "spans": spans,
        "scores": {dimension.name: 3 for dimension in rubric.dimensions},
        "overall": 3,
    }
    message = {"content": orjson.dumps(said).decode()}
    choices = [{"message": message, "finish_reason": "stop"}]
    return HttpResponse(200, orjson.dumps({"choices": choices, "usage": {}}))


def test_spans_are_stored_in_order_and_what_is_lost_is_flagged() -> None:
    rubric = load_rubric("code")
    text = "alpha = 1\ny = x / 0\n"
    spans = [
        {"quote": "y = x / 0", "verdict": "wrong", "tag": "bug", "comment": "divides by zero"},
        {"quote": "Alpha  =  1", "verdict": "right", "tag": "good_example", "comment": ""},
    ]
    lost = {"quote": "z = 3", "verdict": "wrong", "tag": "bug", "comment": "not there"}
    document = Document(document_id(text), text)

    def critique(quoted: object) -> tuple[tuple[Span, ...], tuple[str, ...]]:
        found = to_critique(
            document, read_answer(answer(rubric, quoted), rubric, 99), rubric, set()
        )
        return found.spans, found.flags

    both = (Span(0, 9, "right", "good_example"), Span(10, 19, "wrong", "bug", "divides by zero"))
    assert critique(spans) == (both, ())
    assert critique([*spans, lost]) == (both, ("quote_not_found",))
    assert critique([]) == ((), ())


@pytest.mark.parametrize(
    "change", [{"tag": "ugly"}, {"verdict": "so so"}, {"quote": None}, {"tag": ["bug"]}]
)
def test_a_tag_that_is_not_in_the_list_makes_the_answer_invalid(change: dict[str, object]) -> None:
    rubric = load_rubric("code")
    span = {"quote": "x", "verdict": "wrong", "tag": "bug", "comment": ""} | change
    found = read_answer(answer(rubric, [span]), rubric, 99)
    assert found.judgements == []
    (failed,) = found.failures
    assert isinstance(failed, InvalidResponse)
    assert failed.status is FailureStatus.invalid
    assert "tag that the rubric does not have" in str(failed)


@pytest.mark.parametrize("token", ["<|im_end|>", "</s>", "[INST]", "<think>", "<end_of_turn>"])
def test_a_quote_of_a_broken_control_token_is_found(token: str) -> None:
    rubric, text = load_rubric("code"), f"print('{token}')"
    assert restored(harmless(text)) == text
    span = {"quote": harmless(text), "verdict": "wrong", "tag": "bug", "comment": ""}
    found = read_answer(answer(rubric, [span]), rubric, 99)
    critique = to_critique(Document(document_id(text), text), found, rubric, set())
    assert critique.spans == (Span(0, len(text), "wrong", "bug"),)
