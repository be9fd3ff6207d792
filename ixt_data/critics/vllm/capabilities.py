"""What a server of a judge takes and gives, found by a trial request.

No two servers of the OpenAI protocol take the same parameters. A trial critique of a short text
starts with everything. What the server refuses by name is left out, and the next form of a
structured answer is tried. What was found is stated once and holds for that endpoint.
"""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ixt_data.errors import CriticError

if TYPE_CHECKING:
    from ixt_data.critics.vllm.completion import ThinkingForm

SAMPLE_TEXT = (
    "Water boils at 100 degrees Celsius at sea level. Higher up, the pressure of the air falls, "
    "and with it the boiling point: by about one degree per 300 metres. That is why pasta takes "
    "longer to cook in the mountains."
)
"""Document of the trial request."""

MAX_TRIALS = 16


class StructuredOutput(StrEnum):
    """Ways to get an answer as JSON, the strictest first."""

    json_schema = "json_schema"
    json_object = "json_object"
    prompt = "prompt"


OPTIONAL_PARAMETERS = (
    "thinking_token_budget",
    "chat_template_kwargs",
    "temperature",
    "top_p",
    "seed",
    "n",
)
"""Parameters that a request can do without. A server that refuses one gets none."""

_SCHEMA_WORDS = ("response_format", "json_schema", "json_object", "schema", "grammar", "structured")
_SERVER_CONTEXT = re.compile(
    r"(?:context (?:length|window|size)[^0-9]{0,40}|n_ctx\D{0,4})([0-9][0-9,]*)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one server takes and gives.

    Attributes:
        structured: how it is asked for JSON.
        logprobs: whether it gives the probabilities of a score.
        thinking: how it gives thinking.
        limit_name: the parameter that limits the tokens of a completion.
        refused: optional parameters that it refuses.
    """

    structured: StructuredOutput = StructuredOutput.json_schema
    logprobs: bool = True
    thinking: "ThinkingForm" = "none"
    limit_name: str = "max_tokens"
    refused: frozenset[str] = field(default_factory=frozenset)

    def describe(self) -> str:
        """Return one line for the start of a critique run."""
        parts = [
            f"structured output: {self.structured}",
            f"logprobs: {'yes' if self.logprobs else 'no'}",
            f"thinking: {self.thinking}",
        ]
        if self.refused:
            parts.append(f"not sent, because refused: {', '.join(sorted(self.refused))}")
        return ", ".join(parts)

    def without(self, error: "RefusedRequest", wanted: StructuredOutput | None) -> "Capabilities":
        """Return capabilities for the next trial, without what an error refuses.

        Args:
            error: the server's error.
            wanted: the only form of structured output that the user accepts, None for any.

        Raises:
            CriticError: the error names nothing that a request can do without.
        """
        text = f"{error.parameter} {error.message}".lower()
        names = {name for name in OPTIONAL_PARAMETERS if re.search(rf"\b{name}\b", text)}
        if "max_completion_tokens" in text and self.limit_name == "max_tokens":
            return replace(self, limit_name="max_completion_tokens")
        if new := names - self.refused:
            return replace(self, refused=self.refused | new)
        if any(word in text for word in _SCHEMA_WORDS):
            return self.next_structure(wanted, error.message)
        # Strict servers refuse unknown parameters without a name: first those of vLLM go.
        own = frozenset({"thinking_token_budget", "chat_template_kwargs"})
        if not own <= self.refused:
            return replace(self, refused=self.refused | own)
        return self.next_structure(wanted, error.message)

    def next_structure(self, wanted: StructuredOutput | None, reason: str) -> "Capabilities":
        """Return capabilities with the next form of structured output.

        Raises:
            CriticError: there is none, or the user accepts only the present one.
        """
        forms = list(StructuredOutput)
        if wanted is not None:
            raise CriticError(
                f"the server does not give structured output by {wanted}: {reason}. "
                "Choose another --structured, or auto"
            )
        if self.structured is forms[-1]:
            raise CriticError(f"the server refuses the trial request: {reason}")
        return replace(self, structured=forms[forms.index(self.structured) + 1])


EVERYTHING = Capabilities()
"""What a vLLM server takes and gives."""


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """An error of the class "the request is wrong".

    Attributes:
        parameter: the parameter that the server names, "" if none.
        message: the server's message.
    """

    parameter: str
    message: str


def context_of_model(model: dict[str, Any]) -> int | None:
    """Return the context that a server's list of models reports for a model, in tokens."""
    meta = model.get("meta") if isinstance(model.get("meta"), dict) else {}
    found = [
        model.get(key)
        for key in ("max_model_len", "context_length", "loaded_context_length", "context_window")
    ] + [(meta or {}).get("n_ctx")]
    return next((int(value) for value in found if isinstance(value, int) and value > 0), None)


def context_in_message(message: str) -> int | None:
    """Return the context length that a server's error names, None if it names none."""
    match = _SERVER_CONTEXT.search(message)
    return int(match[1].replace(",", "")) if match else None
