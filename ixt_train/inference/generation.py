"""Generation under feedback: the model goes on writing as if it had been told so."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import product
from typing import Any

from ixt_data.conversation import said
from ixt_data.errors import ConfigError
from ixt_train.conditioning import ChatConditioner, Choice, Conditioner
from ixt_train.inference.decoding import (
    Ending,
    Generated,
    GenerationPrefix,
    TokenSampling,
    until,
    write_all,
)
from ixt_train.inference.loaded_model import LoadedModel, choose_feedback, pick_device


@dataclass(frozen=True)
class GenerationRequest:
    """What to go on with.

    Attributes:
        prompt: the begun document, or what the user says to a model of conversations.
        feedback: best, worst, none, or any text.
        score: the score that goes with a text, 0 to 1.
        against: the feedback that guidance leads away from: none, worst, or any text.
        messages: a whole conversation to answer, instead of a prompt.
    """

    prompt: str
    feedback: str = "best"
    score: float | None = None
    against: str = "none"
    messages: tuple[Mapping[str, Any], ...] | None = None

    @classmethod
    def of(
        cls, record: Mapping[str, Any], default: "GenerationRequest | None" = None
    ) -> "GenerationRequest":
        """From `{"prompt": "..."}` or `{"messages": [...]}`; other fields are those of `default`.

        Raises:
            KeyError, IndexError, TypeError, AttributeError: it is not of this form.
        """
        messages = record.get("messages")
        prompt = record["prompt"] if messages is None else said(messages[-1])
        if not isinstance(prompt, str):
            raise TypeError(f"prompt: {prompt!r} is no text")
        turns = None if messages is None else tuple(messages)
        return replace(default or cls(""), prompt=prompt, messages=turns)

    def begin(self, conditioner: Conditioner, choice: Choice) -> tuple[int, ...]:
        """Return the tokens to go on from."""
        if self.messages is None:
            return tuple(conditioner.prompt(self.prompt, choice).tolist())
        if not isinstance(conditioner, ChatConditioner):
            raise ConfigError(
                "messages: the model was not trained on conversations (stage sft); give a prompt"
            )
        return tuple(conditioner.reply(self.messages, choice).tolist())


@dataclass(frozen=True)
class Generation:
    """What a model wrote.

    Attributes:
        prompt: the begun document.
        feedback: what the model was told, in its own tokens; empty for none.
        text: what it wrote after the prompt, up to a stop string.
        tokens: how many tokens it wrote.
        ending: `end` where it ended the document by itself, `stop` at a stop string, or `length`.
        sample: which of the samples of its prompt this is, from 0.
    """

    prompt: str
    feedback: str
    text: str
    tokens: int
    ending: Ending
    sample: int

    def record(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)


def generate(
    trained: LoadedModel,
    prompt: str,
    feedback: str = "best",
    *,
    score: float | None = None,
    against: str = "none",
    **how: Any,
) -> Generation:
    """Let the model continue one prompt, once; for the settings `how` see `TokenSampling`."""
    request = GenerationRequest(prompt, feedback, score, against)
    return generate_texts(trained, [request], TokenSampling(**how))[0]


def generate_texts(
    trained: LoadedModel, requests: Sequence[GenerationRequest], how: TokenSampling
) -> list[Generation]:
    """Let the model continue prompts; control tokens cannot be written.

    Args:
        trained: the model.
        requests: each is continued `how.samples` times, one after the other in the result.
        how: greedy or sampled, guidance, stop strings.

    Raises:
        ConfigError: a prompt does not fit into the model, or feedback means nothing to it.
    """
    conditioner, tokenizer = trained.conditioner, trained.tokenizer
    longest = getattr(trained.model.config, "max_position_embeddings", None)
    asked: list[tuple[GenerationRequest, Choice, int, GenerationPrefix]] = []
    for request, sample in product(requests, range(how.samples)):
        choice = choose_feedback(conditioner, request.feedback, request.score)
        base = choose_feedback(conditioner, request.against)
        told = request.begin(conditioner, choice)
        room = how.max_new_tokens if longest is None else longest - len(told)
        if room < 1:
            raise ConfigError(
                f"prompt {request.prompt[:40]!r}...: {len(told)} tokens with feedback leave no "
                f"room in the model's {longest}"
            )
        begun = GenerationPrefix(
            told=told,
            base=request.begin(conditioner, base),
            room=min(room, how.max_new_tokens),
            seed=_seed(how.seed, request.prompt, sample),
        )
        asked.append((request, choice, sample, begun))
    model = trained.model.to(pick_device())
    written = write_all(model, conditioner, [begun for *_, begun in asked], how)
    return [
        Generation(
            prompt=request.prompt,
            feedback=told_text(trained, choice),
            text=until(continuation(tokenizer, begun, row), how.stop),
            tokens=len(row.ids),
            ending=row.ending,
            sample=sample,
        )
        for (request, choice, sample, begun), row in zip(asked, written, strict=True)
    ]


def read_requests(
    lines: Iterable[str], name: str, default: GenerationRequest
) -> list[GenerationRequest]:
    """Return requests of a JSONL of `{"prompt": "..."}` or `{"messages": [...]}`.

    A line may have its own `feedback`, `score` and `against`; what it lacks comes from `default`.

    Raises:
        ConfigError: a line is not of this form, or there is none.
    """
    requests = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            request = GenerationRequest.of(record, default)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{name} line {number}: neither a prompt nor messages "
                f"({type(error).__name__}: {error})"
            ) from None
        own = {key: record[key] for key in ("feedback", "score", "against") if key in record}
        requests.append(replace(request, **own))
    if not requests:
        raise ConfigError(f'{name} holds no prompt; a line is for instance {{"prompt": "..."}}')
    return requests


def told_text(trained: LoadedModel, choice: Choice) -> str:
    """Return the feedback as the model reads it."""
    ids = trained.conditioner.prompt("", choice)[1:].tolist()
    return str(trained.tokenizer.decode(ids))


def _seed(seed: int, prompt: str, sample: int) -> int:
    """Return the same for a prompt and sample wherever they stand, and below 2^63 as torch wants it."""
    digest = blake2b(f"{seed} {sample} {prompt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def continuation(tokenizer: Any, begun: GenerationPrefix, row: Generated) -> str:
    """Return the text that was written, with the white space that parts it from what was begun."""
    start = tokenizer.decode(begun.told, skip_special_tokens=True)
    whole = tokenizer.decode(begun.told + row.ids, skip_special_tokens=True)
    if whole.startswith(start):
        return str(whole[len(start) :])
    return str(tokenizer.decode(row.ids, skip_special_tokens=True))
