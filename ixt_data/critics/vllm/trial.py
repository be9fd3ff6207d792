"""The trial request to a server: a critique of a short text, which shows its capabilities."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ixt_data.critics.vllm.capabilities import (
    MAX_TRIALS,
    SAMPLE_TEXT,
    Capabilities,
    RefusedRequest,
    StructuredOutput,
    context_in_message,
)
from ixt_data.critics.vllm.client import Client, ConnectionBroken, HttpResponse
from ixt_data.critics.vllm.completion import parse_object, read_completion
from ixt_data.critics.vllm.failures import (
    OVERLOADED,
    EngineCrashed,
    FailureStatus,
    InvalidResponse,
    Overloaded,
    error_in,
    error_of,
    shorten,
)
from ixt_data.critics.vllm.prompts import PromptBuilder
from ixt_data.critics.vllm.responses import read_digits, read_judge_response
from ixt_data.errors import CriticError
from ixt_data.records import Document

_REFUSED_REQUEST = (400, 404, 415, 422)


async def find_capabilities(
    client: Client,
    url: str,
    prompts: PromptBuilder,
    wanted: StructuredOutput | None,
    timeout: float,
) -> tuple[Capabilities, int | None]:
    """Return what a server takes and gives, and the context that its errors name.

    Args:
        client: sends the requests.
        url: the server's address up to `/v1`.
        prompts: builds the requests; its budgets are limited to the context, once one is known.
        wanted: the only form of structured output that the user accepts, None for any.
        timeout: seconds per request.

    Raises:
        ConnectionBroken, EndpointUnreachable, RequestTimeout: the server is not ready.
        CriticError: it refuses the request for a reason that concerns every document.
    """
    user = prompts.rubric.user_message(Document(bytes(16), SAMPLE_TEXT))
    server = Capabilities(structured=wanted or StructuredOutput.json_schema)
    context = None
    for _ in range(MAX_TRIALS):
        reply = await client.post(f"{url}/chat/completions", prompts.chat(user, 0, server), timeout)
        if reply.status in _REFUSED_REQUEST:
            refused = _refused(reply)
            found = context_in_message(refused.message)
            if found is not None and found != context:
                context = found
                prompts.limit(found, prompts.estimated_overhead)
                continue
            if reply.status == 404:
                raise error_of(reply)
            server = server.without(refused, wanted)
            continue
        choices = _choices(reply, url)
        completion = read_completion(choices[0].get("message") or {})
        server = replace(server, thinking=completion.form)
        if len(choices) < prompts.sampling.samples and "n" not in server.refused:
            server = replace(server, refused=server.refused | {"n"})
        has_ended = choices[0].get("finish_reason") == "stop"
        is_last = server.structured is StructuredOutput.prompt
        content = completion.content.strip()
        if has_ended and content and not is_last and not _obeys(reply, content, prompts):
            server = server.next_structure(wanted, f"it answers with {shorten(content)!r}")
            continue
        return replace(
            server, logprobs=await _gives_logprobs(client, url, prompts, user, reply, timeout)
        ), context
    raise CriticError(f"{url} refuses every form of the trial request: {refused.message}")


def _refused(reply: HttpResponse) -> RefusedRequest:
    body = reply.json()
    error = body.get("error", body) if isinstance(body, Mapping) else body
    # Some servers wrap the error in a list.
    error = error[0].get("error", error[0]) if isinstance(error, list) and error else error
    if not isinstance(error, Mapping):
        return RefusedRequest("", shorten(reply.body))
    details = error.get("message") or error.get("detail") or error
    n_ctx = f" n_ctx {error['n_ctx']}" if "n_ctx" in error else ""
    return RefusedRequest(str(error.get("param") or ""), shorten(f"{details}{n_ctx}"))


def _choices(reply: HttpResponse, url: str) -> list[dict[str, Any]]:
    """Return the choices of a response.

    Raises:
        ConnectionBroken: the server is not ready; a later request may succeed.
        CriticError: the response is not one of a chat server.
    """
    body = reply.json()
    if (error := error_in(reply, body)) is not None:
        if isinstance(error, CriticError):
            raise error
        raise ConnectionBroken(f"{url} responds with HTTP {reply.status}: {error}")
    if reply.body.lstrip().startswith(b"data:"):
        raise CriticError(
            f"{url} streams its response, though no stream was asked for. Turn streaming off in "
            "the server or in the proxy before it"
        )
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise ConnectionBroken(f"{url} responds with no chat completion: {shorten(reply.body)}")
    return choices


def _obeys(reply: HttpResponse, content: str, prompts: PromptBuilder) -> bool:
    """Return whether an answer is bare JSON with the rubric's keys: some servers ignore a form."""
    if parse_object(content) is None:
        return False
    response = read_judge_response(reply, prompts.rubric, prompts.max_tokens)
    return all(failure.status is not FailureStatus.invalid for failure in response.failures)


async def _gives_logprobs(
    client: Client,
    url: str,
    prompts: PromptBuilder,
    user: str,
    reply: HttpResponse,
    timeout: float,
) -> bool:
    """Return whether the server continues an answer and gives the probabilities of its score."""
    if not prompts.sampling.expected:
        return False
    try:
        response = read_judge_response(reply, prompts.rubric, prompts.max_tokens)
    except (InvalidResponse, Overloaded, EngineCrashed):
        return True
    if not response.judgements:
        return True
    first = response.judgements[0]
    body = prompts.digit(user, first.answer, first.thinking)
    digits = await client.post(f"{url}/chat/completions", body, timeout)
    # A busy server shows nothing.
    return digits.status in (*OVERLOADED, 500, 502) or read_digits(digits) is not None
