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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_train_run_saves_at_a_signal_and_resumes_exactly(
    config_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path], number: int
) -> None:
    # Only at the end, so the checkpoint in between is that of the signal.
    tree = config_tree | {"duration": "100ba", "checkpoint": {"every": "0ba"}}
    tree["eval"] = config_tree["eval"] | {"every": "1000ba"}
    config, folder = write_config(tree), Path(tree["run_folder"])
    folder.mkdir()
    code, errors = signalled([sys.executable, "-m", "ixt_train", config], folder, number)
    assert code == 128 + number
    (checkpoint,) = list_checkpoints(folder)
    assert 3 <= int(checkpoint.stem[2:]) < 100
    assert "the same command resumes at step" in errors
    run(tree)
    assert losses(folder) == losses(run(tree, run_folder=str(tmp_path / "whole")).run_folder)


@pytest.mark.slow
def test_two_processes_save_the_same_step_at_a_signal(
    config_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    tree = config_tree | {"duration": "60ba", "checkpoint": {"every": "0ba"}}
    tree["eval"] = config_tree["eval"] | {"every": "1000ba"}
    config, folder = write_config(tree), Path(tree["run_folder"])
    folder.mkdir()
    launcher = Path(sys.executable).with_name("composer")
    signalled([launcher, "-n", "2", "-m", "ixt_train", config], folder, signal.SIGTERM)
    (checkpoint,) = list_checkpoints(folder)
    assert int(checkpoint.stem[2:]) < 60
    assert two_launched_processes(config)["steps"] == 60
