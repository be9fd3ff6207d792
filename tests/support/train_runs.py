"""Train runs from a config tree, and crashes in the middle of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks, train_config

from ixt_data.config import validate
from ixt_train.config.train_config import TrainConfig
from ixt_train.runs.metrics import read_metrics
from ixt_train.trainer.training import TrainResult, train

Tree = dict[str, Any]


class Stopped(Exception):
    """A crash in the middle of a train run."""


def run(tree: Tree, **changes: Any) -> TrainResult:
    return train(validate(TrainConfig, tree | changes, "test"))


def crash_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from ixt_train.trainer.callbacks import LearningRateCallback

    def batch_end(self: Any, state: Any, logger: Any) -> None:
        if int(state.timestamp.batch) == step:
            raise Stopped

    monkeypatch.setattr(LearningRateCallback, "batch_end", batch_end, raising=False)


def losses(folder: str | Path) -> list[float]:
    rows = read_metrics(Path(folder) / "metrics.jsonl")
    return [row["loss"] for row in rows if "loss" in row]


def two_processes(config: Path) -> Tree:
    """The result of a train run in two processes."""
    first, _ = run_ranks(2, train_config, config, limit_seconds=200)
    assert isinstance(first, dict), first
    return first


def two_launched_processes(config: Path) -> Tree:
    """What a train run in two processes of Composer's launcher prints."""
    launcher = Path(sys.executable).with_name("composer")
    command = [launcher, "-n", "2", "-m", "ixt_train", config, "--output", "json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    # The launcher adds a line of its own after the result.
    return dict(json.loads(done.stdout.splitlines()[0]))
