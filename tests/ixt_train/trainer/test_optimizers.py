"""Kinds of optimizers, in whole runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from train_runs import Stopped, Tree, crash_at, losses, run, two_processes

from ixt_data.errors import ConfigError
from ixt_train.runs.checkpoints import read_checkpoint
from ixt_train.trainer.optimizers import orthogonalize

MUON = {"lr": 3e-3, "kind": "muon"}


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonal_matrix_keeps_vectors_and_has_singular_values_near_1(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = orthogonalize(matrix)
    assert found.shape == matrix.shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    rotated = left.T @ found @ right.T
    assert torch.allclose(rotated, torch.diag(rotated.diagonal()), atol=1e-4)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_muon_learns_and_resumes_exactly(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    checkpoint = {"every": "4ba", "asynchronous": asynchronous}
    tree = config_tree | {"optimizer": MUON, "checkpoint": checkpoint}
    whole = run(tree, run_folder=str(tmp_path / "whole"))
    assert losses(whole.run_folder)[-1] < losses(whole.run_folder)[0] - 0.1
    with monkeypatch.context() as patch:
        crash_at(6, patch)
        with pytest.raises(Stopped):
            run(tree)
    assert losses(run(tree).run_folder) == losses(whole.run_folder)
    state = read_checkpoint(Path(whole.checkpoint))["state"]["optimizers"]["Muon"]["state"]
    momenta = {name for name, value in state.items() if "momentum" in value}
    assert momenta == {n for n in state if "proj" in n}


def test_stage_keeps_only_the_same_optimizer(config_tree: Tree, tmp_path: Path) -> None:
    first = run(config_tree, optimizer=MUON)
    later = config_tree | {"stage": "midtrain", "duration": "2ba"}
    later |= {"start": {"checkpoint": first.run_folder, "optimizer": "keep"}}
    del later["model"], later["tokenizer"]
    assert run(later, optimizer=MUON, run_folder=str(tmp_path / "same")).steps == 2
    with pytest.raises(ConfigError, match=r"keep needs the same optimizer\.kind; .*Muon.*AdamW"):
        run(later, run_folder=str(tmp_path / "other"))


@pytest.mark.slow
def test_muon_of_a_sharded_model_is_that_of_one_process(
    config_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    model = config_tree["model"]["config"] | {"attention_dropout": 0.0}
    tree = config_tree | {"model": {"config": model}, "optimizer": MUON}
    one = losses(run(tree, run_folder=str(tmp_path / "one")).run_folder)
    two = two_processes(write_config(tree | {"fsdp": {"version": 2}}))
    assert losses(two["run_folder"]) == pytest.approx(one, abs=1e-3)


def test_8_bit_adamw_without_its_package_is_refused(config_tree: Tree) -> None:
    with pytest.raises(ConfigError, match="adamw8bit needs the package torchao"):
        run(config_tree, optimizer={"kind": "adamw8bit"})
