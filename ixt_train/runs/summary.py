"""Train runs as their folders tell them: curves and last figures, read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from ixt_data.errors import ConfigError

METRICS = "metrics.jsonl"
"""What makes a folder a run folder."""
LossPoints = tuple[tuple[int, float], ...]
"""Tokens seen and a value, in order."""
POINTS = 400
"""Points of a drawn curve at most; each is the mean of its stretch."""


@dataclass(frozen=True, slots=True)
class TrainRun:
    """One train run.

    Attributes:
        name: of its folder.
        folder: where it is.
        steps, tokens, seconds: how far it has come.
        digest, snapshot: of its plan.
        stage: pretrain, midtrain or sft.
        loss: training loss in nats per token, thinned for drawing.
        held_out: held-out loss over all buckets, by feedback.
        tasks: share of problems solved, by task.
        by_bucket: the last evaluation's loss, by feedback and bucket.
        config: the train config's text.
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
    """Return the train run in a folder, finished or under way.

    Raises:
        ConfigError: there is none in it.
    """
    metrics = folder / METRICS
    if not metrics.is_file():
        raise ConfigError(f"{folder} is no run folder: {METRICS} is missing in it")
    rows = _rows(metrics)
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
        loss=thinned(losses),
        held_out=_curves(evals, "loss", "all"),
        tasks=_curves(evals, "tasks"),
        by_bucket=next((e["loss"] for _, e in reversed(evals) if e.get("loss")), {}),
        config=text,
    )


def _curves(evals: list[tuple[int, dict[str, Any]]], *path: str) -> dict[str, LossPoints]:
    found: dict[str, dict[int, float]] = {}
    for tokens, figures in evals:
        for name, value in figures.get(path[0], {}).items():
            for key in path[1:]:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, int | float):
                found.setdefault(name, {})[tokens] = float(value)
    return {name: tuple(sorted(points.items())) for name, points in found.items()}


def thinned(points: list[tuple[int, float]], most: int = POINTS) -> LossPoints:
    """At most so many points, each the mean of its stretch at the stretch's end."""
    size = max(1, -(-len(points) // most))
    parts = (points[i : i + size] for i in range(0, len(points), size))
    return tuple((part[-1][0], sum(value for _, value in part) / len(part)) for part in parts)


def _rows(path: Path) -> list[dict[str, Any]]:
    # A run that is being written, or was killed, ends in half a line.
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            break
    return rows


def _json(path: Path) -> dict[str, Any]:
    found = orjson.loads(path.read_bytes()) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
