"""Tasks by exact match: given segments are fed in, answers are the model's own, greedily."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ixt_data.errors import ConfigError
from ixt_train.conditioning import Choice, Conditioner, Feedback
from ixt_train.config import TaskConfig
from ixt_train.trained import choose_feedback

Ids = tuple[int, ...]
# Tokens that one forward pass may hold in its cache: rows x length.
_TOKENS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Problem:
    """A problem in tokens: by segment, what is given and the answer to it.

    The first given segment begins with the feedback.
    """

    given: tuple[Ids, ...]
    answers: tuple[Ids, ...]

    @property
    def shape(self) -> tuple[tuple[int, int], ...]:
        """Lengths by segment; problems of one shape run side by side without padding."""
        return tuple((len(g), len(a)) for g, a in zip(self.given, self.answers, strict=True))


def load_problems(task: TaskConfig, conditioner: Conditioner) -> list[Problem]:
    """Problems of a JSONL of `{"segments": [["17 + 5 =", "22"], ["- 8 =", "14"]]}`.

    With the feedback `given`, a line may have its own as `"feedback": "text"` and `"score": 0.5`.

    Raises:
        ConfigError: the file is missing, or a line is not of this form.
    """
    try:
        lines = Path(task.path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"task {task.name}: {task.path}: {error.strerror}") from None
    problems = []
    for number, line in enumerate(lines[: task.limit], 1):
        try:
            record = json.loads(line)
            segments = [(str(given), str(answer)) for given, answer in record["segments"]]
        except (ValueError, KeyError, TypeError) as error:
            place = f"{task.path} line {number}"
            raise ConfigError(f"task {task.name}: {place}: no segments ({error})") from None
        prefix = conditioner.prompt("", _choice(task, record, conditioner)).tolist()
        problems.append(tokenize_problem(segments, conditioner.tokenizer, prefix))
    return problems


def _choice(task: TaskConfig, record: dict[str, Any], conditioner: Conditioner) -> Choice:
    if task.feedback == "given":
        return Feedback(record.get("score"), record.get("feedback", ""))
    return choose_feedback(conditioner, task.feedback)


def tokenize_problem(
    segments: Sequence[tuple[str, str]], tokenizer: Any, prefix: Sequence[int] = ()
) -> Problem:
    """The segments in tokens, as they come out of the whole text joined by spaces.

    Text before a boundary may not change its tokens by what follows; where a tokenizer merges over
    the boundary, the token belongs to the side on which it ends.
    """
    pieces = [piece for segment in segments for piece in segment]
    ends, text = [], ""
    for piece in pieces:
        text += f" {piece}" if text else piece
        ends.append(len(text))
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, stops = coded["input_ids"], [stop for _, stop in coded["offset_mapping"]]
    parts: list[Ids] = []
    start = 0
    for end in ends:
        stop = start
        while stop < len(ids) and stops[stop] <= end:
            stop += 1
        parts.append(tuple(ids[start:stop]))
        start = stop
    parts[0] = (*prefix, *parts[0])
    return Problem(tuple(parts[::2]), tuple(parts[1::2]))


@torch.inference_mode()
def solve(model: Any, problems: Sequence[Problem], banned: Sequence[int]) -> list[bool]:
    """Whether each problem came out right: every answer token, the model's own fed back.

    An answer gets as many tokens as the reference has, each the most likely one not in `banned`.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        problems: of any shapes; those of one shape go through the model together.
        banned: tokens that are never chosen.
    """
    right = [False] * len(problems)
    by_shape: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        by_shape[problem.shape].append(index)
    for shape, indices in by_shape.items():
        length = sum(g + a for g, a in shape)
        for chunk in _chunks(indices, max(1, _TOKENS_AT_ONCE // length)):
            same = [problems[i] for i in chunk]
            for index, outcome in zip(chunk, _solve(model, same, banned), strict=True):
                right[index] = outcome
    return right


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _solve(model: Any, problems: list[Problem], banned: Sequence[int]) -> list[bool]:
    device = model.device
    right = torch.ones(len(problems), dtype=torch.bool, device=device)
    feed = torch.empty((len(problems), 0), dtype=torch.long, device=device)
    cache = None
    for given, answers in zip(
        zip(*(p.given for p in problems), strict=True),
        zip(*(p.answers for p in problems), strict=True),
        strict=True,
    ):
        feed = torch.cat([feed, _tensor(given, device)], 1)
        for expected in _tensor(answers, device).T:
            out = model(input_ids=feed, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            logits = out.logits[:, -1]
            logits[:, list(banned)] = -torch.inf
            feed = logits.argmax(-1, keepdim=True)
            right &= feed[:, 0] == expected
    return right.tolist()


def _tensor(rows: Sequence[Ids], device: Any) -> Tensor:
    return torch.tensor([list(row) for row in rows], dtype=torch.long, device=device)
