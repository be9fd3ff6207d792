"""Failures of a judge's server, by class: the remedies differ."""

from enum import StrEnum
from typing import Any

from ixt_data.critics.vllm.client import HttpResponse
from ixt_data.errors import CriticError

OVERLOADED = (429, 503, 529)
"""HTTP statuses of a server that has no capacity; 529 is Anthropic's."""


class FailureStatus(StrEnum):
    """Statuses of a document without a critique."""

    too_long = "too_long"
    no_answer = "no_answer"
    answer_in_reasoning = "answer_in_reasoning"
    truncated = "truncated"
    invalid = "invalid"
    degenerate = "degenerate"
    refused = "refused"
    timeout = "timeout"
    server_crashed = "server_crashed"
    poison = "poison"


FINAL_STATUSES = frozenset({FailureStatus.too_long, FailureStatus.refused, FailureStatus.poison})
"""Failures that a retry would repeat."""


class InvalidResponse(Exception):
    """A response without a usable critique.

    Args:
        status: class of the failure.
        message: what is wrong.
    """

    def __init__(self, status: FailureStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Overloaded(Exception):
    """The server refuses requests because of overload; it never started on the document.

    Args:
        message: the server's.
        retry_after: seconds until it wants another request, None if it does not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineCrashed(Exception):
    """The server reports that its engine crashed."""


def error_in(reply: HttpResponse, body: Any) -> Exception | None:
    """Return the error that a response is, None for any other response.

    Some servers answer with HTTP 200 and an object that has the error and its code.
    """
    if reply.status != 200:
        return error_of(reply)
    error = body.get("error") if isinstance(body, dict) and not body.get("choices") else None
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return error_of(HttpResponse(status, reply.body))


def error_of(reply: HttpResponse) -> Exception:
    """Return the error for an HTTP status other than 200."""
    body = reply.json()
    error = body.get("error", body) if isinstance(body, dict) else {}
    error = error if isinstance(error, dict) else {"message": str(error)}
    message = shorten(str(error.get("message") or reply.body.decode(errors="replace")))
    lower = message.lower()
    if reply.status in OVERLOADED:
        return Overloaded(message, reply.retry_after)
    if reply.status >= 500:
        if "enginecore" in lower or "engine core" in lower or "enginedead" in lower:
            return EngineCrashed(message)
        return InvalidResponse(FailureStatus.server_crashed, f"HTTP {reply.status}: {message}")
    if reply.status == 413 or error.get("param") == "input_tokens" or "context length" in lower:
        return InvalidResponse(FailureStatus.too_long, f"the server: {message}")
    if reply.status == 404:
        return CriticError(
            f"the server does not serve this model or address: {message}. Most addresses end with "
            "/v1"
        )
    if reply.status in (401, 403):
        return CriticError(
            f"the server refuses these credentials (HTTP {reply.status}); set IXT_API_KEY"
        )
    if any(word in lower for word in ("json_schema", "response_format", "grammar", "schema")):
        return CriticError(f"the server refuses the rubric's answer schema: {message}")
    return InvalidResponse(FailureStatus.refused, f"HTTP {reply.status}: {message}")


def shorten(text: str | bytes) -> str:
    """Return a text in one line of 200 characters at most."""
    flat = text.decode(errors="replace") if isinstance(text, bytes) else text
    flat = " ".join(flat.split())
    return flat if len(flat) <= 200 else f"{flat[:200]}…"
