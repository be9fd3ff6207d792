"""Summaries of train runs for pages and reports: curves and last metrics, without torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from ixt_data.errors import ConfigError, CorruptError
from ixt_train.runs.metrics import read_metrics

METRICS = "metrics.jsonl"
"""The file that marks a folder as a run folder."""
SPEEDS = ("tokens_per_second", "row_fill", "memory_gib", "mfu")
DEFAULT_BATCH = 32
LossPoints = tuple[tuple[int, float], ...]
"""(tokens seen, value) pairs, in order."""
MAX_POINTS = 400
"""Maximum points of a drawn curve; each is the mean of its interval."""


@dataclass(frozen=True, slots=True)
class TrainRun:
    """One train run.

    Attributes:
        name: name of the folder.
        folder: path of the folder.
        steps, tokens, seconds: progress of the train run.
        planned_steps: steps of its plan; None if the folder does not have them.
        speed: the last measured speed by name, see `SpeedMeter`.
        shares: share of tokens by dimension (selection, feedback, score) and name.
        losses: training loss by dimension and name, in nats per token.
        digest, snapshot: of its plan.
        stage: pretrain, midtrain, sft or preference.
        loss: training loss in nats per token, downsampled for drawing.
        held_out: held-out loss over all buckets, by feedback.
        tasks: share of problems solved, by task.
        by_bucket: the last evaluation's loss, by feedback and bucket.
        config: text of the train config.
    """

    name: str
    folder: str
    steps: int
    tokens: int
    seconds: float
    planned_steps: int | None
    speed: Mapping[str, float]
    shares: Mapping[str, Mapping[str, LossPoints]]
    losses: Mapping[str, Mapping[str, LossPoints]]
    digest: str
    snapshot: int | None
    stage: str
    loss: LossPoints
    held_out: Mapping[str, LossPoints]
    tasks: Mapping[str, LossPoints]
    by_bucket: Mapping[str, Mapping[str, float]]
    config: str


def read_train_run(folder: Path) -> TrainRun:
    """Read the train run in a folder, finished or in progress.

    Raises:
        ConfigError: the folder is not a run folder.
        CorruptError: its plan or config cannot be read.
    """
    metrics = folder / METRICS
    if not metrics.is_file():
        raise ConfigError(f"{folder} is not a run folder: it has no {METRICS}")
    rows = [row for row in read_metrics(metrics) if _has(row, "step", "tokens", "seconds")]
    plan = _mapping(folder / "plan.json", orjson.loads)
    text = _text(folder / "config.yaml")
    settings = _mapping(folder / "config.yaml", yaml.safe_load)
    evals = [(int(row["tokens"]), row["eval"]) for row in rows if isinstance(row.get("eval"), dict)]
    losses = [(int(row["tokens"]), float(row["loss"])) for row in rows if _has(row, "loss")]
    mixes = [(int(row["tokens"]), row["mix"]) for row in rows if isinstance(row.get("mix"), dict)]
    last = rows[-1] if rows else {"step": 0, "tokens": 0, "seconds": 0.0}
    measured: dict[str, Any] = next((row for row in reversed(rows) if "row_fill" in row), {})
    batch = settings.get("global_batch_size") or DEFAULT_BATCH
    return TrainRun(
        name=folder.resolve().name,
        folder=str(folder),
        steps=int(last["step"]),
        tokens=int(last["tokens"]),
        seconds=float(last["seconds"]),
        planned_steps=plan["samples"] // batch if _has(plan, "samples") else None,
        speed={name: float(measured[name]) for name in SPEEDS if _has(measured, name)},
        shares=_by_dimension(mixes, "tokens"),
        losses=_by_dimension(mixes, "loss"),
        digest=str(plan.get("digest", "")),
        snapshot=plan.get("snapshot"),
        stage=str(settings.get("stage", "pretrain")),
        loss=downsample(losses),
        held_out=_curves(evals, "loss", "all"),
        tasks=_curves(evals, "tasks"),
        by_bucket=next((e["loss"] for _, e in reversed(evals) if e.get("loss")), {}),
        config=text,
    )


def _curves(evals: list[tuple[int, dict[str, Any]]], *path: str) -> dict[str, LossPoints]:
    values: dict[str, dict[int, float]] = {}
    for tokens, metrics in evals:
        for name, value in metrics.get(path[0], {}).items():
            for key in path[1:]:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, int | float):
                values.setdefault(name, {})[tokens] = float(value)
    return {name: tuple(sorted(points.items())) for name, points in values.items()}


def _by_dimension(
    mixes: list[tuple[int, dict[str, Any]]], kind: str
) -> dict[str, dict[str, LossPoints]]:
    """Return the curves of `tokens` or `loss` by dimension and name, downsampled for drawing."""
    values: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for tokens, mix in mixes:
        for dimension, by_name in mix.get(kind, {}).items():
            for name in by_name:
                if _has(by_name, name):
                    curve = values.setdefault(dimension, {}).setdefault(name, [])
                    curve.append((tokens, float(by_name[name])))
    return {
        dimension: {name: downsample(points) for name, points in by_name.items()}
        for dimension, by_name in values.items()
    }


def downsample(points: list[tuple[int, float]], max_points: int = MAX_POINTS) -> LossPoints:
    """Average points over equal intervals; each point is at the end of its interval."""
    size = max(1, -(-len(points) // max_points))
    parts = (points[i : i + size] for i in range(0, len(points), size))
    return tuple((part[-1][0], sum(value for _, value in part) / len(part)) for part in parts)


def _has(row: Mapping[str, Any], *names: str) -> bool:
    """Return whether all values are numbers; a loss that is not finite is null in metrics."""
    return all(isinstance(row.get(name), int | float) for name in names)


def _mapping(path: Path, parse: Callable[[bytes], Any]) -> dict[str, Any]:
    """Return the mapping in a file, empty if it does not exist."""
    if not path.is_file():
        return {}
    try:
        values = parse(path.read_bytes())
    except (ValueError, yaml.YAMLError) as error:
        raise CorruptError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise CorruptError(f"{path} is not a mapping")
    return values


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
