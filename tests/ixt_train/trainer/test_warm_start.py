"""Stages: a train run that starts from another, cooldowns, conversations, and repetition."""

import json
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.config import validate
from ixt_data.conversation import parse_conversation
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critics.chunked import ChunkedCritic, ChunkOptions
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import ConfigError, FingerprintError
from ixt_data.ingestion import ingest
from ixt_data.records import Critique, Document
from ixt_data.store.store import Store
from ixt_train.config.train_config import TrainConfig, load_train_config
from ixt_train.inference.loaded_model import load_model
from ixt_train.runs.checkpoints import averaged_weights, checkpoint_path, read_checkpoint
from ixt_train.runs.draws import read_draws
from ixt_train.runs.metrics import read_metrics
from ixt_train.stream.replay import Replay
from ixt_train.trainer.training import TrainResult, train

Tree = dict[str, Any]


class Truth(EmbeddedCritic):
    """Judges answers of one number: right where it is even."""

    name = "truth"

    def config(self) -> dict[str, Any]:
        return {}

    def judge(self, document: Document) -> Critique:
        right = int(document.text.split()[-1]) % 2 == 0
        said = "every step is correct" if right else "is wrong"
        return Critique(document.doc_id, critique=said, score=float(right))


@pytest.fixture(scope="session")
def talks(sums: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of sums, with a corpus of conversations whose turns were judged."""
    root = tmp_path_factory.mktemp("talks") / "store"
    shutil.copytree(sums / "store", root)
    lines = []
    for n in range(40):
        talk = [
            {"role": "user", "content": f"{n} + 1 ="},
            {"role": "assistant", "content": f"{n + 1}"},
            {"role": "user", "content": "+ 2 ="},
            {"role": "assistant", "content": f"{n + 4 - n % 2}"},
        ]
        lines.append(json.dumps({"messages": talk}))
    path = root.parent / "talks.jsonl"
    path.write_text("\n".join(lines))
    store = Store.open(root)
    ingest(store, "talks", [path])
    annotate(store, "talks", ChunkedCritic(Truth(), ChunkOptions("turn")))
    return root


@pytest.fixture
def chain(config_tree: Tree, talks: Path, tmp_path: Path) -> Callable[..., Tree]:
    """The train configs of three stages, one after the other."""
    config_tree["mix"] |= {"store": str(talks), "corpus": "sums"}
    config_tree |= {"duration": "6ba", "checkpoint": {"every": "3ba"}}
    before = {"model": None, "tokenizer": None}

    def stage(name: str, **changes: Any) -> Tree:
        tree = config_tree | {"run_folder": str(tmp_path / name)}
        if name == "midtrain":
            tree |= before | {"stage": name, "start": {"checkpoint": str(tmp_path / "pretrain")}}
            tree["mix"] = tree["mix"] | {"seed": 5}
        if name == "sft":
            tree |= before | {"stage": name, "start": {"checkpoint": str(tmp_path / "midtrain")}}
            tree["mix"] = tree["mix"] | {"corpus": "talks", "critic": "truth"}
            tree["eval"] = {"samples": 4}
        return tree | changes

    return stage


def run(tree: Tree) -> TrainResult:
    return train(validate(TrainConfig, tree, "test"))


def state_of(result: TrainResult | Path) -> Tree:
    path = result if isinstance(result, Path) else Path(result.checkpoint)
    return read_checkpoint(path)["state"]


def moments(state: Tree) -> Tree:
    return state["optimizers"]["AdamW"]["state"]


HEAD = "model.lm_head.weight"


def test_start_with_optimizer_keep_continues_exactly(chain: Any) -> None:
    first = run(chain("pretrain"))
    start = {"checkpoint": first.run_folder, "optimizer": "keep"}
    still = {"lr": 1e-12, "weight_decay": 0.0}
    second = run(chain("midtrain", start=start, optimizer=still, grad_clip=None))
    before, after = state_of(first), state_of(second)
    for name, weight in before["model"].items():
        assert torch.allclose(after["model"][name], weight, atol=1e-9)
    # AdamW's clock continues, and its settings are the new ones.
    assert moments(before)[HEAD]["step"] == 6
    assert moments(after)[HEAD]["step"] == 12
    assert after["optimizers"]["AdamW"]["param_groups"][0]["weight_decay"] == 0.0
    # The average continues after 6 steps; a new one would keep 0.0001 of the way.
    average = averaged_weights({"state": after})["lm_head.weight"]
    old = averaged_weights({"state": before})["lm_head.weight"]
    weight = before["model"][HEAD]
    left = prod(step / (step + 10) for step in range(7, 13))
    assert (average - weight).norm() / (old - weight).norm() == pytest.approx(left, rel=1e-3)


@pytest.mark.slow
def test_start_with_fsdp_continues_from_a_complete_optimizer(
    chain: Any, write_config: Callable[[Tree], Path]
) -> None:
    """FSDP: each process takes its part of the moments, and trains as one process does."""
    from train_runs import losses, two_processes

    model = chain("pretrain")["model"]["config"] | {"attention_dropout": 0.0}
    first = run(chain("pretrain", model={"config": model}, ema=None))
    keep = {"start": {"checkpoint": first.run_folder, "optimizer": "keep"}, "ema": None}
    one = run(chain("midtrain", **keep))
    folder = f"{one.run_folder}-parts"
    two = two_processes(
        write_config(chain("midtrain", **keep, run_folder=folder, fsdp={"version": 2}))
    )
    assert losses(two["run_folder"]) == pytest.approx(losses(one.run_folder), abs=1e-4)
    ours, theirs = (moments(state_of(Path(r))) for r in (one.checkpoint, two["checkpoint"]))
    assert theirs[HEAD]["step"] == ours[HEAD]["step"] == 12
    assert torch.allclose(theirs[HEAD]["exp_avg"], ours[HEAD]["exp_avg"], atol=1e-4)


def test_start_with_optimizer_fresh_uses_the_evaluated_weights(chain: Any) -> None:
    first = run(chain("pretrain"))
    still = {"lr": 1e-12, "weight_decay": 0.0}
    second = run(chain("midtrain", optimizer=still))
    old = averaged_weights({"state": state_of(first)})["lm_head.weight"]
    after = state_of(second)
    assert torch.allclose(after["model"][HEAD], old, atol=1e-9)
    assert moments(after)[HEAD]["step"] == 6
    known = json.loads((Path(second.run_folder) / "fingerprint.json").read_text())
    assert known["start.step"] == 6
    assert known["start.plan"] == first.digest
    assert known["start.optimizer"] == "fresh"


def test_cooldown_without_feedback_keeps_the_optimizer(chain: Any, tmp_path: Path) -> None:
    """Within a train run, and as a stage of its own."""
    tree = chain("pretrain", run_folder=str(tmp_path / "within"))
    tree["mix"] = tree["mix"] | {"condition": {"kind": "both", "dropout": 0, "cooldown": 0.5}}
    within = run(tree)
    replay = Replay(within.run_folder)
    given = [[s["has_feedback"] for s in replay.batch(step)["samples"]] for step in (3, 4)]
    assert (all(given[0]), any(given[1])) == (True, False)
    middle = moments(state_of(checkpoint_path(Path(within.run_folder), 3)))[HEAD]
    end = moments(state_of(within))[HEAD]
    assert (int(middle["step"]), int(end["step"])) == (3, 6)
    # Three steps of beta2 0.95 leave more than 0.85 of the second moment.
    assert (end["exp_avg_sq"] >= 0.85 * middle["exp_avg_sq"]).all()
    first = run(chain("pretrain"))
    plain = {"condition": {"kind": "none"}}
    start = {"checkpoint": first.run_folder, "optimizer": "keep"}
    cooled = chain("midtrain", start=start, duration="3ba")
    apart = moments(state_of(run(cooled | {"mix": cooled["mix"] | plain})))[HEAD]
    assert int(apart["step"]) == 9
    assert (apart["exp_avg_sq"] >= 0.85 * moments(state_of(first))[HEAD]["exp_avg_sq"]).all()


def test_start_from_an_invalid_path_raises(chain: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"start\.checkpoint: .* is not a run folder"):
        run(chain("midtrain"))
    first = run(chain("pretrain"))
    second = run(chain("midtrain"))
    third = run(chain("midtrain") | {"run_folder": str(tmp_path / "third")})
    assert third.losses == second.losses
    early = {"checkpoint": str(checkpoint_path(Path(first.run_folder), 3))}
    with pytest.raises(FingerprintError, match=r"start\.step was 6, is now 3"):
        run(chain("midtrain", start=early))
    # What it started from is kept: the earlier train run may go.
    shutil.rmtree(first.run_folder)
    assert run(chain("midtrain")) == second
    shutil.rmtree(tmp_path / "midtrain" / "checkpoints")
    assert run(chain("midtrain")).losses == second.losses


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": None}, "model: give either model or start"),
        ({"model": {"config": {"model_type": "llama"}}}, "model: give either model or start"),
        ({"sft": {"feedback": "system"}}, "sft: the stage is midtrain"),
        ({"stage": "sft", "packing": "concat"}, "concat cuts conversations in two"),
    ],
)
def test_stage_with_missing_settings_raises(chain: Any, changes: Tree, said: str) -> None:
    with pytest.raises(ConfigError) as error_info:
        validate(TrainConfig, chain("midtrain", **changes), "test")
    assert said in str(error_info.value)


@pytest.mark.slow
@pytest.mark.e2e
def test_stages_chain_on_the_command_line(chain: Any, write_config: Callable[[Tree], Path]) -> None:
    results = {}
    for name in ("pretrain", "midtrain", "sft"):
        path = write_config(chain(name))
        done = CliRunner().invoke(build(), ["train", str(path), "--output", "json"])
        assert done.exit_code == 0, done.output
        results[name] = json.loads(done.stdout)
    assert all(r["steps"] == 6 for r in results.values())
    folder = Path(results["sft"]["run_folder"])
    known = json.loads((folder / "fingerprint.json").read_text())
    assert (known["start.stage"], known["start.plan"]) == (
        "midtrain",
        results["midtrain"]["digest"],
    )
    # Role tokens are new to the tokenizer, and the model has embeddings for them.
    earlier, trained = (load_model(results[name]["run_folder"]) for name in ("pretrain", "sft"))
    assert len(trained.tokenizer) > len(earlier.tokenizer)
    assert trained.model.config.vocab_size == len(trained.tokenizer)
    sample = next(s for s in Replay(folder).batch(1)["samples"] if s["has_feedback"])
    rendered = trained.tokenizer.decode(sample["input_ids"])
    conversation = parse_conversation(sample["text"])
    assert conversation is not None
    answers = [conversation.messages[i]["content"] for i in conversation.turns]
    for answer in answers:
        score = "<|score_10|> every step is correct" if int(answer) % 2 == 0 else "<|score_0|>"
        assert f"<|feedback|> {score}" in rendered
        assert f"<|assistant|> {answer} <|eos|>" in rendered
    assert set(results["sft"]["losses"]) == {"train", "eval"}
    # Generation uses the feedback of training.
    done = CliRunner().invoke(
        build(), ["generate", str(folder), "--prompt", "3 + 1 =", "--output", "json"]
    )
    assert done.exit_code == 0, done.output


def test_sft_resumes_exactly_and_replays(
    chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train_runs import Stopped, crash_at

    first = run(chain("pretrain"))
    start = {"checkpoint": first.run_folder}
    tree = chain("sft", start=start, packing="best_fit", sft={"feedback": "system"})
    whole = run(tree | {"run_folder": str(tmp_path / "whole")})
    with monkeypatch.context() as patch:
        crash_at(5, patch)
        with pytest.raises(Stopped):
            run(tree)
    resumed = run(tree)
    assert resumed.losses == whole.losses
    assert list(read_draws(resumed.run_folder)) == list(read_draws(whole.run_folder))
    replay, recorded = Replay(whole.run_folder), dict(read_draws(whole.run_folder))
    for step in (1, 6):
        assert sorted(s["doc_id"] for s in replay.batch(step)["samples"]) == sorted(recorded[step])
    with pytest.raises(FingerprintError, match=r"sft\.feedback was 'system', is now 'turn'"):
        run(tree | {"sft": {"feedback": "turn"}})


def test_train_run_repeats_from_its_folder_alone(chain: Any, sums: Path, tmp_path: Path) -> None:
    """Moved elsewhere, its inputs gone; with a start, a trained tokenizer and a task."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    shutil.copy(sums / "held_out.jsonl", inputs / "task.jsonl")
    tasks = {"eval": {"samples": 4, "tasks": [{"name": "t", "path": str(inputs / "task.jsonl")}]}}
    first = run(chain("pretrain", **tasks))
    second = run(chain("midtrain", **tasks))
    shutil.rmtree(inputs)
    for name, result in (("pretrain", first), ("midtrain", second)):
        moved = tmp_path / "elsewhere" / name
        shutil.copytree(result.run_folder, moved)
        shutil.rmtree(result.run_folder)
        config = load_train_config(
            moved / "config.yaml", [f"run_folder={tmp_path / 'again' / name}"]
        )
        again = train(config)
        assert (again.losses, again.tasks) == (result.losses, result.tasks)
        rows = [read_metrics(f / "metrics.jsonl") for f in (moved, Path(again.run_folder))]
        losses = [[row["loss"] for row in own if "loss" in row] for own in rows]
        assert losses[0] == losses[1]
        known = [json.loads((f / "fingerprint.json").read_text()) for f in
                 (moved, Path(again.run_folder))]  # fmt: skip
        assert known[0] == known[1]


def test_weights_in_pickles_raise(chain: Any, tmp_path: Path) -> None:
    first = run(chain("pretrain"))
    model = load_model(first.run_folder)
    folder = tmp_path / "pickled"
    model.model.config.save_pretrained(folder)
    torch.save(model.model.state_dict(), folder / "pytorch_model.bin")
    tree = chain("pretrain", model={"path": str(folder)}, run_folder=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"model\.path: .* no \*\.safetensors"):
        run(tree)
    model.model.save_pretrained(folder)
    tree["tokenizer"] = {"path": f"{first.run_folder}/tokenizer"}
    result = run(tree)
    # Other weights are another train run.
    with torch.no_grad():
        model.model.lm_head.weight.zero_()
    model.model.save_pretrained(folder)
    with pytest.raises(FingerprintError, match=r"model\.weights was"):
        run(tree)
    shutil.rmtree(folder)
    assert run(tree) == result
