"""What a judge's server answers: critiques, and what went wrong, class by class."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from ixt_data.critics.rubric import TOP, VERDICTS, Rubric, SpanRules, restored
from ixt_data.critics.vllm.client import HttpResponse
from ixt_data.critics.vllm.quote_matching import locate
from ixt_data.errors import CriticError
from ixt_data.records import OK, Critique, Document, Span

DIGITS = {str(digit): digit for digit in range(TOP + 1)}
NOT_LOCATED = "quote_not_found"
FAILED_SAMPLES = "failed_samples"


class FailureStatus(StrEnum):
    """Why a document has no critique: the statuses of its row beside `ok`."""

    too_long = "too_long"
    no_answer = "no_answer"
    misrouted = "misrouted"
    truncated = "truncated"
    invalid = "invalid"
    refused = "refused"
    timeout = "timeout"
    server_died = "server_died"
    poison = "poison"


FINAL = frozenset({FailureStatus.too_long, FailureStatus.refused, FailureStatus.poison})
"""Asking again would give the same."""


class InvalidResponse(Exception):
    """An answer that is no critique."""

    def __init__(self, status: FailureStatus, what: str) -> None:
        super().__init__(what)
        self.status = status


class Overloaded(Exception):
    """The server takes no more for now; the document is not to blame."""


class EngineCrashed(Exception):
    """The server says that its engine is gone."""


@dataclass
class Judgement:
    """One answer of the judge, checked.

    Attributes:
        answer: the JSON object.
        thinking: what came before it, None if nothing.
    """

    answer: dict[str, Any]
    thinking: str | None


@dataclass
class JudgeResponse:
    """All answers to one request.

    Attributes:
        judgements: those that are critiques.
        failures: what the others were.
        tokens: `tokens_in`, `tokens_out`, `thinking_tokens`.
    """

    judgements: list[Judgement]
    failures: list[InvalidResponse]
    tokens: Counter[str] = field(default_factory=Counter)


def read_answer(reply: HttpResponse, rubric: Rubric, max_tokens: int) -> JudgeResponse:
    """The critiques in a server's reply to a chat request.

    Raises:
        Failed: there is none; its status tells the class.
        Overloaded, EngineDied: the server's own trouble.
        CriticError: no document would fare better: the model is another, the schema is refused.
    """
    body = reply.json()
    if reply.status != 200:
        raise _refusal(reply, body)
    try:
        choices, usage = body["choices"], body.get("usage") or {}
        judged: list[Judgement | InvalidResponse] = [
            _judgement(choice, rubric, usage, max_tokens) for choice in choices
        ]
        tokens = _tokens(usage, choices)
    except (TypeError, ValueError, KeyError, AttributeError):
        raise InvalidResponse(
            FailureStatus.invalid, f"not a chat completion: {_short(reply.body)}"
        ) from None
    if not judged:
        raise InvalidResponse(FailureStatus.no_answer, "the server's reply holds no answer at all")
    good = [one for one in judged if isinstance(one, Judgement)]
    bad = [one for one in judged if isinstance(one, InvalidResponse)]
    return JudgeResponse(good, bad, tokens)


def _judgement(
    choice: Mapping[str, Any], rubric: Rubric, usage: Mapping[str, Any], max_tokens: int
) -> Judgement | InvalidResponse:
    message, finish = choice["message"], choice.get("finish_reason")
    content = message.get("content") or ""
    thinking = message.get("reasoning") or message.get("reasoning_content") or None
    if message.get("refusal") or finish == "content_filter":
        return InvalidResponse(
            FailureStatus.refused, f"the judge declined: {message.get('refusal') or finish}"
        )
    if finish == "length":
        return InvalidResponse(FailureStatus.truncated, _cut_off(content, usage, max_tokens))
    if not content.strip():
        if thinking and isinstance(_checked(thinking.strip(), rubric), dict):
            return InvalidResponse(
                FailureStatus.misrouted,
                "the answer came as reasoning: the server's --reasoning-parser does not fit the "
                "model, or thinking is off",
            )
        return InvalidResponse(FailureStatus.no_answer, "the judge ended without an answer")
    answer = _checked(content, rubric)
    if isinstance(answer, str):
        return InvalidResponse(FailureStatus.invalid, f"{answer}: {_short(content)}")
    return Judgement(answer, thinking)


def _cut_off(content: str, usage: Mapping[str, Any], max_tokens: int) -> str:
    spent = usage.get("completion_tokens") or 0
    if content and len(content) - len(content.rstrip()) > 64:
        return f"nothing but white space up to {spent} tokens"
    if 0 < spent < max_tokens:
        return f"the server allowed {spent} of {max_tokens} tokens"
    return f"no end after {max_tokens} tokens; raise --max-tokens or set --thinking-budget"


def _checked(content: str, rubric: Rubric) -> dict[str, Any] | str:
    """The answer in `content`, or what is wrong with it."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        return f"not JSON ({error})"
    if not isinstance(answer, dict) or not isinstance(answer.get("critique"), str):
        return "no object with a critique"
    if not answer["critique"].strip():
        return "an empty critique"
    scores, flags = answer.get("scores"), answer.get("flags", [])
    names = [dimension.name for dimension in rubric.dimensions]
    if not isinstance(scores, dict) or any(not _is_digit(scores.get(name)) for name in names):
        return f"no score from 0 to {TOP} for each of {', '.join(names)}"
    if not _is_digit(answer.get("overall")):
        return f"no overall score from 0 to {TOP}"
    if not isinstance(flags, list) or not {*map(str, flags)} <= {*rubric.flags}:
        return "flags that the rubric does not have"
    if rubric.spans is not None and not _are_spans(answer.get("spans", []), rubric.spans):
        return "spans without a quote, or with a verdict or tag that the rubric does not have"
    return answer


def _are_spans(spans: Any, rules: SpanRules) -> bool:
    """Whether quotes have the rubric's verdicts and tags; not every server binds an answer."""
    return isinstance(spans, list) and all(
        isinstance(span, dict)
        and isinstance(span.get("quote"), str)
        and span.get("verdict") in VERDICTS
        and span.get("tag") in rules.tags
        for span in spans
    )


def _is_digit(value: Any) -> bool:
    return type(value) is int and 0 <= value <= TOP


def _refusal(reply: HttpResponse, body: Any) -> Exception:
    """What an HTTP status other than 200 means."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    error = error if isinstance(error, dict) else {"message": str(error)}
    message = _short(str(error.get("message") or reply.body.decode(errors="replace")))
    lower = message.lower()
    if reply.status in (429, 503):
        return Overloaded(message)
    if reply.status >= 500:
        if "enginecore" in lower or "engine core" in lower or "enginedead" in lower:
            return EngineCrashed(message)
        return InvalidResponse(FailureStatus.server_died, f"HTTP {reply.status}: {message}")
    if reply.status == 413 or error.get("param") == "input_tokens" or "context length" in lower:
        return InvalidResponse(FailureStatus.too_long, f"the server: {message}")
    if reply.status == 404:
        return CriticError(f"the server does not know this model or address: {message}")
    if reply.status in (401, 403):
        return CriticError(
            f"the server wants other credentials (HTTP {reply.status}); set IXT_API_KEY"
        )
    if any(word in lower for word in ("json_schema", "response_format", "grammar", "schema")):
        return CriticError(f"the server refuses the rubric's answer schema: {message}")
    return InvalidResponse(FailureStatus.refused, f"HTTP {reply.status}: {message}")


def _short(text: str | bytes) -> str:
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    shown = " ".join(shown.split())
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


def _tokens(usage: Mapping[str, Any], choices: Sequence[Mapping[str, Any]]) -> Counter[str]:
    out = usage.get("completion_tokens") or 0
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if thought is None:
        # Most servers do not count it apart: by its share of the characters.
        messages = [choice["message"] for choice in choices]
        spoken = sum(len(m.get("content") or "") for m in messages)
        hidden = sum(len(m.get("reasoning") or m.get("reasoning_content") or "") for m in messages)
        thought = round(out * hidden / (hidden + spoken)) if hidden else 0
    read = usage.get("prompt_tokens") or 0
    return Counter(tokens_in=int(read), tokens_out=int(out), thinking_tokens=int(thought))


def to_critique(
    document: Document, answer: JudgeResponse, rubric: Rubric, flags: set[str]
) -> Critique:
    """The critique of a document: of several answers the one nearest to their mean, with spread."""
    overall = [judged.answer["overall"] for judged in answer.judgements]
    mean = statistics.fmean(overall)
    middle = min(answer.judgements, key=lambda judged: abs(judged.answer["overall"] - mean))
    scores = {
        dimension.name: statistics.fmean(
            judged.answer["scores"][dimension.name] for judged in answer.judgements
        )
        for dimension in rubric.dimensions
    }
    scores["overall"] = mean
    if len(overall) + len(answer.failures) > 1:
        scores |= {"samples": len(overall), "spread": statistics.pstdev(overall)}
        scores |= {f"sample_{i}": score for i, score in enumerate(overall, 1)}
    marks = set(flags).union(*(judged.answer["flags"] for judged in answer.judgements))
    quoted = middle.answer.get("spans", []) if rubric.spans is not None else []
    spans, lost = _spans(document.text, quoted)
    marks |= {NOT_LOCATED} if lost else set()
    marks |= {FAILED_SAMPLES} if answer.failures else set()
    thoughts = [judged.thinking for judged in answer.judgements if judged.thinking]
    return Critique(
        document.doc_id,
        OK,
        critique=middle.answer["critique"],
        score=mean / TOP,
        scores=scores,
        spans=spans,
        flags=tuple(sorted(marks)),
        thinking=_joined(thoughts),
        n_thinking_tokens=answer.tokens["thinking_tokens"],
    )


def _joined(thoughts: Sequence[str]) -> str | None:
    if len(thoughts) < 2:
        return thoughts[0] if thoughts else None
    return "\n\n".join(f"=== sample {i} ===\n{thought}" for i, thought in enumerate(thoughts, 1))


def _spans(text: str, quoted: Sequence[Mapping[str, Any]]) -> tuple[tuple[Span, ...], int]:
    """Spans in document order, and how many quotes are not in the document."""
    found, lost = [], 0
    for quote in quoted:
        words, comment = quote["quote"], str(quote.get("comment") or "")
        place = locate(text, words) or locate(text, restored(words))
        if place is None:
            lost += 1
            continue
        found.append(Span(*place, quote["verdict"], quote["tag"], comment))
    return tuple(sorted(found, key=lambda span: (span.start, span.end))), lost


def read_digits(reply: HttpResponse) -> tuple[float, float] | None:
    """Expected score (0 to 1) and entropy in nats from the reply about one digit, None if none.

    The probabilities of the digits are renormalized: other tokens cannot be drawn.
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
