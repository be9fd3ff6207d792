"""Parts of the train config for evaluation: held-out loss, tasks, and the stop condition."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ixt_data.config import ConfigModel
from ixt_data.errors import ConfigError
from ixt_train.config.amount import Amount, AmountText

BUILT_IN_TASKS = ("arithmetic",)


class TaskConfig(ConfigModel):
    """A task scored by exact match: built in, or a JSONL of segments or of prompts and answers."""

    name: str
    """Name of the task in metrics."""
    path: str | None = None
    """A JSONL of {"segments": [[given, answer], ...]} or {"prompt", "answer"}, relative to the
    config file; null selects the built-in task of this name. `arithmetic` is built in."""
    feedback: str = "best"
    """Feedback to condition on: best, worst, none, given (each line's own), or a text: several
    words, or one word as text:WORD."""
    guidance: Annotated[float, Field(ge=0)] = 1.0
    """Gamma of classifier-free guidance from none towards the feedback; 1 disables guidance."""
    limit: PositiveInt | None = None
    """Maximum number of problems, counted from the start of the file."""

    @model_validator(mode="after")
    def _known_task(self) -> Self:
        if self.path is None and self.name not in BUILT_IN_TASKS:
            raise ValueError(
                f"{self.name!r} is not a built-in task ({', '.join(BUILT_IN_TASKS)}); give a path"
            )
        return self


class EvalConfig(ConfigModel):
    """Evaluation during training and by `ixt eval`."""

    every: AmountText = Amount(value=0)
    """Distance between evaluations; every train run evaluates at its end. 0: only at the end."""
    buckets: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Edges of the score buckets, ascending from 0 to 1; the last one includes its upper edge."""
    feedback: tuple[Literal["best", "worst", "none", "observed"], ...] = (
        "best",
        "worst",
        "none",
        "observed",
    )
    """Feedback under which the held-out loss is measured."""
    tasks: tuple[TaskConfig, ...] = ()
    """Tasks scored by exact match."""
    samples: Annotated[int, Field(ge=0)] = 32
    """Held-out documents per score bucket; 0 skips the held-out loss."""
    batch_size: PositiveInt = 64
    """Documents per forward pass."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        edges = self.buckets
        if len(edges) < 2 or any(a >= b for a, b in pairwise(edges)):
            raise ValueError(f"buckets must ascend, got {list(edges)}")
        return self


class StopConfig(ConfigModel):
    """Early end of a train run; without this part, the train run resumes where it stopped."""

    metric: str
    """Path of an evaluation metric, such as `tasks.sums`, `loss.best.all` or
    `preference.accuracy`."""
    threshold: float
    """Stop at the first evaluation at or below it for a loss, at or above it for other metrics."""

    def reached(self, metrics: Mapping[str, Any]) -> bool:
        """Return whether the metrics of an evaluation reach the threshold.

        Raises:
            ConfigError: the evaluation has no such metric; the message lists the ones it has.
        """
        flat = flatten(metrics)
        if self.metric not in flat:
            known = ", ".join(sorted(flat)) or "none"
            raise ConfigError(f"stop.metric: no metric {self.metric!r}; measured are: {known}")
        value = flat[self.metric]
        return bool(
            value <= self.threshold
            if self.metric.startswith("loss.") or self.metric == "preference.loss"
            else value >= self.threshold
        )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"a.b": 1}` for `{"a": {"b": 1}}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
