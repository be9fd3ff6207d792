"""Tasks by exact match: the arithmetic that is built in, or a JSONL of problems.

A line with `segments` is worked through: what is given is fed in, each answer is the model's own,
token for token. A line with `prompt` (or `messages`) and `answer` is answered to the end and
compared as text; a model of conversations reads the prompt as what the user says.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ixt_data.errors import ConfigError
from ixt_train.conditioning import ChatConditioner, Choice, Conditioner, Feedback
from ixt_train.config import TaskConfig
from ixt_train.evaluation.arithmetic import PROBLEMS, held_out_sums, task_segments
from ixt_train.inference import (
    GenerationBatch,
    GenerationPrefix,
    GenerationRequest,
    TokenIds,
    TokenSampling,
    beginning,
    choose_feedback,
    until,
    write_all,
)

# Tokens that one forward pass may hold in its cache: rows x length.
_TOKENS_AT_ONCE = 1 << 16
# An answer that runs on so far past the right one is wrong anyway.
_TOKENS_OVER = 8


@dataclass(frozen=True)
class TaskProblem:
    """A problem in tokens: by segment, what is given and the answer to it.

    Attributes:
        given, answers: of each segment.
        told: the beginning with the feedback, which stands before the first segment.
        base: the beginning without, for guidance.
    """

    given: tuple[TokenIds, ...]
    answers: tuple[TokenIds, ...]
    told: TokenIds = ()
    base: TokenIds = ()

    @property
    def shape(self) -> tuple[tuple[int, int], ...]:
        """Lengths by segment; problems of one shape run side by side."""
        return tuple((len(g), len(a)) for g, a in zip(self.given, self.answers, strict=True))


@dataclass(frozen=True)
class TaskQuestion:
    """A prompt in tokens, with feedback and without, and the text that is the right answer."""

    begun: GenerationPrefix
    answer: str
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A task as a model is asked it.

    Attributes:
        name: what figures call it.
        items: problems and questions, in the order of the file.
        gamma: of guidance.
    """

    name: str
    items: tuple[TaskProblem | TaskQuestion, ...]
    gamma: float = 1.0

    def solve(self, model: Any, conditioner: Conditioner) -> list[bool]:
        """Return whether each item came out right; control tokens are never chosen."""
        right = [False] * len(self.items)
        problems = {i: p for i, p in enumerate(self.items) if isinstance(p, TaskProblem)}
        questions = {i: q for i, q in enumerate(self.items) if isinstance(q, TaskQuestion)}
        banned, pad = [*conditioner.banned, *conditioner.ends], conditioner.tokenizer.pad_token_id
        worked = solve(model, list(problems.values()), banned, self.gamma, pad)
        asked = answer(model, list(questions.values()), conditioner, self.gamma)
        for i, outcome in (
            *zip(problems, worked, strict=True),
            *zip(questions, asked, strict=True),
        ):
            right[i] = outcome
        return right


def load_task(task: TaskConfig, conditioner: Conditioner) -> Task:
    """Return the items of a task under its feedback.

    A line is `{"segments": [["17 + 5 =", "22"], ["- 8 =", "14"]]}`, or `{"prompt": "Q: ...",
    "answer": "4"}` and, where a newline is not what ends an answer, `"stop": ["..."]`. A model of
    conversations is asked the prompt, or the line's `messages`, and ends its turn itself. Where the
    feedback is `given`, a line may have its own as `"feedback": "text"` and `"score": 0.5`.

    Raises:
        ConfigError: the file is missing, or a line is not of this form.
    """
    items = []
    for place, record in _records(task):
        choice = _choice(task, record, conditioner)
        try:
            items.append(_item(record, conditioner, choice))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"task {task.name}: {place}: neither segments nor prompt and answer "
                f"({type(error).__name__}: {error})"
            ) from None
    if not items:
        raise ConfigError(f"task {task.name}: {task.path} holds no problem")
    return Task(task.name, tuple(items), task.guidance)


def _records(task: TaskConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    if task.path is None:
        for number, problem in enumerate(held_out_sums(task.limit or PROBLEMS), 1):
            yield f"problem {number}", {"segments": task_segments(problem)}
        return
    try:
        lines = Path(task.path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"task {task.name}: {task.path}: {error.strerror}") from None
    for number, line in enumerate(lines[: task.limit], 1):
        if not line.strip():
            continue
        place = f"{task.path} line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"task {task.name}: {place}: no JSON ({error})") from None
        if not isinstance(record, dict):
            raise ConfigError(f"task {task.name}: {place}: no JSON object: {line[:60]}")
        yield place, record


def _choice(task: TaskConfig, record: dict[str, Any], conditioner: Conditioner) -> Choice:
    if task.feedback == "given":
        return Feedback(record.get("score"), record.get("feedback", ""))
    return choose_feedback(conditioner, task.feedback)


def _item(
    record: dict[str, Any], conditioner: Conditioner, choice: Choice
) -> TaskProblem | TaskQuestion:
    told, base = beginning(conditioner, choice), beginning(conditioner, "none")
    if "segments" in record:
        segments = [(str(given), str(answer)) for given, answer in record["segments"]]
        return tokenize_problem(segments, conditioner.tokenizer, told, base)
    right = str(record["answer"]).strip()
    asked = GenerationRequest.of(record)
    length = len(conditioner.encoder.document(f" {right}"))
    # A model of conversations ends its turn by itself.
    stop = record.get("stop", [] if isinstance(conditioner, ChatConditioner) else ["\n"])
    return TaskQuestion(
        begun=GenerationPrefix(
            asked.begin(conditioner, choice),
            asked.begin(conditioner, "none"),
            length + _TOKENS_OVER,
        ),
        answer=" ".join(right.split()),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def tokenize_problem(
    segments: Sequence[tuple[str, str]],
    tokenizer: Any,
    told: Sequence[int] = (),
    base: Sequence[int] = (),
) -> TaskProblem:
    """Return the segments in tokens, as they come out of the whole text joined by spaces.

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
    parts: list[TokenIds] = []
    start = 0
    for end in ends:
        stop = start
        while stop < len(ids) and stops[stop] <= end:
            stop += 1
        parts.append(tuple(ids[start:stop]))
        start = stop
    return TaskProblem(tuple(parts[::2]), tuple(parts[1::2]), tuple(told), tuple(base))


@torch.inference_mode()
def solve(
    model: Any,
    problems: Sequence[TaskProblem],
    banned: Sequence[int],
    gamma: float = 1.0,
    pad: int = 0,
) -> list[bool]:
    """Return whether each problem came out right: every answer token, the model's own fed back.

    An answer gets as many tokens as the reference has, each the most likely one not in `banned`.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        problems: of any shapes; those of one shape go through the model together.
        banned: tokens that are never chosen.
        gamma: of guidance.
        pad: the padding token.
    """
    right = [False] * len(problems)
    by_shape: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        by_shape[problem.shape].append(index)
    for shape, indices in by_shape.items():
        length = sum(g + a for g, a in shape) + max(len(problems[i].told) for i in indices)
        for chunk in _chunks(indices, max(1, _TOKENS_AT_ONCE // length)):
            same = [problems[i] for i in chunk]
            told, base = [p.told + p.given[0] for p in same], [p.base + p.given[0] for p in same]
            rows = GenerationBatch(model, told, base, gamma=gamma, banned=banned, pad=pad)
            for index, outcome in zip(chunk, _solve(rows, same, model.device), strict=True):
                right[index] = outcome
    return right


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _solve(rows: GenerationBatch, problems: list[TaskProblem], device: Any) -> list[bool]:
    right = torch.ones(len(problems), dtype=torch.bool, device=device)
    feed: Tensor | None = None
    for number in range(len(problems[0].given)):
        if feed is not None:
            feed = torch.cat([feed, _tensor([p.given[number] for p in problems], device)], 1)
        for expected in _tensor([p.answers[number] for p in problems], device).T:
            feed = rows.feed(feed).argmax(-1, keepdim=True)
            right &= feed[:, 0] == expected
    return right.tolist()


def _tensor(rows: Sequence[TokenIds], device: Any) -> Tensor:
    return torch.tensor([list(row) for row in rows], dtype=torch.long, device=device)


def answer(
    model: Any, questions: Sequence[TaskQuestion], conditioner: Conditioner, gamma: float = 1.0
) -> list[bool]:
    """Return whether the model's text up to a stop string or its end is the answer, but for white space.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        questions: in any order; those with the same stop strings go through the model together.
        conditioner: of the model.
        gamma: of guidance.
    """
    right = [False] * len(questions)
    by_stop: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, question in enumerate(questions):
        by_stop[question.stop].append(index)
    for stop, indices in by_stop.items():
        how = TokenSampling(stop=stop, guidance=gamma)
        begun = [questions[i].begun for i in indices]
        for i, row in zip(indices, write_all(model, conditioner, begun, how), strict=True):
            text = until(conditioner.tokenizer.decode(row.ids, skip_special_tokens=True), stop)
            right[i] = row.ending != "length" and " ".join(text.split()) == questions[i].answer
    return right
