"""Request bodies for a judge: chat requests, the one-digit request, and excerpts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from ixt_data.critics.rubric import TOP, LongDocuments, Rubric
from ixt_data.critics.vllm.capabilities import EVERYTHING, Capabilities, StructuredOutput
from ixt_data.errors import CriticError

PROMPT_VERSION = 2
"""Part of the critic's id; raise it when this module or `Rubric` renders a prompt differently."""

ANSWER_TOKENS = 1024
"""Tokens for the answer besides the thinking, where only a thinking budget is given."""

BYTES_PER_TOKEN = 2.5
"""Estimate where no server counts tokens; below the average that is reported for any text."""

MIN_COMPLETION_TOKENS = 512
"""Tokens of a completion below which no critique fits."""

_MARK = "\n\n[... {n:,} characters left out ...]\n\n"

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class JudgeSampling:
    """Sampling parameters of the judge.

    Attributes:
        temperature: 0 to 2; 0 gives the same completion every time.
        top_p: share of the probability mass to sample from, 0 to 1.
        max_tokens: maximum of tokens for thinking and answer together.
        thinking_budget: maximum of thinking tokens; 0 turns thinking off, None leaves it to the
            server.
        samples: completions per document.
        expected: whether to request the distribution of the overall score, too.
        seed: of the first attempt; None sends no seed. Servers sample the seeded requests of a
            batch one by one. A vLLM for the CPU (0.32) crashes on a seeded request whose prompt is
            read in chunks.
        reasoning_effort: how long to think, such as low, for servers that have no budget in tokens.

    Raises:
        CriticError: a value is out of its range.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 4096
    thinking_budget: int | None = None
    samples: int = 1
    expected: bool = True
    seed: int | None = None
    reasoning_effort: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2:
            raise CriticError(f"temperature {self.temperature} is not between 0 and 2")
        if self.max_tokens < 1 or self.samples < 1:
            raise CriticError(
                f"max-tokens {self.max_tokens} and samples {self.samples} must be 1 or more"
            )
        if self.samples > 1 and self.temperature == 0:
            raise CriticError(
                f"{self.samples} samples at temperature 0 would be the same; raise --temperature"
            )
        if self.thinking_budget is not None and self.thinking_budget >= self.max_tokens:
            raise CriticError(
                f"thinking budget {self.thinking_budget} leaves nothing of max-tokens "
                f"{self.max_tokens} for the answer; raise --max-tokens"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the parameters as the critic's config contains them."""
        return asdict(self)


class PromptBuilder:
    """The builder of request bodies for a judge.

    Args:
        model: its name on the server.
        rubric: gives the messages and the answer's schema.
        sampling: sampling parameters.

    Attributes:
        max_tokens, thinking_budget: those of `sampling`, or less where the context is short.
    """

    def __init__(self, model: str, rubric: Rubric, sampling: JudgeSampling) -> None:
        self.model, self.rubric, self.sampling = model, rubric, sampling
        self._options = self._shared_options()
        schema = {"name": rubric.name, "schema": rubric.answer_schema, "strict": True}
        form = {"type": "json_schema", "json_schema": schema}
        # Rendered once: every request starts with the same bytes.
        self._system = {"role": "system", "content": rubric.system_message}
        self._form = orjson.Fragment(orjson.dumps(form))
        schema_text = orjson.dumps(rubric.answer_schema).decode()
        self._system_with_schema = {
            "role": "system",
            "content": f"{rubric.system_message}\n\nAnswer with this one JSON object and nothing "
            f"else. Its JSON Schema: {schema_text}",
        }
        self.max_tokens, self.thinking_budget = self._asked_budgets()

    def _shared_options(self) -> dict[str, Any]:
        budget = self.sampling.thinking_budget
        options: dict[str, Any] = {"model": self.model}
        if budget is not None:
            options["chat_template_kwargs"] = {"enable_thinking": budget > 0}
        return options

    def messages(self, user: str) -> list[Message]:
        """Return the conversation with one document in the user message."""
        return [self._system, {"role": "user", "content": user}]

    def chat(self, user: str, attempt: int, server: Capabilities = EVERYTHING) -> bytes:
        """Return the request for a critique.

        Args:
            user: the user message, see `Rubric.user_message`.
            attempt: number of the attempt, from 0; it is added to the seed.
            server: what the server takes.
        """
        sampling = self.sampling
        form = server.structured
        body = self._options | {
            "messages": self.messages(user),
            server.limit_name: self.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if form is StructuredOutput.json_schema:
            body["response_format"] = self._form
        else:
            body["messages"] = [self._system_with_schema, body["messages"][1]]
        if form is StructuredOutput.json_object:
            body["response_format"] = {"type": "json_object"}
        if sampling.seed is not None:
            body["seed"] = sampling.seed + attempt
        if sampling.samples > 1:
            body["n"] = sampling.samples
        if sampling.reasoning_effort is not None:
            body["reasoning_effort"] = sampling.reasoning_effort
        if self.thinking_budget:
            body["thinking_token_budget"] = self.thinking_budget
        for name in server.refused:
            body.pop(name, None)
        return orjson.dumps(body)

    def limit(self, context: int, overhead: int) -> str | None:
        """Fit the budgets of thinking and answer into a context; return what changed.

        Half of what the rubric leaves free is for the completion, the other half for the document.

        Args:
            context: tokens of prompt and completion together.
            overhead: tokens of the prompt without a document.

        Raises:
            CriticError: the context is too small for the rubric and an answer.
        """
        free = context - overhead
        if free < 2 * MIN_COMPLETION_TOKENS:
            raise CriticError(
                f"a context of {context:,} tokens is too small: the rubric {self.rubric.name} "
                f"takes {overhead:,}, and document and answer need {MIN_COMPLETION_TOKENS} each. "
                "Start the server with a longer context"
            )
        if self.sampling.max_tokens <= free // 2:
            self.max_tokens, self.thinking_budget = self._asked_budgets()
            return None
        self.max_tokens, budget = free // 2, self.sampling.thinking_budget
        if budget:
            self.thinking_budget = min(budget, self.max_tokens - min(512, self.max_tokens // 2))
        thinking = f", thinking to {self.thinking_budget:,}" if budget else ""
        return (
            f"completion limited to {self.max_tokens:,} tokens{thinking} (--max-tokens is "
            f"{self.sampling.max_tokens:,}): the context has {context:,}"
        )

    @property
    def estimated_overhead(self) -> int:
        """Tokens of the prompt without a document, by its length."""
        messages = self.messages(self.rubric.empty_message)
        return int(sum(len(one["content"].encode()) for one in messages) / BYTES_PER_TOKEN)

    def _asked_budgets(self) -> tuple[int, int | None]:
        return self.sampling.max_tokens, self.sampling.thinking_budget

    def digit(self, user: str, answer: dict[str, Any], thinking: str | None) -> bytes:
        """Return the request for one token: the overall score, with all digits' probabilities.

        The judge's own answer up to the overall score is the prefix of the completion.

        Args:
            user: the user message.
            answer: the judge's answer, a JSON object.
            thinking: the judge's reasoning, None if it gave none.
        """
        fields = {key: value for key, value in answer.items() if key != "overall"}
        prefix = orjson.dumps(fields).decode()[:-1] + ',"overall":'
        message: dict[str, Any] = {"role": "assistant", "content": prefix}
        if thinking:
            # The old and the new name of the field; chat templates read the old one.
            message |= {"reasoning_content": thinking, "reasoning": thinking}
        digits = [str(digit) for digit in range(TOP + 1)]
        body = self._options | {
            "messages": [*self.messages(user), message],
            "add_generation_prompt": False,
            "continue_final_message": True,
            "structured_outputs": {"choice": digits},
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 20,
        }
        return orjson.dumps(body)

    def tokenize(self, messages: Sequence[Message]) -> bytes:
        """Return the request for the tokens of a conversation."""
        return orjson.dumps(self._options | {"messages": messages, "add_generation_prompt": True})

    def tokenize_text(self, text: str) -> bytes:
        """Return the request for the tokens of a plain text."""
        return orjson.dumps({"model": self.model, "prompt": text, "add_special_tokens": False})

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """Return the request for the text of tokens."""
        return orjson.dumps({"model": self.model, "tokens": list(tokens)})


def excerpt(text: str, chars: int, rules: LongDocuments) -> tuple[str, float]:
    """Return head, middle and tail of a text with marks between, and the share that they cover.

    Args:
        text: a text longer than `chars`.
        chars: characters to include.
        rules: divides them among head, middle and tail.
    """
    chars = max(0, min(chars, len(text)))
    head, middle = int(chars * rules.head), int(chars * rules.middle)
    tail = chars - head - middle
    start = max(head, (len(text) - middle) // 2)
    start = min(start, len(text) - tail - middle)
    end = start + middle
    last = len(text) - tail
    parts = [text[:head], _mark(start - head), text[start:end], _mark(last - end), text[last:]]
    return "".join(parts), chars / len(text) if text else 1.0


def _mark(n_omitted: int) -> str:
    return _MARK.format(n=n_omitted) if n_omitted > 0 else ""
