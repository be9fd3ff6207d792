"""Responses of a judge's server: critiques, and failures by class."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ixt_data.critics.rubric import TOP, Rubric, SpanRules, restore_neutralized
from ixt_data.critics.vllm.client import HttpResponse
from ixt_data.critics.vllm.completion import find_object, read_completion
from ixt_data.critics.vllm.degenerate import find_degeneracy
from ixt_data.critics.vllm.failures import (
    FailureStatus,
    InvalidResponse,
    error_in,
    shorten,
)
from ixt_data.critics.vllm.quote_matching import locate
from ixt_data.records import OK, VERDICTS, Critique, Document, Span

DIGITS = {str(digit): digit for digit in range(TOP + 1)}
_SCORE = re.compile(rf"(\d)(?:\.0+)?(?:\s*(?:/|out of)\s*{TOP})?")
NOT_LOCATED = "quote_not_found"
FAILED_SAMPLES = "failed_samples"
ANSWER_REPAIRED = "answer_repaired"


@dataclass
class Judgement:
    """One completion of the judge, validated against the rubric.

    Attributes:
        answer: the JSON object.
        thinking: the reasoning before it, None without reasoning.
        is_repaired: whether errors in the syntax of the answer were repaired.
    """

    answer: dict[str, Any]
    thinking: str | None
    is_repaired: bool = False


@dataclass
class JudgeResponse:
    """All completions of one request.

    Attributes:
        judgements: the valid ones.
        failures: errors of the others.
        tokens: `tokens_in`, `tokens_out`, `thinking_tokens`.
        model: name of the model that responded, None if the server does not say.
    """

    judgements: list[Judgement]
    failures: list[InvalidResponse]
    tokens: Counter[str] = field(default_factory=Counter)
    model: str | None = None


def read_judge_response(reply: HttpResponse, rubric: Rubric, max_tokens: int) -> JudgeResponse:
    """Return the judgements in the response to a chat request.

    Args:
        reply: the HTTP response.
        rubric: defines a valid answer.
        max_tokens: of the request, for messages about truncation.

    Raises:
        InvalidResponse: the response contains no completion, or the server refuses the document.
        Overloaded: the server refuses requests for now.
        EngineCrashed: the server's engine crashed.
        CriticError: every document would fail: another model, wrong credentials, a refused schema.
    """
    body = reply.json()
    if (error := error_in(reply, body)) is not None:
        raise error
    try:
        choices, usage = body["choices"], body.get("usage") or {}
        results: list[Judgement | InvalidResponse] = [
            _judgement(choice, rubric, usage, max_tokens) for choice in choices
        ]
        tokens = _tokens(usage, choices)
    except (TypeError, ValueError, KeyError, AttributeError):
        raise InvalidResponse(
            FailureStatus.invalid, f"not a chat completion: {shorten(reply.body)}"
        ) from None
    if not results:
        raise InvalidResponse(
            FailureStatus.no_answer, "the server's response contains no completion"
        )
    good = [one for one in results if isinstance(one, Judgement)]
    bad = [one for one in results if isinstance(one, InvalidResponse)]
    model = body.get("model")
    return JudgeResponse(good, bad, tokens, model if isinstance(model, str) else None)


def _judgement(
    choice: Mapping[str, Any], rubric: Rubric, usage: Mapping[str, Any], max_tokens: int
) -> Judgement | InvalidResponse:
    message, finish = choice["message"], choice.get("finish_reason")
    completion = read_completion(message)
    content, thinking = completion.content, completion.thinking
    if finish == "error":
        what = shorten(str(choice.get("error") or content))
        return InvalidResponse(FailureStatus.server_crashed, f"the server: {what}")
    if message.get("refusal") or finish == "content_filter":
        return InvalidResponse(
            FailureStatus.refused, f"the judge declined: {message.get('refusal') or finish}"
        )
    if finish == "length":
        return InvalidResponse(
            FailureStatus.truncated, _truncation_reason(content, usage, max_tokens)
        )
    if not content.strip():
        if thinking and isinstance(_checked_answer(thinking, rubric)[0], dict):
            return InvalidResponse(
                FailureStatus.answer_in_reasoning,
                "the answer is in the reasoning: the server's --reasoning-parser does not fit the "
                "model, or thinking is off",
            )
        return InvalidResponse(FailureStatus.no_answer, "the completion contains no answer")
    answer, is_repaired = _checked_answer(content, rubric)
    if isinstance(answer, str):
        return InvalidResponse(FailureStatus.invalid, f"{answer}: {shorten(content)}")
    reason = find_degeneracy(answer["critique"], rubric.system_message)
    if reason is not None:
        return InvalidResponse(
            FailureStatus.degenerate, f"{reason}: {shorten(answer['critique'])!r}"
        )
    return Judgement(answer, thinking, is_repaired)


def _truncation_reason(content: str, usage: Mapping[str, Any], max_tokens: int) -> str:
    used = usage.get("completion_tokens") or 0
    if content and len(content) - len(content.rstrip()) > 64:
        return f"only white space up to {used} tokens"
    if 0 < used < max_tokens:
        return f"the server limited it to {used} of {max_tokens} tokens"
    return f"incomplete after {max_tokens} tokens; raise --max-tokens or set --thinking-budget"


def _checked_answer(content: str, rubric: Rubric) -> tuple[dict[str, Any] | str, bool]:
    """Return the answer in `content` or what is wrong with it, and whether it was repaired."""
    answer, is_repaired = find_object(content)
    if answer is None:
        return "not JSON, or several answers that differ", False
    return _find_defect(answer, rubric) or answer, is_repaired


def _find_defect(answer: dict[str, Any], rubric: Rubric) -> str | None:
    """Return what makes an answer unusable; whole numbers in other notations become integers."""
    if not isinstance(answer.get("critique"), str):
        return "not an object with a critique"
    if not answer["critique"].strip():
        return "an empty critique"
    names = [dimension.name for dimension in rubric.dimensions]
    scores, flags = answer.get("scores"), answer.get("flags") or []
    answer["flags"] = flags
    answer["overall"] = _whole_number(answer.get("overall"))
    if isinstance(scores, dict):
        answer["scores"] = scores = {key: _whole_number(v) for key, v in scores.items()}
    if not isinstance(scores, dict) or any(not _is_digit(scores.get(name)) for name in names):
        return f"no score from 0 to {TOP} for each of {', '.join(names)}"
    if not _is_digit(answer.get("overall")):
        return f"no overall score from 0 to {TOP}"
    if not isinstance(flags, list) or not {*map(str, flags)} <= {*rubric.flags}:
        return "flags that the rubric does not define"
    if rubric.spans is not None and not _are_spans(answer.get("spans", []), rubric.spans):
        return "spans without a quote, or with a verdict or tag that the rubric does not define"
    return None


def _whole_number(value: Any) -> Any:
    """Return 3 for 3.0, "3", "3.0", "3/5" and "3 out of 5"; any other value unchanged."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    match = _SCORE.fullmatch(value.strip()) if isinstance(value, str) else None
    return value if match is None else int(match[1])


def _are_spans(spans: Any, rules: SpanRules) -> bool:
    """Return whether spans have the rubric's verdicts and tags: some servers ignore the schema."""
    return isinstance(spans, list) and all(
        isinstance(span, dict)
        and isinstance(span.get("quote"), str)
        and span.get("verdict") in VERDICTS
        and span.get("tag") in rules.tags
        for span in spans
    )


def _is_digit(value: Any) -> bool:
    return type(value) is int and 0 <= value <= TOP


def _tokens(usage: Mapping[str, Any], choices: Sequence[Mapping[str, Any]]) -> Counter[str]:
    out = usage.get("completion_tokens") or 0
    thinking_tokens = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if thinking_tokens is None:
        # Most servers do not count thinking separately: estimate it by its share of the characters.
        parts = [read_completion(choice["message"]) for choice in choices]
        visible_chars = sum(len(part.content) for part in parts)
        hidden_chars = sum(len(part.thinking or "") for part in parts)
        thinking_tokens = (
            round(out * hidden_chars / (hidden_chars + visible_chars)) if hidden_chars else 0
        )
    read = usage.get("prompt_tokens") or 0
    return Counter(tokens_in=int(read), tokens_out=int(out), thinking_tokens=int(thinking_tokens))


def to_critique(
    document: Document, response: JudgeResponse, rubric: Rubric, flags: set[str]
) -> Critique:
    """Return the critique of a document from the judge's response.

    With several samples, the score is their mean, `scores` has their spread, and text and spans are
    those of the sample closest to the mean.

    Args:
        document: what was judged.
        response: with one judgement or more.
        rubric: names the dimensions.
        flags: flags to add to the judge's own.
    """
    overall = [judgement.answer["overall"] for judgement in response.judgements]
    mean = statistics.fmean(overall)
    closest = min(
        response.judgements, key=lambda judgement: abs(judgement.answer["overall"] - mean)
    )
    scores = {
        dimension.name: statistics.fmean(
            judgement.answer["scores"][dimension.name] for judgement in response.judgements
        )
        for dimension in rubric.dimensions
    }
    scores["overall"] = mean
    if len(overall) + len(response.failures) > 1:
        scores |= {"samples": len(overall), "spread": statistics.pstdev(overall)}
        scores |= {f"sample_{i}": score for i, score in enumerate(overall, 1)}
    all_flags = set(flags).union(*(judgement.answer["flags"] for judgement in response.judgements))
    quotes = closest.answer.get("spans", []) if rubric.spans is not None else []
    spans, n_lost = _locate_quotes(document.text, quotes)
    all_flags |= {NOT_LOCATED} if n_lost else set()
    all_flags |= {FAILED_SAMPLES} if response.failures else set()
    all_flags |= {ANSWER_REPAIRED} if any(one.is_repaired for one in response.judgements) else set()
    thoughts = [judgement.thinking for judgement in response.judgements if judgement.thinking]
    return Critique(
        document.doc_id,
        OK,
        critique=closest.answer["critique"],
        score=mean / TOP,
        scores=scores,
        spans=spans,
        flags=tuple(sorted(all_flags)),
        thinking=_join_thinking(thoughts),
        n_thinking_tokens=response.tokens["thinking_tokens"],
    )


def _join_thinking(thoughts: Sequence[str]) -> str | None:
    if len(thoughts) < 2:
        return thoughts[0] if thoughts else None
    return "\n\n".join(f"=== sample {i} ===\n{thought}" for i, thought in enumerate(thoughts, 1))


def _locate_quotes(text: str, quotes: Sequence[Mapping[str, Any]]) -> tuple[tuple[Span, ...], int]:
    """Return spans in document order, and the number of quotes that do not match."""
    spans, n_lost = [], 0
    for quote in quotes:
        quoted, comment = quote["quote"], str(quote.get("comment") or "")
        offsets = locate(text, quoted) or locate(text, restore_neutralized(quoted))
        if offsets is None:
            n_lost += 1
            continue
        spans.append(Span(*offsets, quote["verdict"], quote["tag"], comment))
    return tuple(sorted(spans, key=lambda span: (span.start, span.end))), n_lost


def read_digits(reply: HttpResponse) -> tuple[float, float] | None:
    """Return expected score (0 to 1) and entropy (nats) from a one-digit response, or None.

    The probabilities of the digits are renormalized, because other tokens cannot be sampled.
    """
    body = reply.json() if reply.status == 200 else None
    try:
        first = body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]  # type: ignore[index]
        weights = [0.0] * (TOP + 1)
        for option in first:
            digit = DIGITS.get(option["token"].strip(" \t▁Ġ"))
            if digit is not None:
                weights[digit] += math.exp(option["logprob"])
    except (TypeError, KeyError, IndexError, AttributeError):
        return None
    total = sum(weights)
    if not total > 0:
        return None
    shares = [weight / total for weight in weights]
    expected = sum(digit * share for digit, share in enumerate(shares)) / TOP
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    return expected, max(0.0, entropy)
