"""Facts about a judge from its servers: model, context length, tokenizer, chat template."""

import re
import time
from dataclasses import dataclass, replace
from typing import Any

from ixt_data.critics.vllm.capabilities import StructuredOutput, context_of_model
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
from ixt_data.critics.vllm.trial import find_capabilities
from ixt_data.errors import CriticError
from ixt_data.records import content_id

UNKNOWN = "unknown"
_NO_LIST = (401, 403, 404, 405, 501)
PROBE_TIMEOUT_SECONDS = 60.0
_TEXT = "Zwölf Boxkämpfer, 12,345.67 — def f(x):\n\treturn x**2  # naïve 数学 🙂\r\n"
_DATES = ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%b %d, %Y", "%d/%m/%Y", "%m/%d/%Y")


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge as its server reports it.

    Attributes:
        context: tokens of prompt and completion together, None if the server does not report it.
        tokenizer: hash of the tokens of a sample text and a sample conversation.
        overhead: tokens of the prompt without a document; None where the server counts none.
    """

    context: int | None
    tokenizer: str
    overhead: int | None

    @property
    def can_count(self) -> bool:
        """True if its servers count tokens."""
        return self.overhead is not None


async def served_models(client: Client, url: str) -> list[dict[str, Any]] | None:
    """Return the models of a server, as its `/models` lists them; None where it lists none.

    Raises:
        EndpointUnreachable, ConnectionBroken, RequestTimeout: it is not ready.
    """
    response = await client.get(f"{url.rstrip('/')}/models")
    if response.status in _NO_LIST:
        return None
    body = response.json()
    if response.status != 200 or not isinstance(body, dict | list):
        raise ConnectionBroken(f"{url}/models responds with HTTP {response.status}")
    listed = body.get("data") if isinstance(body, dict) else body
    models = [dict(model) for model in listed or [] if isinstance(model, dict) and "id" in model]
    return models or None


async def inspect_judge(
    client: Client,
    endpoint: Endpoint,
    prompts: PromptBuilder,
    *,
    wanted: StructuredOutput | None,
    context: int | None,
    timeout: float,
) -> Judge:
    """Return the judge behind a server, after one request that needs its engine.

    The first time, this request is the trial that finds the endpoint's capabilities.

    Args:
        client: sends the requests.
        endpoint: the server; gets its capabilities.
        prompts: builds the requests; gets budgets that fit the context.
        wanted: the only form of structured output that the user accepts, None for any.
        context: tokens of prompt and completion together, where the server does not report it.
        timeout: seconds per trial request.

    Raises:
        EndpointUnreachable, ConnectionBroken, RequestTimeout: it is not ready.
        CriticError: it does not serve the model, or refuses the trial request.
    """
    listed = await served_models(client, endpoint.url)
    models = None if listed is None else {str(model["id"]): model for model in listed}
    if models is not None and prompts.model not in models:
        raise CriticError(
            f"{endpoint.url} does not serve the model {prompts.model!r}; "
            f"it serves {', '.join(models)}"
        )
    reported = context_of_model(models[prompts.model]) if models is not None else None
    if reported is None:
        reported = await _llama_cpp_context(client, endpoint)
    judge = await _with_tokenizer(client, endpoint, prompts, reported)
    judge = replace(judge, context=judge.context or context)
    if judge.context is not None:
        prompts.limit(judge.context, judge.overhead or prompts.estimated_overhead)
    if endpoint.capabilities is None:
        endpoint.capabilities, found = await find_capabilities(
            client, endpoint.url, prompts, wanted, timeout
        )
        return replace(judge, context=judge.context or found)
    body = probe_body(prompts.model)
    probe_response = await client.post(
        f"{endpoint.url}/chat/completions", body, PROBE_TIMEOUT_SECONDS
    )
    if probe_response.status >= 500 and probe_response.status != 503:
        raise ConnectionBroken(f"{endpoint.url} responds with HTTP {probe_response.status}")
    return judge


async def _llama_cpp_context(client: Client, endpoint: Endpoint) -> int | None:
    """Return the context of a llama.cpp server, None for other servers."""
    response = await client.get(f"{endpoint.root}/props")
    body = response.json() if response.status == 200 else None
    settings = body.get("default_generation_settings") if isinstance(body, dict) else None
    context = settings.get("n_ctx") if isinstance(settings, dict) else None
    return context if isinstance(context, int) and context > 0 else None


async def _with_tokenizer(
    client: Client, endpoint: Endpoint, prompts: PromptBuilder, context: int | None
) -> Judge:
    text = await _post(client, endpoint, "/tokenize", prompts.tokenize_text(_TEXT))
    conversation = await count_conversation(client, endpoint, prompts, prompts.messages(_TEXT))
    empty = await count_conversation(
        client, endpoint, prompts, prompts.messages(prompts.rubric.empty_message)
    )
    if text is None or conversation is None or empty is None:
        return Judge(context, UNKNOWN, None)
    probe = [{"role": role, "content": _TEXT} for role in ("system", "user")]
    template = await _post(client, endpoint, "/tokenize", prompts.tokenize(probe))
    tokens = (template or {}).get("tokens") or []
    detokenized = await _post(client, endpoint, "/detokenize", prompts.detokenize(tokens))
    # Text instead of tokens, because some templates contain today's date.
    rendered = _without_dates(str((detokenized or {}).get("prompt", tokens)))
    return Judge(
        context or text.get("max_model_len"), content_id([text.get("tokens"), rendered]), empty
    )


async def count_conversation(
    client: Client, endpoint: Endpoint, prompts: PromptBuilder, messages: list[dict[str, str]]
) -> int | None:
    """Return the tokens of a conversation, None where the server does not count."""
    body = await _post(client, endpoint, "/tokenize", prompts.tokenize(messages))
    return None if body is None or "count" not in body else int(body["count"])


async def count_text(
    client: Client, endpoint: Endpoint, prompts: PromptBuilder, text: str
) -> int | None:
    """Return the tokens of a plain text, None where the server does not count."""
    body = await _post(client, endpoint, "/tokenize", prompts.tokenize_text(text))
    return None if body is None or "count" not in body else int(body["count"])


async def _post(
    client: Client, endpoint: Endpoint, path: str, body: bytes
) -> dict[str, Any] | None:
    response: HttpResponse = await client.post(endpoint.root + path, body, PROBE_TIMEOUT_SECONDS)
    if response.status == 429 or response.status >= 500:
        raise ConnectionBroken(f"{endpoint.root}{path} responds with HTTP {response.status}")
    content = response.json() if response.status == 200 else None
    return content if isinstance(content, dict) else None


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
    "count_conversation",
    "count_text",
    "inspect_judge",
    "served_models",
]
