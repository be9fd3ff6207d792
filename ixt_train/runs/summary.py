"""Summaries of train runs for pages and reports: curves and last metrics, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from ixt_data.errors import ConfigError
from ixt_train.runs.metrics import read_metrics

METRICS = "metrics.jsonl"
"""The file that marks a folder as a run folder."""
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
        digest, snapshot: of its plan.
        stage: pretrain, midtrain or sft.
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
        CorruptError: a row of its metrics is not JSON.
    """
    metrics = folder / METRICS
    if not metrics.is_file():
        raise ConfigError(f"{folder} is not a run folder: it has no {METRICS}")
    rows = read_metrics(metrics)
    plan = _json(folder / "plan.json")
    text = _text(folder / "config.yaml")
    settings = yaml.safe_load(text) or {}
    evals = [(int(row["tokens"]), row["eval"]) for row in rows if isinstance(row.get("eval"), dict)]
    losses = [(int(row["tokens"]), float(row["loss"])) for row in rows if "loss" in row]
    last = rows[-1] if rows else {"step": 0, "tokens": 0, "seconds": 0.0}
    return TrainRun(
        name=folder.resolve().name,
        folder=str(folder),
        steps=int(last["step"]),
        tokens=int(last["tokens"]),
        seconds=float(last["seconds"]),
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


def downsample(points: list[tuple[int, float]], max_points: int = MAX_POINTS) -> LossPoints:
    """Average points over equal intervals; each point is at the end of its interval."""
    size = max(1, -(-len(points) // max_points))
    parts = (points[i : i + size] for i in range(0, len(points), size))
    return tuple((part[-1][0], sum(value for _, value in part) / len(part)) for part in parts)


def _json(path: Path) -> dict[str, Any]:
    values = orjson.loads(path.read_bytes()) if path.is_file() else {}
    return values if isinstance(values, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
