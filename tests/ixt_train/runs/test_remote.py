"""Checkpoints on S3, over the wire: there once they are whole, and back on another machine."""

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from answered_prompts import preference_tree, write_model, write_store
from moto_server import s3_server
from train_runs import Stopped, crash_at, run

from ixt_data.config import validate
from ixt_data.errors import ConfigError, FingerprintError
from ixt_train.config.train_config import TrainConfig
from ixt_train.runs.checkpoints import delete_checkpoint, list_checkpoints
from ixt_train.runs.draws import read_draws
from ixt_train.runs.metrics import read_metrics

Tree = dict[str, Any]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture
def remote(bucket: str) -> str:
    return f"{bucket}/{uuid.uuid4().hex}"


def keys(root: str) -> list[str]:
    name, _, prefix = root.removeprefix("s3://").partition("/")
    found = boto3.client("s3").list_objects_v2(Bucket=name, Prefix=f"{prefix}/")
    return sorted(item["Key"].removeprefix(f"{prefix}/") for item in found.get("Contents", []))


def checkpoints(root: str) -> list[int]:
    return sorted({int(key.split("/")[1][2:11]) for key in keys(root) if "checkpoints/" in key})


@pytest.mark.parametrize("asynchronous", [False, True])
def test_remote_run_resumes_on_another_machine(
    config_tree: Tree,
    remote: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asynchronous: bool,
) -> None:
    whole = run(config_tree, run_folder=str(tmp_path / "whole"))
    settings = {"every": "4ba", "keep": 2, "remote": remote, "asynchronous": asynchronous}
    there = {"checkpoint": settings}
    with monkeypatch.context() as patch:
        crash_at(10, patch)
        with pytest.raises(Stopped):
            run(config_tree, **there)
    assert checkpoints(remote) == [4, 8]
    assert {"fingerprint.json", "config.yaml", "versions.json", "metrics.jsonl"} <= set(
        keys(remote)
    )
    assert not any(key.startswith(("cache/", "tensorboard/")) for key in keys(remote))
    # Another machine: nothing of it is here, nor anything of the last steps' records.
    shutil.rmtree(config_tree["run_folder"])
    resumed = run(config_tree, **there)
    assert resumed.losses == whole.losses
    assert list(read_draws(resumed.run_folder)) == list(read_draws(whole.run_folder))
    rows = read_metrics(Path(resumed.run_folder) / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 13))
    assert checkpoints(remote) == [8, 12]
    # A third one has the end without training, and its own older copy does not count.
    delete_checkpoint(list_checkpoints(Path(resumed.run_folder))[0])
    assert run(config_tree, **there).losses == whole.losses


def test_remote_preference_run_resumes_with_its_pairs_and_initial_weights(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_store(tmp_path)
    write_model(tmp_path / "model")
    tree = preference_tree(store, tmp_path / "model", tmp_path / "run")
    whole = run(tree, run_folder=str(tmp_path / "whole"))
    there = {"checkpoint": {"every": "2ba", "remote": remote}}
    with monkeypatch.context() as patch:
        crash_at(5, patch)
        with pytest.raises(Stopped):
            run(tree, **there)
    assert {"pairs.arrow", "start/model.safetensors", "start/config.json"} <= set(keys(remote))
    shutil.rmtree(tree["run_folder"])
    shutil.rmtree(tree["model"]["path"])
    there |= {"tokenizer": {"path": str(tmp_path / "whole" / "tokenizer")}}
    assert run(tree, **there).losses == whole.losses


def test_remote_run_starts_a_later_stage(config_tree: Tree, remote: str, tmp_path: Path) -> None:
    first = run(config_tree, checkpoint={"remote": remote})
    shutil.rmtree(first.run_folder)
    tree = config_tree | {"model": None, "tokenizer": None, "stage": "midtrain"}
    start = {"checkpoint": remote, "optimizer": "keep"}
    second = run(tree, start=start, run_folder=str(tmp_path / "second"), duration="2ba")
    known = json.loads((Path(second.run_folder) / "fingerprint.json").read_text())
    assert (known["start.step"], known["start.plan"]) == (12, first.digest)
    missing = {"checkpoint": f"{remote}/nothing"}
    with pytest.raises(ConfigError, match="no train run found"):
        run(tree, start=missing, run_folder=str(tmp_path / "third"))


def test_remote_with_another_train_run_raises_without_overwrite(
    config_tree: Tree, remote: str, tmp_path: Path
) -> None:
    there = {"checkpoint": {"remote": remote}, "duration": "2ba"}
    run(config_tree, **there)
    other = config_tree | there | {"run_folder": str(tmp_path / "other"), "seed": 5}
    with pytest.raises(FingerprintError, match=rf"{remote}.*seed was 17, is now 5"):
        run(other)
    assert not (tmp_path / "other").exists()
    train_again = validate(TrainConfig, other, "test")
    from ixt_train.trainer.training import train

    train(train_again, overwrite=True)
    name, _, prefix = remote.removeprefix("s3://").partition("/")
    body = boto3.client("s3").get_object(Bucket=name, Key=f"{prefix}/fingerprint.json")["Body"]
    assert json.loads(body.read())["seed"] == 5


def test_remote_that_is_unreachable_raises_before_training(config_tree: Tree, bucket: str) -> None:
    nowhere = {"checkpoint": {"remote": "s3://no-such-bucket/x"}}
    with pytest.raises(Exception, match="NoSuchBucket"):
        run(config_tree, **nowhere)
    with pytest.raises(ConfigError, match=r"checkpoint\.remote"):
        run(config_tree, checkpoint={"remote": "/mnt/disk"})
