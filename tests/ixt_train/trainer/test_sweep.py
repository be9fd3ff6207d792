"""Sweeps over settings of a train run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ranks import run_ranks, sweep
from train_runs import Tree
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError, IxtError
from ixt_train.runs.metrics import read_metrics
from ixt_train.runs.sweep_points import combine_axes, load_points
from ixt_train.trainer.objective import LanguageModel
from ixt_train.trainer.sweep import run_sweep

WriteConfig = Callable[[dict[str, Any]], Path]
AXES = ["optimizer.lr=1e-4,1e-2", "seed=1,2"]


@pytest.fixture
def config(config_tree: Tree, write_config: WriteConfig) -> Path:
    return write_config(config_tree | {"duration": "4ba", "eval": {"samples": 4}})


def test_sweep_trains_each_combination_once(config: Path, config_tree: Tree) -> None:
    points = load_points(config, [], AXES)
    runs = run_sweep(points)
    assert {run.settings for run in runs} == set(combine_axes(AXES))
    assert [run.loss for run in runs] == sorted(run.loss or 0 for run in runs)
    # Four steps are few: the higher rate is better.
    assert {run.settings[0] for run in runs[:2]} == {"optimizer.lr=1e-2"}
    folder = Path(config_tree["run_folder"])
    assert len({run.run_folder for run in runs}) == 4
    assert len(json.loads((folder / "sweep.json").read_text())["runs"]) == 4
    rows = [len(read_metrics(Path(run.run_folder) / "metrics.jsonl")) for run in runs]
    again = run_sweep(points)
    assert [run.loss for run in again] == [run.loss for run in runs]
    assert [len(read_metrics(Path(run.run_folder) / "metrics.jsonl")) for run in again] == rows


@pytest.mark.slow
def test_sweep_of_two_processes_equals_that_of_one(
    config_tree: Tree, write_config: WriteConfig, tmp_path: Path
) -> None:
    model = config_tree["model"]["config"] | {"attention_dropout": 0.0}
    tree = config_tree | {"duration": "4ba", "eval": {"samples": 4}, "model": {"config": model}}
    axes = ["optimizer.lr=1e-4,1e-2"]
    one = run_sweep(load_points(write_config(tree), [f"run_folder={tmp_path}/one"], axes))
    first, second = run_ranks(2, sweep, write_config(tree), axes, limit_seconds=200)
    assert first == second
    assert [settings for settings, _ in first] == [run.settings for run in one]
    assert [loss for _, loss in first] == pytest.approx([run.loss for run in one], abs=1e-4)


def test_unstable_run_does_not_end_the_sweep(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, broken = LanguageModel.loss, 1

    def loss(self: LanguageModel, outputs: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
        nonlocal broken
        broken -= 1
        return original(self, outputs, batch) * (1 if broken < 0 else float("nan"))

    monkeypatch.setattr(LanguageModel, "loss", loss)
    runs = run_sweep(load_points(config, [], ["seed=1,2"]))
    assert [run.error is None for run in runs] == [True, False]
    assert "the loss is nan" in (runs[1].error or "")
    broken = 100
    with pytest.raises(IxtError, match="every run of the sweep failed"):
        run_sweep(load_points(config, [], ["seed=3,4"]))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["seed"], "'seed' is not KEY=VALUE"),
        (["seed=1,,2"], "is not KEY=VALUE"),
        (["seed=1", "seed=2"], "seed is given twice"),
        (["seed=1,1"], "a value is given twice"),
        (["optimizer.rate=1,2"], "rate"),
        (["run_folder=a,b"], "run_folder is not a setting"),
        (["optimizer.lr=1e-3,0.001"], "optimizer.lr=0.001 and optimizer.lr=1e-3 are the same"),
        (["seed=1,"], "is not KEY=VALUE"),
        (["optimizer={lr: 1,"], "is not KEY=VALUE"),
    ],
)
def test_wrong_axes_are_refused(config: Path, axes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_points(config, [], axes)


def test_commas_in_brackets_and_quotes_separate_no_values() -> None:
    axis = """optimizer={"lr": 1e-3, "betas": [0.9, 0.95]},{lr: 2e-3}, 'a, b',null,-1, x: y"""
    values = [setting.partition("=")[2] for (setting,) in combine_axes([axis])]
    first = '{"lr": 1e-3, "betas": [0.9, 0.95]}'
    assert values == [first, "{lr: 2e-3}", "'a, b'", "null", "-1", "x: y"]


def test_missing_mix_is_found_before_the_first_run(config: Path, config_tree: Tree) -> None:
    mix = config.parent / "mix.yaml"
    mix.write_text(yaml.safe_dump(config_tree["mix"]))
    done = CliRunner().invoke(build(), ["train", str(config), "--sweep", f"mix={mix},gone.yaml"])
    assert "gone.yaml" in str(done.exception)
    assert not Path(config_tree["run_folder"]).exists()


def test_command_prints_the_table(config: Path) -> None:
    done = CliRunner().invoke(
        build(), ["train", str(config), "optimizer.lr=2e-3", "--sweep", "seed=1,2"]
    )
    assert done.exit_code == 0, done.output
    assert "seed" in done.stdout
    assert f": ixt train {config} optimizer.lr=2e-3 seed=" in done.stderr
    again = ["train", str(config), f"run_folder={config.parent}/other"]
    assert CliRunner().invoke(build(), again).exit_code == 0
    refused = CliRunner().invoke(build(), [*again, "--sweep", "seed=1,2"])
    assert "has a train run" in str(refused.exception)


def test_interrupted_sweep_says_how_it_continues(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ixt_train.trainer.run_sweep", interrupt)
    done = CliRunner().invoke(build(), ["train", str(config), "--sweep", "seed=1,2", "--overwrite"])
    assert "the same command without --overwrite repeats no finished run" in done.stderr
