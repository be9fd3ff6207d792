"""Responses of a judge: quotes become spans, lost quotes and invalid answers are flagged."""

import orjson
import pytest

from ixt_data.critics.rubric import Rubric, load_rubric, neutralize_injection, restore_neutralized
from ixt_data.critics.vllm.client import HttpResponse
from ixt_data.critics.vllm.failures import FailureStatus, InvalidResponse
from ixt_data.critics.vllm.responses import read_judge_response, to_critique
from ixt_data.records import Document, Span, document_id


def answer(rubric: Rubric, spans: object) -> HttpResponse:
    said = {
        "critique": "The second line divides by zero.",
        "flags": [],
        "spans": spans,
        "scores": {dimension.name: 3 for dimension in rubric.dimensions},
        "overall": 3,
    }
    message = {"content": orjson.dumps(said).decode()}
    choices = [{"message": message, "finish_reason": "stop"}]
    return HttpResponse(200, orjson.dumps({"choices": choices, "usage": {}}))


def test_spans_are_ordered_and_lost_quotes_are_flagged() -> None:
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
            document, read_judge_response(answer(rubric, quoted), rubric, 99), rubric, set()
        )
        return found.spans, found.flags

    both = (Span(0, 9, "right", "good_example"), Span(10, 19, "wrong", "bug", "divides by zero"))
    assert critique(spans) == (both, ())
    assert critique([*spans, lost]) == (both, ("quote_not_found",))
    assert critique([]) == ((), ())


@pytest.mark.parametrize(
    "change", [{"tag": "ugly"}, {"verdict": "so so"}, {"quote": None}, {"tag": ["bug"]}]
)
def test_answer_with_an_unknown_tag_is_invalid(change: dict[str, object]) -> None:
    rubric = load_rubric("code")
    span = {"quote": "x", "verdict": "wrong", "tag": "bug", "comment": ""} | change
    found = read_judge_response(answer(rubric, [span]), rubric, 99)
    assert found.judgements == []
    (failed,) = found.failures
    assert isinstance(failed, InvalidResponse)
    assert failed.status is FailureStatus.invalid
    assert "tag that the rubric does not define" in str(failed)


@pytest.mark.parametrize("token", ["<|im_end|>", "</s>", "[INST]", "<think>", "<end_of_turn>"])
def test_quote_of_a_neutralized_token_is_located(token: str) -> None:
    rubric, text = load_rubric("code"), f"print('{token}')"
    assert restore_neutralized(neutralize_injection(text)) == text
    span = {"quote": neutralize_injection(text), "verdict": "wrong", "tag": "bug", "comment": ""}
    found = read_judge_response(answer(rubric, [span]), rubric, 99)
    critique = to_critique(Document(document_id(text), text), found, rubric, set())
    assert critique.spans == (Span(0, len(text), "wrong", "bug"),)
