"""Sweeps: the same train run under every combination of some settings."""

import gc
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from composer.utils import dist

from ixt_data.console import Output
from ixt_data.errors import IxtError, TrainingError
from ixt_train.config import TrainConfig
from ixt_train.runs import run_folder
from ixt_train.trainer.training import train

RESULTS = "sweep.json"


@dataclass(frozen=True)
class SweepRun:
    """The result of one combination.

    Attributes:
        settings: the overrides, such as `optimizer.lr=1e-3`.
        run_folder: its run folder, inside that of the sweep.
        loss: held out, or of the last step if nothing is held out; None after a failure.
        tokens: tokens of the train run.
        seconds: training time over all resumes.
        error: why it failed, None if it did not.
    """

    settings: tuple[str, ...]
    run_folder: str
    loss: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    error: str | None = None


def run_sweep(
    points: Sequence[tuple[tuple[str, ...], TrainConfig]],
    *,
    overwrite: bool = False,
    out: Output | None = None,
) -> list[SweepRun]:
    """Train all combinations one after the other, and return them, the lowest loss first.

    Finished train runs are not repeated, and an interrupted one is resumed. One that becomes
    unstable is recorded as failed. `sweep.json` in the common folder has the results so far.

    Args:
        points: as `load_points` returns them.
        overwrite: delete earlier train runs of the same combinations first.
        out: destination of progress.

    Raises:
        IxtError: every combination failed.
    """
    runs: list[SweepRun] = []
    is_first = dist.get_global_rank() == 0
    for number, (settings, config) in enumerate(points, 1):
        if out is not None and is_first:
            out.note(f"run {number} of {len(points)}: {' '.join(settings)}")
        runs.append(_run(settings, config, overwrite, out))
        runs.sort(key=lambda run: math.inf if run.loss is None else run.loss)
        if is_first:
            folder = Path(config.run_folder).parent
            run_folder.write_json(folder / RESULTS, {"runs": [asdict(run) for run in runs]})
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if runs and all(run.error for run in runs):
        raise IxtError(f"every run of the sweep failed: {runs[0].error}")
    return runs


def _run(
    settings: tuple[str, ...], config: TrainConfig, overwrite: bool, out: Output | None
) -> SweepRun:
    try:
        result = train(config, overwrite=overwrite, out=out)
    except TrainingError as error:
        return SweepRun(settings, config.run_folder, error=str(error))
    held_out = result.losses["eval"]
    loss = result.losses["train"] if held_out is None else held_out
    if loss is None or not math.isfinite(loss):
        return SweepRun(settings, config.run_folder, error=f"its loss is {loss}")
    return SweepRun(settings, config.run_folder, loss, result.tokens, result.seconds)


def sweep_rows(runs: Sequence[SweepRun]) -> tuple[list[str], list[list[Any]]]:
    """Return the names of columns, and a row per train run."""
    keys = [setting.partition("=")[0] for setting in runs[0].settings]
    rows = [
        [
            *(setting.partition("=")[2] for setting in run.settings),
            "failed" if run.loss is None else f"{run.loss:.4f}",
            f"{run.tokens:,}",
            f"{run.seconds:,.1f}",
            Path(run.run_folder).name,
        ]
        for run in runs
    ]
    return [*keys, "loss", "tokens", "seconds", "folder"], rows
