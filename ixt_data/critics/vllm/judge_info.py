"""What is known of a judge from its servers: model, context length, tokenizer and chat template."""

import re
import time
from dataclasses import dataclass
from typing import Any

from ixt_data.critics.vllm.client import (
    Client,
    ConnectionBroken,
    EndpointUnreachable,
    HttpResponse,
    RequestTimeout,
)
from ixt_data.critics.vllm.endpoint import Endpoint
from ixt_data.critics.vllm.endpoint_pool import probe_body
from ixt_data.critics.vllm.prompts import PromptBuilder
from ixt_data.errors import CriticError
from ixt_data.records import content_id

UNKNOWN = "unknown"
BYTES_PER_TOKEN = 2.5
"""Taken where nobody counts tokens: fewer than text of any kind is said to have on average."""

PROBE_SECONDS = 60.0
_TEXT = "Zwölf Boxkämpfer, 12,345.67 — def f(x):\n\treturn x**2  # naïve 数学 🙂\r\n"
_DATES = ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%b %d, %Y", "%d/%m/%Y", "%m/%d/%Y")


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge as its server reports it.

    Attributes:
        context: tokens of prompt and answer together, None if the server does not say.
        tokenizer: hash of how it cuts up a text and a conversation.
        overhead: tokens of the prompt without a document; None where the server does not count.
    """

    context: int | None
    tokenizer: str
    overhead: int | None

    @property
    def counts(self) -> bool:
        """Whether its server counts tokens."""
        return self.overhead is not None


async def served_models(client: Client, url: str) -> list[dict[str, Any]]:
    """The models of a server.

    Raises:
        Unreachable, Cut, Late: it does not answer, or not yet.
        CriticError: it wants other credentials.
    """
    reply = await client.get(f"{url.rstrip('/')}/models")
    if reply.status in (401, 403):
        raise CriticError(
            f"{url}: refuses these credentials (HTTP {reply.status}); set IXT_API_KEY"
        )
    body = reply.json()
    if reply.status != 200 or not isinstance(body, dict):
        raise ConnectionBroken(f"{url}/models answers HTTP {reply.status}")
    return [dict(model) for model in body.get("data") or []]


async def examine(client: Client, endpoint: Endpoint, requests: PromptBuilder) -> Judge:
    """Asks a server who it is, and makes it work once.

    Raises:
        Unreachable, Cut, Late: it does not answer, or not yet.
        CriticError: it serves another model.
    """
    models = {str(model.get("id")): model for model in await served_models(client, endpoint.url)}
    if requests.model not in models:
        raise CriticError(
            f"{endpoint.url} serves no model {requests.model!r}; it serves {', '.join(models)}"
        )
    body = probe_body(requests.model)
    worked = await client.post(f"{endpoint.url}/chat/completions", body, PROBE_SECONDS)
    if worked.status >= 500 and worked.status != 503:
        raise ConnectionBroken(f"{endpoint.url} answers HTTP {worked.status}")
    context = models[requests.model].get("max_model_len")
    return await _tokenizer(client, endpoint, requests, context)


async def _tokenizer(
    client: Client, endpoint: Endpoint, requests: PromptBuilder, context: int | None
) -> Judge:
    text = await _post(client, endpoint, "/tokenize", requests.tokenize_text(_TEXT))
    chat = await count(client, endpoint, requests, requests.messages(_TEXT))
    empty = await count(
        client, endpoint, requests, requests.messages(requests.rubric.empty_message)
    )
    if text is None or chat is None or empty is None:
        return Judge(context, UNKNOWN, None)
    probe = [{"role": role, "content": _TEXT} for role in ("system", "user")]
    template = await _post(client, endpoint, "/tokenize", requests.tokenize(probe))
    tokens = (template or {}).get("tokens") or []
    spoken = await _post(client, endpoint, "/detokenize", requests.detokenize(tokens))
    # The text rather than the tokens, since some templates write today's date.
    said = _without_dates(str((spoken or {}).get("prompt", tokens)))
    return Judge(
        context or text.get("max_model_len"), content_id([text.get("tokens"), said]), empty
    )


async def count(
    client: Client, endpoint: Endpoint, requests: PromptBuilder, messages: list[dict[str, str]]
) -> int | None:
    """Tokens of a conversation, None where the server does not count."""
    answer = await _post(client, endpoint, "/tokenize", requests.tokenize(messages))
    return None if answer is None or "count" not in answer else int(answer["count"])


async def count_text(
    client: Client, endpoint: Endpoint, requests: PromptBuilder, text: str
) -> int | None:
    """Tokens of a bare text, None where the server does not count."""
    answer = await _post(client, endpoint, "/tokenize", requests.tokenize_text(text))
    return None if answer is None or "count" not in answer else int(answer["count"])


async def _post(
    client: Client, endpoint: Endpoint, path: str, body: bytes
) -> dict[str, Any] | None:
    reply: HttpResponse = await client.post(endpoint.root + path, body, PROBE_SECONDS)
    if reply.status in (429, 503) or reply.status >= 500:
        raise ConnectionBroken(f"{endpoint.root}{path} answers HTTP {reply.status}")
    answer = reply.json() if reply.status == 200 else None
    return answer if isinstance(answer, dict) else None


def _without_dates(text: str) -> str:
    now = time.time()
    for day in (now - 86400, now, now + 86400):
        for form in _DATES:
            text = text.replace(time.strftime(form, time.gmtime(day)), "<date>")
    return re.sub(r"\b\d{1,2}:\d{2}(:\d{2})?\b", "<time>", text)


__all__ = [
    "ConnectionBroken",
    "EndpointUnreachable",
    "Judge",
    "RequestTimeout",
    "count",
    "count_text",
    "examine",
    "served_models",
]
