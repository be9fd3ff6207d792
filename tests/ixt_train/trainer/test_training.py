"""Train runs, whole: records, resumes, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_disk import run_on_small_disk
from train_runs import Stopped, Tree, crash_at, losses, run, two_processes
from typer.testing import CliRunner

from ixt_data.cli import build
from ixt_data.config import validate
from ixt_data.console import Output, OutputMode
from ixt_data.errors import ConfigError, CorruptError, FingerprintError
from ixt_data.ingestion import ingest
from ixt_data.store import Store
from ixt_train.config.train_config import TrainConfig
from ixt_train.evaluation.held_out import evaluate
from ixt_train.inference.loaded_model import load_model
from ixt_train.runs.checkpoints import (
    averaged_weights,
    checkpoint_path,
    checkpoint_step,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
)
from ixt_train.runs.draws import read_draws
from ixt_train.runs.metrics import read_metrics
from ixt_train.trainer.callbacks import HookCallback
from ixt_train.trainer.training import TrainResult, train

LARGE = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 512,
         "num_hidden_layers": 2, "num_attention_heads": 2}  # fmt: skip


def test_train_run_writes_all_records(config_tree: Tree) -> None:
    result = run(config_tree)
    folder = Path(result.run_folder)
    assert (result.steps, result.samples) == (12, 96)
    assert result.tokens > 96 * 40
    assert set(result.tasks) == {"sums"}
    assert json.loads((folder / "plan.json").read_text())["digest"] == result.digest
    assert json.loads((folder / "feedback.json").read_text())["best"]["score"] == 1.0
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.yaml", "mix.yaml", "tokenizer", "versions.json", "metrics.jsonl"}
    assert list((folder / "tensorboard").rglob("events.*"))
    rows = read_metrics(folder / "metrics.jsonl")
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 13))
    assert [row["step"] for row in rows if "eval" in row] == [6, 12]
    assert result.losses["train"] == rows[-2]["loss"]
    # One step, one batch: every document of it is on record.
    draws = list(read_draws(folder))
    assert [step for step, _ in draws] == steps
    assert all(len(doc_ids) == 8 for _, doc_ids in draws)
    # `keep` is 2; the newest is the end.
    assert [checkpoint_step(path) for path in list_checkpoints(folder)] == [12, 8]
    assert result.checkpoint == str(checkpoint_path(folder, 12))


def test_cache_folder_of_the_config_is_used(config_tree: Tree, tmp_path: Path) -> None:
    cache = {"folder": str(tmp_path / "disk"), "max_bytes": 1 << 30}
    result = run(config_tree, duration="2ba", cache=cache)
    assert (tmp_path / "disk").is_dir()
    assert not list((tmp_path / "disk").rglob("*.mds"))
    assert not (Path(result.run_folder) / "cache").exists()


def test_train_again_returns_the_result_without_training(config_tree: Tree) -> None:
    first = run(config_tree)
    before = (Path(first.run_folder) / "metrics.jsonl").read_bytes()
    assert run(config_tree) == first
    assert (Path(first.run_folder) / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("packing", ["pad", "concat"])
def test_train_after_a_crash_gives_the_same_losses(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    whole = run(config_tree, run_folder=str(tmp_path / "whole"), packing=packing)
    with monkeypatch.context() as patch:
        crash_at(7, patch)
        with pytest.raises(Stopped):
            run(config_tree, packing=packing)
    resumed = run(config_tree, packing=packing)
    assert resumed.losses == whole.losses
    assert list(read_draws(resumed.run_folder)) == list(read_draws(whole.run_folder))
    assert weights(resumed) == weights(whole)
    rows = read_metrics(Path(resumed.run_folder) / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 13))


def weights(result: TrainResult) -> dict[str, list[float]]:
    model = load_model(result.run_folder).model
    return {name: p.flatten().tolist() for name, p in model.named_parameters()}


def test_train_with_a_broken_latest_checkpoint_uses_the_previous_one(config_tree: Tree) -> None:
    first = run(config_tree)
    newest = Path(first.checkpoint)
    newest.write_bytes(newest.read_bytes()[:1000])
    assert newest_checkpoint(Path(first.run_folder)) == checkpoint_path(newest.parent.parent, 8)
    assert run(config_tree).losses == first.losses


def test_train_with_another_config_or_mix_raises(config_tree: Tree) -> None:
    run(config_tree)
    with pytest.raises(FingerprintError, match=r"optimizer.lr was 0.003, is now 0.01"):
        run(config_tree, optimizer={"lr": 1e-2})
    with pytest.raises(FingerprintError, match=r"plan.digest was"):
        run(config_tree, mix=config_tree["mix"] | {"seed": 3})


def test_train_run_without_a_step_is_replaced_by_another(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("ixt_train.trainer.training.Trainer", fail)
        with pytest.raises(Stopped):
            run(config_tree)
    fingerprint = Path(config_tree["run_folder"], "fingerprint.json")
    before = json.loads(fingerprint.read_text())
    changed = {"optimizer": {"lr": 1e-2}, "mix": config_tree["mix"] | {"seed": 3}}
    assert run(config_tree, **changed).steps == 12
    after = json.loads(fingerprint.read_text())
    assert {key for key in after if after[key] != before[key]} == {"optimizer.lr", "plan.digest"}
    with pytest.raises(FingerprintError):
        run(config_tree)


def test_checkpoint_on_a_full_disk_names_file_and_step(config_tree: Tree, tmp_path: Path) -> None:
    """The disk is full at the first checkpoint."""
    import yaml

    tree = config_tree | {"run_folder": "run", "model": {"config": LARGE}, "ema": None}
    tree |= {"eval": {"samples": 0}, "cache": {"folder": str(tmp_path / "cache")}}
    config = tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump(tree))
    program = (
        "import sys\nfrom ixt_train.config import load_train_config\n"
        "from ixt_train.trainer import train\n"
        f"train(load_train_config({str(config)!r}, [f'run_folder={{sys.argv[1]}}/run']))\n"
    )
    done = run_on_small_disk(tmp_path, program)
    assert "TrainingError" in done.stderr, done.stderr
    assert "checkpoints/ba000000004.pt: the checkpoint of step 4 could not be" in done.stderr


def test_missing_held_out_loss_is_explained(
    config_tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    """No token of a document is left behind its feedback."""
    tree = config_tree | {"max_length": 7, "packing": "best_fit", "split": "fill"}
    config = validate(TrainConfig, tree | {"duration": "1ba", "eval": {"samples": 4}}, "test")
    result = train(config, out=Output(OutputMode.text))
    assert result.losses["eval"] is None
    assert "no held-out loss: with max_length 7, no token" in capsys.readouterr().err


def test_train_resumes_after_others_commit(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = config_tree | {"duration": "5_000tok"}
    whole = run(tree, run_folder=str(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        crash_at(7, patch)
        with pytest.raises(Stopped):
            run(tree)
    store = Store.open(config_tree["mix"]["store"])
    before = store.snapshot().version
    (tmp_path / "late.txt").write_text("A document that came late. " * 20)
    ingest(store, "late", [tmp_path / "late.txt"])
    latest = store.snapshot().version
    assert latest > before

    def refuse(*_: object) -> float:
        raise AssertionError("steps were derived again")

    with monkeypatch.context() as patch:
        patch.setattr("ixt_train.trainer.setup.mean_length", refuse)
        resumed = run(tree)
    assert (resumed.losses, resumed.steps) == (whole.losses, whole.steps)
    assert resumed.snapshot == before
    pinned = run(tree, mix=config_tree["mix"] | {"snapshot": before})
    assert pinned == resumed
    with pytest.raises(FingerprintError, match=rf"version {latest}, .* version {before}") as raised:
        run(tree, mix=config_tree["mix"] | {"snapshot": latest})
    assert "--overwrite" not in str(raised.value)


def test_micro_batches_do_not_change_the_loss(config_tree: Tree, tmp_path: Path) -> None:
    calm = config_tree | {
        "model": {"config": config_tree["model"]["config"] | {"attention_dropout": 0.0}}
    }
    whole = run(calm, run_folder=str(tmp_path / "whole"))
    split = run(calm, run_folder=str(tmp_path / "split"), microbatch_size=3)
    assert split.losses["train"] == pytest.approx(whole.losses["train"], abs=1e-5)


def test_checkpoint_pickle_with_code_raises(config_tree: Tree, tmp_path: Path) -> None:
    result = run(config_tree)
    bad = Path(result.checkpoint)
    torch.save({"state": print}, bad)
    with pytest.raises(CorruptError, match="its pickle requires"):
        read_checkpoint(bad)


def test_vocabulary_that_is_too_small_raises(config_tree: Tree) -> None:
    with pytest.raises(ConfigError, match="vocab_size: 12 is too small"):
        run(config_tree, tokenizer={"train": {"kind": "words", "vocab_size": 12}})


def test_evaluate_a_run_folder_gives_the_metrics_of_its_end(config_tree: Tree) -> None:
    result = run(config_tree)
    figures = evaluate(load_model(result.run_folder))
    assert figures["loss"]["observed"]["all"] == pytest.approx(result.losses["eval"], abs=1e-6)
    assert {row["task"]: row["exact_match"] for row in figures["tasks"]} == result.tasks


def test_holdout_without_a_document_is_reported(
    config_tree: Tree, write_config: Callable[[Tree], Path]
) -> None:
    tree = config_tree | {"duration": "1ba", "holdout": 1e-9, "eval": {"samples": 4}}
    done = CliRunner().invoke(build(), ["train", str(write_config(tree))])
    said = " ".join(done.output.split())
    assert done.exit_code == 0, said
    assert "no held-out loss: holdout 1e-09 holds out no document of a corpus this small" in said
    with pytest.raises(ConfigError, match=r"nothing to measure: .* or give --task or --lm-eval"):
        evaluate(load_model(tree["run_folder"]))


def test_settings_that_need_a_gpu_raise_on_a_cpu(config_tree: Tree) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="precision: amp_fp16 needs a GPU"):
        run(config_tree, precision="amp_fp16")
    with pytest.raises(ConfigError, match=r"fsdp: .* needs a GPU"):
        run(config_tree, ema=None, fsdp={"sharding_strategy": "FULL_SHARD"})
    with pytest.raises(ConfigError, match=r"data_parallel_replicate_degree: .* no average"):
        run(config_tree, fsdp={"version": 2, "data_parallel_replicate_degree": 2})
    with pytest.raises(ConfigError, match=r"fsdp: .*sharding_strategie"):
        run(config_tree, ema=None, fsdp={"version": 2, "sharding_strategie": "FULL_SHARD"})


def test_span_tags_get_tokens(config_tree: Tree) -> None:
    mix = config_tree["mix"] | {"condition": {"kind": "spans", "loss_by_verdict": {"right": 10}}}
    result = run(config_tree, mix=mix)
    tokens = set(load_model(result.run_folder).tokenizer.get_vocab())
    assert any(token.startswith("<|flaw:") for token in tokens)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [None, {"version": 2}])
def test_train_with_two_processes_equals_one(
    config_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path], fsdp: Tree | None
) -> None:
    model = config_tree["model"]["config"] | {"attention_dropout": 0.0}
    calm = config_tree | {"model": {"config": model}}
    one = run(calm, run_folder=str(tmp_path / "one"))
    config = write_config(calm | {"fsdp": fsdp})
    two = two_processes(config)
    assert losses(two["run_folder"]) == pytest.approx(losses(one.run_folder), abs=1e-4)
    assert two["losses"]["eval"] == pytest.approx(one.losses["eval"], abs=1e-4)
    assert two["tasks"] == pytest.approx(one.tasks)
    average, other = (
        averaged_weights(read_checkpoint(Path(p))) for p in (one.checkpoint, two["checkpoint"])
    )
    assert average.keys() == other.keys()
    assert all(torch.allclose(average[name], other[name], atol=1e-4) for name in average)
    both = zip(read_draws(one.run_folder), read_draws(two["run_folder"]), strict=True)
    assert all(sorted(a) == sorted(b) for (_, a), (_, b) in both)
    if fsdp is None:
        return
    # One file, which resumes the parts and is evaluated whole.
    Path(two["checkpoint"]).unlink()
    assert two_processes(config)["losses"] == pytest.approx(two["losses"], abs=1e-4)
    figures = evaluate(load_model(two["run_folder"]))
    assert figures["loss"]["observed"]["all"] == pytest.approx(one.losses["eval"], abs=1e-4)


@pytest.mark.slow
def test_train_after_sigkill_resumes_exactly(
    config_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    tree = config_tree | {"duration": "60ba", "checkpoint": {"every": "8ba"}}
    whole = run(tree, run_folder=str(tmp_path / "whole"))
    command = [sys.executable, "-m", "ixt_train", str(write_config(tree)), "--output", "json"]
    quiet = {"stdout": subprocess.PIPE, "text": True, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    killed = subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]
    metrics = tmp_path / "run" / "metrics.jsonl"
    while (last := ([0] + [row["step"] for row in read_metrics(metrics)])[-1]) < 20:
        assert killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert last < 60
    done = subprocess.run(command, check=True, **quiet)
    record = json.loads(done.stdout)
    assert record["losses"]["train"] == pytest.approx(whole.losses["train"], abs=1e-6)
    assert list(read_draws(tmp_path / "run")) == list(read_draws(tmp_path / "whole"))


def test_train_run_stops_at_its_threshold_and_resumes(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(config_tree, run_folder=str(tmp_path / "whole"))
    stop = {"metric": "loss.observed.all", "threshold": 100.0}
    with monkeypatch.context() as patch:
        crash_at(5, patch)
        with pytest.raises(Stopped):
            run(config_tree, stop=stop)
    stopped = run(config_tree, stop=stop)
    assert stopped.steps == 6
    assert checkpoint_step(Path(stopped.checkpoint)) == 6
    before = (Path(stopped.run_folder) / "metrics.jsonl").read_bytes()
    assert run(config_tree, stop=stop) == stopped
    assert (Path(stopped.run_folder) / "metrics.jsonl").read_bytes() == before
    longer = run(config_tree, stop={"metric": "tasks.sums", "threshold": 2.0})
    assert longer.steps == 12
    assert longer.losses == whole.losses
    assert weights(longer) == weights(whole)
    with pytest.raises(ConfigError, match=r"no metric 'tasks\.none'; .*tasks\.sums"):
        run(
            config_tree,
            run_folder=str(tmp_path / "x"),
            stop={"metric": "tasks.none", "threshold": 1},
        )


def test_train_changes_nothing_of_the_process(config_tree: Tree) -> None:
    def state() -> dict[str, object]:
        return {
            "environment": dict(os.environ),
            "folder": Path.cwd(),
            "streams": (sys.stdin, sys.stdout, sys.stderr),
            "threads": torch.get_num_threads(),
            "umask": (mask := os.umask(0o77), os.umask(mask))[0],
            "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
            "types": set(torch.serialization.get_safe_globals()),
        }

    before, during = state(), []

    def note() -> None:
        during.append((Path.cwd(), sys.stdout))

    callback = HookCallback(note, note)
    tree = config_tree | {"duration": "2ba", "threads": torch.get_num_threads() + 1}
    train(validate(TrainConfig, tree, "test"), callbacks=[callback])
    assert state() == before
    assert during == [(before["folder"], sys.stdout)] * 3


def test_max_length_that_feedback_fills_is_refused_before_training(config_tree: Tree) -> None:
    with pytest.raises(ConfigError, match=r"max_length: with 4 tokens, \d+% of 64 samples"):
        run(config_tree, max_length=4)
    assert not (Path(config_tree["run_folder"]) / "metrics.jsonl").exists()


def test_batch_without_a_target_has_no_gradient(config_tree: Tree) -> None:
    mix = config_tree["mix"] | {"condition": {"kind": "both", "dropout": 0.5, "cooldown": 0}}
    tree = config_tree | {"mix": mix, "global_batch_size": 1, "duration": "12ba", "max_length": 9}
    assert 0.0 in (run(tree) and losses(tree["run_folder"]))
