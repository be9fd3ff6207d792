"""Train runs that a signal ends, in real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from train_runs import Tree, losses, run, two_launched_processes

from ixt_train.runs.checkpoints import list_checkpoints
from ixt_train.runs.metrics import read_metrics


def signalled(command: list[object], folder: Path, number: int) -> tuple[int, str]:
    """Start a train run, send a signal after its third step, return exit code and stderr."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [str(part) for part in command], stderr=subprocess.PIPE, text=True, env=environment
    )
    while not any(row["step"] > 2 for row in read_metrics(folder)):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.fixture
def long_run(config_tree: Tree) -> Tree:
    """A train run with checkpoints at its end only, so one in between is that of a signal."""
    Path(config_tree["run_folder"]).mkdir()
    return config_tree | {
        "duration": "60ba",
        "checkpoint": {"every": "0ba"},
        "eval": {"samples": 0},
    }


@pytest.mark.slow
def test_train_run_saves_at_a_signal_and_resumes_exactly(
    long_run: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    config, folder = write_config(long_run), Path(long_run["run_folder"])
    command = [sys.executable, "-m", "ixt_train", config]
    code, errors = signalled(command, folder, signal.SIGUSR1)
    assert code == 128 + signal.SIGUSR1
    (checkpoint,) = list_checkpoints(folder)
    assert 3 <= int(checkpoint.stem[2:]) < 60
    assert "the same command resumes at step" in errors
    run(long_run)
    assert losses(folder) == losses(run(long_run, run_folder=str(tmp_path / "whole")).run_folder)


@pytest.mark.slow
def test_two_processes_save_the_same_step_at_a_signal(
    long_run: Tree, write_config: Callable[[Tree], Path]
) -> None:
    config, folder = write_config(long_run), Path(long_run["run_folder"])
    launcher = Path(sys.executable).with_name("composer")
    signalled([launcher, "-n", "2", "-m", "ixt_train", config], folder, signal.SIGTERM)
    (checkpoint,) = list_checkpoints(folder)
    assert int(checkpoint.stem[2:]) < 60
    assert two_launched_processes(config)["steps"] == 60
