"""Tokens and losses by selection, feedback and score in the rows of metrics."""

from pathlib import Path
from typing import Any

import pytest
from train_runs import Stopped, Tree, crash_at, losses, run

from ixt_train.runs.metrics import read_metrics

MIX: Tree = {
    "selections": [
        {"name": "good", "where": "score >= 0.5", "weight": 3},
        {"name": "all", "where": "true", "weight": 1},
    ],
    "condition": {"kind": "score", "dropout": 0.5},
}


def mixes(run_folder: str) -> list[dict[str, Any]]:
    rows = [row for row in read_metrics(run_folder) if "eval" not in row]
    return [row["mix"] for row in rows]


def test_shares_and_losses_are_those_of_the_batches(config_tree: Tree) -> None:
    tree = config_tree | {"mix": config_tree["mix"] | MIX}
    result = run(tree, logging={"every": 1, "progress": False})
    rows, by_step = mixes(result.run_folder), losses(result.run_folder)
    assert {name for row in rows for name in row["tokens"]["selection"]} <= {
        "good", "all", "several",
    }  # fmt: skip
    assert {name for row in rows for name in row["tokens"]["feedback"]} == {"score", "none"}
    for row in rows:
        for shares in row["tokens"].values():
            assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert "unscored" not in row["tokens"]["score"]
    # The losses of all groups are around the loss of the step.
    for row, loss in zip(rows, by_step, strict=True):
        for means in row["loss"].values():
            assert min(means.values()) - 1e-4 <= loss <= max(means.values()) + 1e-4


@pytest.mark.parametrize("packing", ["pad", "concat", "best_fit"])
def test_one_selection_has_all_tokens_in_any_packing(config_tree: Tree, packing: str) -> None:
    result = run(config_tree, packing=packing, logging={"every": 5, "progress": False})
    for row in mixes(result.run_folder):
        assert list(row["tokens"]["selection"].values()) == [1]
        assert len(row["loss"]["score"]) > 1


def test_rows_after_a_resume_are_those_of_one_run(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Tree = {"logging": {"every": 5, "progress": False}, "duration": "10ba"}
    whole = run(config_tree, run_folder=str(tmp_path / "whole"), **settings)
    with monkeypatch.context() as crash:
        # After the checkpoint of step 4, in the middle of the first row.
        crash_at(5, crash)
        with pytest.raises(Stopped):
            run(config_tree, **settings)
    again = run(config_tree, **settings)
    assert mixes(again.run_folder) == mixes(whole.run_folder)
