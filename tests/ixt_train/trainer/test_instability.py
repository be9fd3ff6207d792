"""Steps whose loss is not finite or too high: skipped, or the end of the run."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks, train_with_broken_loss
from train_runs import Stopped, Tree, crash_at, losses, run

from ixt_data.config import validate
from ixt_data.console import Output, OutputMode
from ixt_data.errors import TrainingError
from ixt_train.config import InstabilityConfig
from ixt_train.config.train_config import TrainConfig
from ixt_train.runs.draws import read_draws
from ixt_train.runs.metrics import read_metrics
from ixt_train.runs.rewinds import read_rewinds
from ixt_train.trainer.instability import InstabilityCallback
from ixt_train.trainer.objective import LanguageModel
from ixt_train.trainer.training import train


def break_loss(monkeypatch: pytest.MonkeyPatch, steps: set[int], factor: float) -> None:
    """Multiply the loss of some steps, counted from 1."""
    original, step = LanguageModel.loss, 0

    def loss(self: LanguageModel, outputs: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
        nonlocal step
        step += 1
        value = original(self, outputs, batch)
        return value * factor if step in steps else value

    monkeypatch.setattr(LanguageModel, "loss", loss)


def test_loss_that_is_not_finite_ends_the_run(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch, {7}, math.nan)
    with pytest.raises(TrainingError, match="step 7: the loss is nan"):
        run(config_tree)
    assert len(losses(config_tree["run_folder"])) <= 6


def test_steps_that_are_not_finite_are_skipped(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = losses(run(config_tree, run_folder=str(tmp_path / "whole")).run_folder)
    break_loss(monkeypatch, {5}, math.inf)
    result = run(config_tree, instability={"non_finite": "skip"})
    rows = [row for row in read_metrics(result.run_folder) if "eval" not in row]
    assert [row["step"] for row in rows if row.get("skipped")] == [5]
    values = losses(result.run_folder)
    assert values[:4] == whole[:4]
    assert len(values) == 11
    assert all(map(math.isfinite, values))


def test_too_many_skipped_steps_end_the_run(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch, set(range(5, 12)), math.nan)
    with pytest.raises(TrainingError, match=r"step 8: .*the 3 steps before were skipped"):
        run(config_tree, instability={"non_finite": "skip", "max_skipped": 3})


def test_equal_losses_have_no_spread_to_divide_by() -> None:
    callback = InstabilityCallback(InstabilityConfig(spike=3.0), None)
    for value in (2.5, 0.0):
        callback.load_state_dict({"losses": [value] * 128, "skipped": 0})
        assert callback._problem(value) is None
        assert callback._problem(value * 1.001) is None
        assert "the loss is 4.0000" in str(callback._problem(4.0))


def test_step_far_above_the_mean_is_skipped(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_loss(monkeypatch, {25}, 50.0)
    tree = config_tree | {"duration": "30ba", "instability": {"spike": 6}}
    train(validate(TrainConfig, tree, "test"), out=Output(OutputMode.text))
    assert "step 25 skipped: the loss is" in capsys.readouterr().err


def test_run_rewinds_after_a_spike_and_drops_its_steps(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = config_tree | {"duration": "30ba", "checkpoint": {"every": "10ba"}}
    tree |= {"instability": {"spike": 6, "rewind": 3}, "eval": {"samples": 0}}
    whole = losses(run(tree, run_folder=str(tmp_path / "whole")).run_folder)
    with monkeypatch.context() as patch:
        break_loss(patch, {25}, 50.0)
        rewound = run(tree, run_folder=str(tmp_path / "rewound"))
    assert [rewind[:3] for rewind in read_rewinds(tmp_path / "rewound")] == [(25, 23, 20)]
    values = losses(rewound.run_folder)
    # The loss of step 23 is from before its update.
    assert values[:23] == whole[:23]
    assert len(values) == 30
    assert all(a != b for a, b in zip(values[23:], whole[23:], strict=True))
    assert len(list(read_draws(rewound.run_folder))) == 30
    # A crash after the rewind changes nothing.
    with monkeypatch.context() as patch:
        break_loss(patch, {25}, 50.0)
        crash_at(28, patch)
        with pytest.raises(Stopped):
            run(tree)
    assert losses(run(tree).run_folder) == values


@pytest.mark.slow
def test_two_processes_rewind_together(
    config_tree: Tree, write_config: Callable[[Tree], Path]
) -> None:
    tree = config_tree | {"duration": "24ba", "checkpoint": {"every": "10ba"}}
    tree |= {"instability": {"spike": 6, "rewind": 3}, "eval": {"samples": 0}}
    config = write_config(tree)
    first, second = run_ranks(2, train_with_broken_loss, config, {22}, limit_seconds=200)
    assert first["steps"] == second["steps"] == 24
    (rewind,) = read_rewinds(Path(tree["run_folder"]))
    assert rewind[:3] == (22, 21, 20)


def test_too_many_rewinds_end_the_run(config_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    break_loss(monkeypatch, set(range(6, 100)), math.nan)
    instability = {"non_finite": "skip", "rewind": 1, "max_skipped": 2}
    with pytest.raises(TrainingError, match=r"the loss is nan, after 2 rewinds"):
        run(config_tree, instability=instability)
    assert [rewind.resumed_after for rewind in read_rewinds(Path(config_tree["run_folder"]))] == [
        4,
        4,
    ]
