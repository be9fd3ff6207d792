"""Generation under feedback: the model goes on writing as if it had been told so."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ixt_train.conditioning import Choice
from ixt_train.tokenizer import control_tokens
from ixt_train.trained import Trained, choose_feedback, pick_device


@dataclass(frozen=True)
class Generation:
    """What a model wrote.

    Attributes:
        prompt: the begun document.
        feedback: what the model was told, in its own tokens; empty for none.
        text: what it wrote after the prompt.
        tokens: how many tokens that was.
        finished: whether it ended the document by itself.
    """

    prompt: str
    feedback: str
    text: str
    tokens: int
    finished: bool

    def record(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)


def generate(
    trained: Trained,
    prompt: str,
    feedback: str = "best",
    *,
    score: float | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
) -> Generation:
    """Lets the model continue `prompt`; control tokens cannot be written.

    Args:
        trained: the model.
        prompt: a begun document.
        feedback: best, worst, none, or any text.
        score: the score that goes with a text, 0 to 1.
        max_new_tokens: stop after so many.
        temperature: 0 takes the most likely token each time.
        seed: of sampling.
    """
    choice = choose_feedback(trained.conditioner, feedback, score)
    tokenizer, model = trained.tokenizer, trained.model.to(pick_device())
    begun = torch.tensor(trained.conditioner.prompt(prompt, choice), dtype=torch.long)[None]
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {}
    torch.manual_seed(seed)
    with torch.inference_mode():
        written = model.generate(
            begun.to(model.device),
            attention_mask=torch.ones_like(begun, device=model.device),
            max_new_tokens=max_new_tokens,
            suppress_tokens=control_tokens(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **({"do_sample": False} | sampling),
        )
    ids = written[0, begun.shape[1] :].tolist()
    finished = bool(ids) and ids[-1] == tokenizer.eos_token_id
    ids = ids[:-1] if finished else ids
    return Generation(
        prompt=prompt,
        feedback=told(trained, choice),
        text=_continuation(tokenizer, begun[0].tolist(), ids),
        tokens=len(ids),
        finished=finished,
    )


def told(trained: Trained, choice: Choice) -> str:
    """The feedback as the model reads it."""
    ids = trained.conditioner.prompt("", choice)[1:].tolist()
    return str(trained.tokenizer.decode(ids))


def _continuation(tokenizer: Any, before: list[int], after: list[int]) -> str:
    """The text of `after`, with the white space that parts it from `before`."""
    start = tokenizer.decode(before, skip_special_tokens=True)
    whole = tokenizer.decode(before + after, skip_special_tokens=True)
    if whole.startswith(start):
        return str(whole[len(start) :])
    return str(tokenizer.decode(after, skip_special_tokens=True))
