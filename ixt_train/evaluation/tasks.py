"""Tasks scored by exact match: the built-in arithmetic, or a JSONL of problems.

In a line with `segments`, each given part is fed to the model, and each answer is the model's own,
token by token. A line with `prompt` (or `messages`) and `answer` is generated to its end and
compared as text. A model of conversations reads the prompt as the user's message.
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
    choose_feedback,
    cut_at_stop,
    feedback_prefix,
    generate_all,
)

# Tokens in the cache of one forward pass: rows x length.
_MAX_BATCH_TOKENS = 1 << 16
# An answer that is so many tokens longer than the right one is wrong in any case.
_EXTRA_TOKENS = 8


@dataclass(frozen=True)
class TaskProblem:
    """A problem in tokens: per segment, the given part and the answer.

    Attributes:
        given, answers: tokens of each segment.
        conditioned: the prefix with the feedback, in front of the first segment.
        base: the prefix without feedback, for guidance.
    """

    given: tuple[TokenIds, ...]
    answers: tuple[TokenIds, ...]
    conditioned: TokenIds = ()
    base: TokenIds = ()

    @property
    def shape(self) -> tuple[tuple[int, int], ...]:
        """Lengths per segment; problems of one shape share a batch."""
        return tuple((len(g), len(a)) for g, a in zip(self.given, self.answers, strict=True))


@dataclass(frozen=True)
class TaskQuestion:
    """A prompt in tokens, with feedback and without, and the text of the right answer."""

    prefix: GenerationPrefix
    answer: str
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """The items of a task, tokenized for one model.

    Attributes:
        name: name of the task in metrics.
        items: problems and questions, in the order of the file.
        gamma: strength of guidance.
    """

    name: str
    items: tuple[TaskProblem | TaskQuestion, ...]
    gamma: float = 1.0

    def part(self, number: int, count: int) -> "Task":
        """Return every `count`-th item, from item `number` on."""
        return Task(self.name, self.items[number::count], self.gamma)

    def solve(self, model: Any, conditioner: Conditioner) -> list[bool]:
        """Return whether each item is right; control tokens are never generated."""
        is_right = [False] * len(self.items)
        problems = {i: p for i, p in enumerate(self.items) if isinstance(p, TaskProblem)}
        questions = {i: q for i, q in enumerate(self.items) if isinstance(q, TaskQuestion)}
        banned_tokens, pad = (
            [*conditioner.banned_tokens, *conditioner.ends],
            conditioner.tokenizer.pad_token_id,
        )
        problem_results = solve(model, list(problems.values()), banned_tokens, self.gamma, pad)
        request = answer(model, list(questions.values()), conditioner, self.gamma)
        for i, outcome in (
            *zip(problems, problem_results, strict=True),
            *zip(questions, request, strict=True),
        ):
            is_right[i] = outcome
        return is_right


def load_task(task: TaskConfig, conditioner: Conditioner) -> Task:
    """Load the items of a task under its feedback.

    A line is `{"segments": [["17 + 5 =", "22"], ["- 8 =", "14"]]}`, or `{"prompt": "Q: ...",
    "answer": "4"}` with an optional `"stop": ["..."]`, by default a newline. A model of
    conversations gets the prompt, or the line's `messages`, and ends its turn itself. With the
    feedback `given`, a line may have its own `"feedback": "text"` and `"score": 0.5`.

    Raises:
        ConfigError: the file is missing, or a line has another form.
    """
    items = []
    for location, record in _records(task):
        choice = _choice(task, record, conditioner)
        try:
            items.append(_item(record, conditioner, choice))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"task {task.name}: {location}: neither segments nor prompt and answer "
                f"({type(error).__name__}: {error})"
            ) from None
    if not items:
        raise ConfigError(f"task {task.name}: {task.path} contains no problem")
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
        location = f"{task.path} line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"task {task.name}: {location}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise ConfigError(f"task {task.name}: {location}: not a JSON object: {line[:60]}")
        yield location, record


def _choice(task: TaskConfig, record: dict[str, Any], conditioner: Conditioner) -> Choice:
    if task.feedback == "given":
        return Feedback(record.get("score"), record.get("feedback", ""))
    return choose_feedback(conditioner, task.feedback)


def _item(
    record: dict[str, Any], conditioner: Conditioner, choice: Choice
) -> TaskProblem | TaskQuestion:
    conditioned, base = feedback_prefix(conditioner, choice), feedback_prefix(conditioner, "none")
    if "segments" in record:
        segments = [(str(given), str(answer)) for given, answer in record["segments"]]
        return tokenize_problem(segments, conditioner.tokenizer, conditioned, base)
    expected = str(record["answer"]).strip()
    request = GenerationRequest.of(record)
    length = len(conditioner.encoder.document(f" {expected}"))
    # A model of conversations ends its turn itself.
    stop = record.get("stop", [] if isinstance(conditioner, ChatConditioner) else ["\n"])
    return TaskQuestion(
        prefix=GenerationPrefix(
            request.prompt_ids(conditioner, choice),
            request.prompt_ids(conditioner, "none"),
            length + _EXTRA_TOKENS,
        ),
        answer=" ".join(expected.split()),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def tokenize_problem(
    segments: Sequence[tuple[str, str]],
    tokenizer: Any,
    conditioned: Sequence[int] = (),
    base: Sequence[int] = (),
) -> TaskProblem:
    """Tokenize the segments as parts of the complete text, joined by spaces.

    Text after a boundary must not change the tokens before it. If a tokenizer merges over the
    boundary, the token belongs to the side on which it ends.
    """
    pieces = [piece for segment in segments for piece in segment]
    ends, text = [], ""
    for piece in pieces:
        text += f" {piece}" if text else piece
        ends.append(len(text))
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, stops = encoding["input_ids"], [stop for _, stop in encoding["offset_mapping"]]
    parts: list[TokenIds] = []
    start = 0
    for end in ends:
        stop = start
        while stop < len(ids) and stops[stop] <= end:
            stop += 1
        parts.append(tuple(ids[start:stop]))
        start = stop
    return TaskProblem(tuple(parts[::2]), tuple(parts[1::2]), tuple(conditioned), tuple(base))


@torch.inference_mode()
def solve(
    model: Any,
    problems: Sequence[TaskProblem],
    banned_tokens: Sequence[int],
    gamma: float = 1.0,
    pad: int = 0,
) -> list[bool]:
    """Return whether each problem is right: every answer token, the model's own fed back.

    An answer gets as many tokens as the reference, each the most likely one not in `banned_tokens`.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        problems: problems of any shapes; those of one shape share a batch.
        banned_tokens: tokens that are never chosen.
        gamma: strength of guidance.
        pad: the padding token.
    """
    is_right = [False] * len(problems)
    by_shape: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        by_shape[problem.shape].append(index)
    for shape, indices in by_shape.items():
        length = sum(g + a for g, a in shape) + max(len(problems[i].conditioned) for i in indices)
        for chunk in _chunks(indices, max(1, _MAX_BATCH_TOKENS // length)):
            batch = [problems[i] for i in chunk]
            conditioned, base = (
                [p.conditioned + p.given[0] for p in batch],
                [p.base + p.given[0] for p in batch],
            )
            rows = GenerationBatch(
                model, conditioned, base, gamma=gamma, banned_tokens=banned_tokens, pad=pad
            )
            for index, outcome in zip(chunk, _solve(rows, batch, model.device), strict=True):
                is_right[index] = outcome
    return is_right


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _solve(rows: GenerationBatch, problems: list[TaskProblem], device: Any) -> list[bool]:
    is_right = torch.ones(len(problems), dtype=torch.bool, device=device)
    feed: Tensor | None = None
    for number in range(len(problems[0].given)):
        if feed is not None:
            feed = torch.cat([feed, _tensor([p.given[number] for p in problems], device)], 1)
        for expected in _tensor([p.answers[number] for p in problems], device).T:
            feed = rows.feed(feed).argmax(-1, keepdim=True)
            is_right &= feed[:, 0] == expected
    return is_right.tolist()


def _tensor(rows: Sequence[TokenIds], device: Any) -> Tensor:
    return torch.tensor([list(row) for row in rows], dtype=torch.long, device=device)


def answer(
    model: Any, questions: Sequence[TaskQuestion], conditioner: Conditioner, gamma: float = 1.0
) -> list[bool]:
    """Return whether the model's text is the answer, up to white space and a stop string.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        questions: questions in any order; those with the same stop strings share a batch.
        conditioner: the model's conditioner.
        gamma: strength of guidance.
    """
    is_right = [False] * len(questions)
    by_stop: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, question in enumerate(questions):
        by_stop[question.stop].append(index)
    for stop, indices in by_stop.items():
        sampling = TokenSampling(stop=stop, guidance=gamma)
        prefix = [questions[i].prefix for i in indices]
        for i, row in zip(indices, generate_all(model, conditioner, prefix, sampling), strict=True):
            text = cut_at_stop(
                conditioner.tokenizer.decode(row.ids, skip_special_tokens=True), stop
            )
            is_right[i] = row.ending != "length" and " ".join(text.split()) == questions[i].answer
    return is_right
