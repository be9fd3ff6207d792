"""Learning curves: metrics of a train run over compute, read from run folders or files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml

from ixt_data.errors import ConfigError
from ixt_data.storage import atomic_write
from ixt_train.config import flatten
from ixt_train.inference import read_model_size
from ixt_train.runs import read_metrics, run_folder

LABEL = "scaling.json"
"""File in a run folder with its arm, group, seed and budget."""
AXES = ("steps", "tokens", "flops")
_SEED = re.compile(r"(?P<arm>.+?)[-_.]s?(?:eed)?\d+")


@dataclass(frozen=True)
class RunLabel:
    """The place of a train run in a comparison.

    Attributes:
        arm: name of the arm.
        group: arms of one group are compared: the same corpus, model and task.
        seed: train runs of one seed are compared with each other.
        budget: its duration, as the train config writes it.
        annotation_flops: FLOPs of the critics that its mix needs, over the complete corpus:
            2 x parameters x tokens read and generated; 0 for critics without a model.
    """

    arm: str
    group: str = ""
    seed: int = 0
    budget: str = ""
    annotation_flops: float = 0.0


@dataclass(frozen=True)
class LearningCurve:
    """One train run: clocks and metrics at each of its evaluations.

    Attributes:
        arm, group, seed, budget, annotation_flops: see `RunLabel`.
        parameters: number of the model's parameters.
        documents: number of different documents drawn.
        digest: digest of its plan.
        steps, tokens, flops: the clocks. Tokens are those of documents and feedback, without
            padding. FLOPs are those of training on them, without evaluation.
        metrics: by name, one value per evaluation. `loss.inference...` is the loss under the best
            feedback if the model uses any, else without feedback.
        seconds: training time.
    """

    arm: str
    group: str
    seed: int
    budget: str
    parameters: int
    documents: int
    digest: str
    steps: tuple[int, ...]
    tokens: tuple[int, ...]
    flops: tuple[float, ...]
    metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    annotation_flops: float = 0.0

    def axis(self, name: str) -> Sequence[float]:
        """Return one of the clocks."""
        return getattr(self, name)  # type: ignore[no-any-return]

    @property
    def key(self) -> tuple[str, str, int, str]:
        """The identity of the train run in a comparison."""
        return (self.group, self.arm, self.seed, self.budget)


def read_run(folder: Path, label: RunLabel | None = None) -> LearningCurve:
    """Read the curve of a run folder, finished or in progress.

    Args:
        folder: run folder of `ixt train`.
        label: its place in a comparison; by default from its scaling.json, else the arm is its
            name up to a number, such as `critique` of `critique-0`.

    Raises:
        ConfigError: the folder is not a run folder, or has no evaluation yet.
        CorruptError: a row of its metrics is not JSON.
    """
    rows = _read_rows(folder / run_folder.METRICS)
    evaluations = [row for row in rows if "eval" in row]
    if not evaluations:
        raise ConfigError(f"{folder} has no evaluation yet; set eval.every in its train config")
    config = yaml.safe_load((folder / run_folder.CONFIG).read_text())
    plan = run_folder.read_json(folder / run_folder.PLAN)
    label = label or _label(folder, config)
    size = read_model_size(folder / run_folder.MODEL)
    packed = config["packing"] != "pad" and config["attention"] == "row"
    flops, tokens, samples, total_flops = [], 0, 0, 0.0
    for row in evaluations:
        new, drawn = row["tokens"] - tokens, row["samples"] - samples
        length = config["max_length"] if packed or not drawn else new / drawn
        total_flops += new * size.per_token(length)
        tokens, samples = row["tokens"], row["samples"]
        flops.append(total_flops)
    per_evaluation = [_metrics_of(row["eval"]) for row in evaluations]
    names = sorted(set.intersection(*(set(values) for values in per_evaluation)))
    return LearningCurve(
        **asdict(label),
        parameters=size.parameters,
        documents=plan["documents"],
        digest=plan["digest"],
        steps=tuple(row["step"] for row in evaluations),
        tokens=tuple(row["tokens"] for row in evaluations),
        flops=tuple(flops),
        metrics={name: tuple(values[name] for values in per_evaluation) for name in names},
        seconds=evaluations[-1]["seconds"],
    )


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ConfigError(f"{path.parent} is not a run folder: it has no {path.name}")
    return read_metrics(path)


def _metrics_of(measured: Mapping[str, Any]) -> dict[str, float]:
    losses = measured.get("loss", {})
    inference_loss = losses.get("best", losses.get("none"))
    return flatten(measured) | (
        flatten({"loss": {"inference": inference_loss}}) if inference_loss else {}
    )


def _label(folder: Path, config: Mapping[str, Any]) -> RunLabel:
    if (folder / LABEL).is_file():
        return RunLabel(**run_folder.read_json(folder / LABEL))
    name = folder.resolve().name
    match = _SEED.fullmatch(name)
    arm = match["arm"] if match else name
    return RunLabel(arm, seed=config["seed"], budget=str(config["duration"]))


def write_curves(path: Path, curves: Iterable[LearningCurve]) -> None:
    """Write a file of curves, one JSON object per line; replace curves of the same key.

    It contains everything that a report needs, without the run folders.
    """
    by_key = {curve.key: curve for curve in (read_curves(path) if path.is_file() else ())}
    by_key |= {curve.key: curve for curve in curves}
    lines = b"".join(_line(by_key[key]) for key in sorted(by_key))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: partial.write_bytes(lines))


def _line(curve: LearningCurve) -> bytes:
    record = asdict(curve)
    record["flops"] = [float(f"{flops:.5g}") for flops in curve.flops]
    record["metrics"] = {
        name: [float(f"{value:.5g}") for value in values] for name, values in curve.metrics.items()
    }
    return orjson.dumps(record) + b"\n"


def read_curves(path: Path) -> list[LearningCurve]:
    """Return the curves of such a file.

    Raises:
        ConfigError: a line of it is none.
    """
    curves = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = orjson.loads(line)
            record["metrics"] = {name: tuple(v) for name, v in record["metrics"].items()}
            curves.append(LearningCurve(**record | {axis: tuple(record[axis]) for axis in AXES}))
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} line {number} is not a curve ({error})") from None
    return curves
