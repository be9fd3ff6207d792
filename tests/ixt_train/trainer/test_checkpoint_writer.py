"""Checkpoints in parts: written in the background, complete or not at all, for any world size."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks, stop_at_third_step
from train_runs import Stopped, Tree, crash_at, losses, run, two_processes

from ixt_data.config import validate
from ixt_data.errors import ConfigError, CorruptError, TrainingError
from ixt_train.config.train_config import TrainConfig
from ixt_train.evaluation.held_out import evaluate
from ixt_train.inference.loaded_model import load_model
from ixt_train.runs.checkpoints import (
    averaged_weights,
    checkpoint_path,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
)
from ixt_train.runs.draws import read_draws
from ixt_train.runs.metrics import read_metrics
from ixt_train.trainer.callbacks import HookCallback
from ixt_train.trainer.training import train

BACKGROUND = {"every": "4ba", "asynchronous": True}


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return bool(a == b)


def tensors_of(path: Path | str) -> Tree:
    """Weights, optimizer and average of a checkpoint."""
    state = read_checkpoint(Path(path))
    kept = {key: state["state"][key] for key in ("model", "optimizers")}
    return kept | {"average": averaged_weights(state)}


def test_checkpoint_in_parts_has_the_tensors_of_one_file(config_tree: Tree, tmp_path: Path) -> None:
    file = run(config_tree, run_folder=str(tmp_path / "file"))
    parts = run(config_tree, run_folder=str(tmp_path / "parts"), checkpoint=BACKGROUND)
    assert Path(parts.checkpoint).is_dir()
    assert [path.name for path in list_checkpoints(tmp_path / "parts")] == [
        "ba000000012",
        "ba000000008",
    ]
    for step in (8, 12):
        one, other = (
            checkpoint_path(tmp_path / "file", step),
            checkpoint_path(tmp_path / "parts", step, in_parts=True),
        )
        assert same(tensors_of(one), tensors_of(other))
    assert evaluate(load_model(parts.checkpoint)) == evaluate(load_model(file.checkpoint))
    assert losses(tmp_path / "file") == losses(tmp_path / "parts")


def test_train_after_a_crash_resumes_from_parts_to_the_bit(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = config_tree | {"checkpoint": BACKGROUND}
    whole = run(tree, run_folder=str(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        crash_at(7, patch)
        with pytest.raises(Stopped):
            run(tree)
    assert newest_checkpoint(tmp_path / "run") == checkpoint_path(tmp_path / "run", 4, True)
    # The setting may change, too: a file follows the folder.
    file = run(config_tree)
    assert same(tensors_of(file.checkpoint), tensors_of(whole.checkpoint))
    assert losses(file.run_folder) == losses(whole.run_folder)
    assert list(read_draws(file.run_folder)) == list(read_draws(whole.run_folder))


def test_checkpoint_without_all_of_its_parts_is_not_used(config_tree: Tree) -> None:
    result = run(config_tree, checkpoint=BACKGROUND)
    newest, before = list_checkpoints(Path(result.run_folder))
    (part,) = newest.glob("*.distcp")
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(CorruptError, match="shorter than"):
        read_checkpoint(newest)
    assert newest_checkpoint(Path(result.run_folder)) == before
    (newest / ".metadata").unlink()
    assert newest_checkpoint(Path(result.run_folder)) == before
    assert run(config_tree, checkpoint=BACKGROUND).losses == result.losses


def test_parts_with_code_raise(config_tree: Tree) -> None:
    result = run(config_tree, checkpoint=BACKGROUND)
    (Path(result.checkpoint) / ".metadata").write_bytes(pickle.dumps(os.system))
    with pytest.raises(CorruptError, match=r"requires posix\.system"):
        read_checkpoint(Path(result.checkpoint))


def test_checkpoint_that_cannot_be_written_ends_the_train_run(
    config_tree: Tree, tmp_path: Path
) -> None:
    """A file is where the second checkpoint needs a folder."""
    blocked = tmp_path / "run" / "checkpoints" / ".ba000000008.partial"
    steps = []

    def block() -> None:
        steps.append(len(steps) + 1)
        if steps[-1] == 5:
            blocked.write_text("in the way")
        # The error comes at a later step, not only at the next checkpoint.
        time.sleep(0.3 if steps[-1] > 8 else 0)

    config = validate(
        TrainConfig, config_tree | {"checkpoint": BACKGROUND, "duration": "24ba"}, "t"
    )
    with pytest.raises(TrainingError, match=r"checkpoint of step 8 could not be written: .*exists"):
        train(config, callbacks=[HookCallback(lambda: None, block)])
    assert steps[-1] < 12
    assert newest_checkpoint(tmp_path / "run") == checkpoint_path(tmp_path / "run", 4, True)
    assert run(config_tree, checkpoint=BACKGROUND, duration="24ba").steps == 24


def test_asynchronous_with_fsdp_1_is_refused(config_tree: Tree) -> None:
    monolith = {"version": 2, "load_monolith_rank0_only": True}
    with pytest.raises(ConfigError, match=r"fsdp\.load_monolith_rank0_only"):
        run(config_tree, checkpoint=BACKGROUND, fsdp=monolith)


def test_later_stage_starts_from_parts(config_tree: Tree, tmp_path: Path) -> None:
    first = run(config_tree, checkpoint=BACKGROUND)
    later = config_tree | {
        "stage": "midtrain",
        "run_folder": str(tmp_path / "later"),
        "start": {"checkpoint": first.run_folder, "optimizer": "keep"},
        "duration": "2ba",
    }
    for key in ("model", "tokenizer"):
        del later[key]
    result = run(later)
    kept = tmp_path / "later" / "start" / "checkpoint"
    assert same(tensors_of(kept), tensors_of(first.checkpoint))
    again = validate(TrainConfig, later, "t")
    assert train(again) == result


HANG = """
import sys, time
from ixt_train.config import load_train_config
from ixt_train.trainer import checkpoint_writer, train
save = checkpoint_writer.save
def hang(tensors, checkpoint_id, **options):
    save(tensors, checkpoint_id=checkpoint_id, **options)
    if checkpoint_id.name == ".ba000000008.partial":
        print("hangs", flush=True)
        time.sleep(600)
checkpoint_writer.save = hang
train(load_train_config(sys.argv[1]))
"""


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_train_killed_while_it_writes_uses_the_checkpoint_before(
    config_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    tree = config_tree | {"checkpoint": BACKGROUND}
    whole = run(tree, run_folder=str(tmp_path / "whole"))
    (tmp_path / "hang.py").write_text(HANG)
    command = [sys.executable, str(tmp_path / "hang.py"), str(write_config(tree))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline() == "hangs\n"
    metrics = tmp_path / "run" / "metrics.jsonl"
    # Training continues meanwhile, up to the next checkpoint.
    while read_metrics(metrics)[-1]["step"] < 11:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    folder = tmp_path / "run" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"ba000000004", ".ba000000008.partial"}
    resumed = run(tree)
    assert same(tensors_of(resumed.checkpoint), tensors_of(whole.checkpoint))
    assert losses(resumed.run_folder) == losses(whole.run_folder)
    assert list(read_draws(resumed.run_folder)) == list(read_draws(whole.run_folder))
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_train_resumes_on_another_number_of_processes(
    config_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    """Two processes of a sharded model, then one, then two."""
    model = config_tree["model"]["config"] | {"attention_dropout": 0.0}
    calm = config_tree | {"model": {"config": model}}
    one = run(calm, run_folder=str(tmp_path / "one"))
    tree = calm | {"fsdp": {"version": 2}, "checkpoint": {"every": "0ba", "asynchronous": True}}
    config = write_config(tree)
    for step, size in ((4, 2), (8, 1)):
        ended = run_ranks(size, stop_at_third_step, config, limit_seconds=200)
        assert ended == ["SystemExit: 143"] * size
        newest = newest_checkpoint(tmp_path / "run")
        assert newest == checkpoint_path(tmp_path / "run", step, in_parts=True)
        assert len(list(newest.glob("*.distcp"))) == size
    end = two_processes(config)
    assert losses(end["run_folder"]) == pytest.approx(losses(one.run_folder), abs=1e-4)
    average, other = (tensors_of(c)["average"] for c in (one.checkpoint, end["checkpoint"]))
    assert all(torch.allclose(average[name], other[name], atol=1e-4) for name in average)
    both = zip(read_draws(one.run_folder), read_draws(end["run_folder"]), strict=True)
    assert all(sorted(a) == sorted(b) for (_, a), (_, b) in both)
    figures = evaluate(load_model(end["run_folder"]))
    assert figures["loss"]["observed"]["all"] == pytest.approx(one.losses["eval"], abs=1e-4)
