"""What is sent to a judge: the chat request, the question for one digit, and excerpts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from ixt_data.critics.rubric import TOP, LongDocuments, Rubric
from ixt_data.errors import CriticError

PROMPT_VERSION = 2
"""Part of the critic's id: raised when this module or `Rubric` renders a prompt in another way."""

ANSWER_TOKENS = 1024
"""Room for the answer beside the thinking, where only a thinking budget is given."""

_MARK = "\n\n[... {n:,} characters left out ...]\n\n"

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class JudgeSampling:
    """How the judge draws its answer.

    Attributes:
        temperature: 0 draws the same answer every time.
        top_p: share of the probability that is drawn from.
        max_tokens: thinking and answer together.
        thinking_budget: tokens of thinking at most; 0 turns it off, None leaves it to the server.
        samples: answers per document.
        expected: whether to ask for the distribution of the overall score.
        seed: of the first attempt; none by default. Servers sample the seeded requests of a batch
            one by one, and a vLLM for the CPU (0.32) dies of one whose prompt is read in chunks.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 4096
    thinking_budget: int | None = None
    samples: int = 1
    expected: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2:
            raise CriticError(f"temperature {self.temperature} is not from 0 to 2")
        if self.max_tokens < 1 or self.samples < 1:
            raise CriticError("max-tokens and samples are at least 1")
        if self.samples > 1 and self.temperature == 0:
            raise CriticError(
                f"{self.samples} samples at temperature 0 would be the same; raise --temperature"
            )
        if self.thinking_budget is not None and self.thinking_budget >= self.max_tokens:
            raise CriticError(
                f"a thinking budget of {self.thinking_budget} leaves nothing of the "
                f"{self.max_tokens} tokens for the answer; raise --max-tokens"
            )

    def to_json(self) -> dict[str, Any]:
        """For the critic's config."""
        return asdict(self)


class PromptBuilder:
    """Makes the bodies of requests to a judge.

    Args:
        model: the name that the server knows.
        rubric: what is asked.
        sampling: how answers are drawn.
    """

    def __init__(self, model: str, rubric: Rubric, sampling: JudgeSampling) -> None:
        self.model, self.rubric, self.sampling = model, rubric, sampling
        self._options = self._shared_options()
        schema = {"name": rubric.name, "schema": rubric.answer_schema, "strict": True}
        form = {"type": "json_schema", "json_schema": schema}
        # Rendered once: the same bytes begin every request.
        self._system = {"role": "system", "content": rubric.system_message}
        self._form = orjson.Fragment(orjson.dumps(form))

    def _shared_options(self) -> dict[str, Any]:
        budget = self.sampling.thinking_budget
        options: dict[str, Any] = {"model": self.model}
        if budget is not None:
            options["chat_template_kwargs"] = {"enable_thinking": budget > 0}
        return options

    def messages(self, user: str) -> list[Message]:
        """The conversation with one document in it."""
        return [self._system, {"role": "user", "content": user}]

    def chat(self, user: str, attempt: int) -> bytes:
        """The request for a critique; every attempt draws anew."""
        sampling = self.sampling
        body = self._options | {
            "messages": self.messages(user),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "response_format": self._form,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed + attempt
        if sampling.samples > 1:
            body["n"] = sampling.samples
        if sampling.thinking_budget:
            body["thinking_token_budget"] = sampling.thinking_budget
        return orjson.dumps(body)

    def digit(self, user: str, answer: dict[str, Any], thinking: str | None) -> bytes:
        """The request for one token: the overall score once more, with all digits' probabilities.

        The judge's own answer is put into its mouth up to the overall score.
        """
        said = {key: value for key, value in answer.items() if key != "overall"}
        begun = orjson.dumps(said).decode()[:-1] + ',"overall":'
        spoken: dict[str, Any] = {"role": "assistant", "content": begun}
        if thinking:
            # The older and the newer name; chat templates read the former.
            spoken |= {"reasoning_content": thinking, "reasoning": thinking}
        digits = [str(digit) for digit in range(TOP + 1)]
        body = self._options | {
            "messages": [*self.messages(user), spoken],
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
        """The request for the tokens of a conversation."""
        return orjson.dumps(self._options | {"messages": messages, "add_generation_prompt": True})

    def tokenize_text(self, text: str) -> bytes:
        """The request for the tokens of a bare text."""
        return orjson.dumps({"model": self.model, "prompt": text, "add_special_tokens": False})

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The request for the text of tokens."""
        return orjson.dumps({"model": self.model, "tokens": list(tokens)})


def excerpt(text: str, chars: int, rules: LongDocuments) -> tuple[str, float]:
    """Head, middle and tail of a text with marks between, and the share of it that they cover.

    Args:
        text: a text longer than `chars`.
        chars: characters to keep.
        rules: how they are divided.
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


def _mark(left_out: int) -> str:
    return _MARK.format(n=left_out) if left_out > 0 else ""
