"""What servers of the OpenAI protocol take and give, each in a shape that the fake server plays.

The shapes follow the public documentation and measurements; the wording of errors is ours. See the
table in docs/judges.md.
"""

import json
from dataclasses import dataclass, field
from typing import Any

ALWAYS = {"model", "messages", "response_format"}
VLLM = {
    "chat_template_kwargs", "thinking_token_budget", "structured_outputs", "continue_final_message",
    "add_generation_prompt",
}  # fmt: skip
USUAL = {"max_tokens", "temperature", "top_p", "seed", "n", "logprobs", "top_logprobs"}


@dataclass(frozen=True)
class Shape:
    """One kind of server.

    Attributes:
        takes: parameters of a chat request; another one is an error.
        ignores: parameters that it accepts without any effect.
        forms: types of `response_format` that it obeys.
        refused_forms: types that are an error; all others have no effect.
        models_status: HTTP status of `/v1/models`.
        model_fields: fields of a model in that list, besides its id.
        names_parameter: whether an error names the parameter in `param`.
        thinking: field, inline, open (the tag opens in the prompt), blocks, or none.
        wrap: text around the JSON of an answer that no form constrains.
        props: response of `/props`, None without that route.
        choices: completions of one request at most.
    """

    takes: frozenset[str] = frozenset(ALWAYS | USUAL)
    ignores: frozenset[str] = frozenset()
    forms: tuple[str, ...] = ("json_schema", "json_object")
    refused_forms: tuple[str, ...] = ()
    models_status: int = 200
    model_fields: dict[str, Any] = field(default_factory=dict)
    names_parameter: bool = True
    thinking: str = "none"
    wrap: str = "{}"
    props: dict[str, Any] | None = None
    choices: int = 99

    def error(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Return status and body of the error for a request, None if it is accepted."""
        for name in body:
            if name not in self.takes | self.ignores:
                if name == "max_tokens":
                    return self._error(name, "use max_completion_tokens instead of max_tokens")
                return self._error(name, f"the parameter {name} is not known here")
        form = body.get("response_format", {}).get("type")
        if form in self.refused_forms:
            return self._error("response_format", f"{form} is not possible with this model")
        return None

    def _error(self, name: str, message: str) -> tuple[int, dict[str, Any]]:
        error = {"message": message, "type": "invalid_request_error"}
        if self.names_parameter:
            error["param"] = name
        return 400, {"error": error}

    def obeys(self, body: dict[str, Any]) -> bool:
        """Return whether the answer to a request is bare JSON."""
        return body.get("response_format", {}).get("type") in self.forms

    def message(self, content: str, thinking: str, obeys: bool) -> dict[str, Any]:
        """Return the message of a completion."""
        if not obeys:
            content = self.wrap.replace("{}", content)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if self.thinking == "field":
            message["reasoning_content"] = thinking
        elif self.thinking == "inline":
            message["content"] = f"<think>\n{thinking}\n</think>\n\n{content}"
        elif self.thinking == "open":
            message["content"] = f"{thinking}\n</think>\n\n{content}"
        elif self.thinking == "blocks":
            message["content"] = [
                {"type": "thinking", "thinking": thinking},
                {"type": "text", "text": content},
            ]
        return message


REASONING = ALWAYS | {"max_completion_tokens", "seed", "reasoning_effort"}
SHAPES = {
    "openai": Shape(),
    "openai reasoning": Shape(takes=frozenset(REASONING)),
    "azure": Shape(models_status=404),
    "anthropic": Shape(
        takes=frozenset(ALWAYS | {"max_tokens", "temperature", "top_p"}),
        ignores=frozenset({"response_format", "seed", "logprobs", "top_logprobs", "n"}),
        forms=(),
        wrap="Here is my judgement:\n\n```json\n{}\n```\nI hope that it helps.",
        choices=1,
        models_status=401,
    ),
    "gemini": Shape(
        takes=frozenset(ALWAYS | (USUAL - {"seed", "logprobs", "top_logprobs"})),
        names_parameter=False,
    ),
    "openrouter": Shape(
        ignores=frozenset(VLLM), thinking="field", model_fields={"context_length": 65536}
    ),
    "together": Shape(
        forms=("json_object",),
        refused_forms=("json_schema",),
        thinking="inline",
        model_fields={"context_length": 32768},
    ),
    "llama.cpp": Shape(
        ignores=frozenset(VLLM),
        thinking="field",
        props={"default_generation_settings": {"n_ctx": 8192}},
        choices=1,
    ),
    "ollama": Shape(
        ignores=frozenset(VLLM | {"n"}),
        thinking="open",
        wrap="Sure! {}",
        choices=1,
    ),
    "ollama, old": Shape(
        ignores=frozenset(VLLM | {"n"}),
        forms=("json_object",),
        wrap="Sure! The page is good.",
        choices=1,
    ),
    "sglang": Shape(
        ignores=frozenset(VLLM), thinking="field", model_fields={"max_model_len": 40960}
    ),
    "tgi": Shape(
        forms=("json_object",),
        refused_forms=("json_schema",),
        models_status=404,
        names_parameter=False,
    ),
    "lm studio": Shape(
        refused_forms=("json_object",),
        ignores=frozenset(VLLM),
        thinking="inline",
        model_fields={"loaded_context_length": 4096},
    ),
    "proxy without structure": Shape(
        forms=(),
        refused_forms=("json_schema", "json_object"),
        wrap="```\n{}\n```",
        names_parameter=False,
    ),
}


def loose(content: str) -> str:
    """Return JSON with errors that models make: a comma too much, and a comment."""
    return json.dumps(json.loads(content), indent=1).removesuffix("\n}") + ",\n}"
