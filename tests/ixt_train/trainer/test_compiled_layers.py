"""bf16, compiled layers and activation checkpointing on a CPU, whole runs."""

from pathlib import Path
from typing import Any

import pytest
from train_runs import Stopped, Tree, crash_at, losses, run

from ixt_data.errors import ConfigError
from ixt_train.runs.metrics import read_metrics


def run_in(folder: Path, tree: Tree, **changes: Any) -> list[float]:
    return losses(run(tree, run_folder=str(folder), **changes).run_folder)


def without_dropout(tree: Tree) -> Tree:
    """A compiled layer draws other random numbers."""
    config = {k: v for k, v in tree["model"]["config"].items() if "dropout" not in k}
    return tree | {"model": tree["model"] | {"config": config}}


def test_bf16_losses_are_near_those_of_fp32(config_tree: Tree, tmp_path: Path) -> None:
    exact = losses(run(config_tree).run_folder)
    rounded = run_in(tmp_path / "bf16", config_tree, precision="amp_bf16")
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)


@pytest.mark.slow
def test_compiled_losses_are_those_of_a_run_without(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = without_dropout(config_tree)
    exact = losses(run(tree).run_folder)
    compiled = run_in(tmp_path / "compiled", tree, compile=True)
    assert compiled == pytest.approx(exact, rel=1e-4)
    with monkeypatch.context() as patch:
        crash_at(6, patch)
        with pytest.raises(Stopped):
            run_in(tmp_path / "resumed", tree, compile=True)
    assert run_in(tmp_path / "resumed", tree, compile=True) == compiled


def test_activation_checkpointing_changes_no_loss(config_tree: Tree, tmp_path: Path) -> None:
    exact = losses(run(config_tree).run_folder)
    assert run_in(tmp_path / "saved", config_tree, activation_checkpointing=True) == exact


def test_rows_of_metrics_have_speed_and_fill(config_tree: Tree) -> None:
    rows = [row for row in read_metrics(run(config_tree).run_folder) if "loss" in row]
    assert all(row["tokens_per_second"] > 0 and 0 < row["row_fill"] <= 1 for row in rows)


@pytest.mark.parametrize(("key", "value"), [("precision", "amp_fp16"), ("microbatch_size", "auto")])
def test_settings_for_a_gpu_are_refused_without_one(
    config_tree: Tree, key: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=f"{key}: {value} needs a GPU"):
        run(config_tree, **{key: value})


def test_compile_without_a_compiler_is_refused(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler"):
        run(config_tree, compile=True)
