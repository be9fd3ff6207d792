"""Conversations that the chat template rejects: no loss, a line in rejected.jsonl, no end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_runs import Stopped, Tree, crash_at, losses, run, two_processes
from typer.testing import CliRunner

from ixt_data.cli import build
from ixt_data.conversation import canonical_text
from ixt_data.errors import ConfigError, TrainingError
from ixt_data.ingestion import ingest
from ixt_data.store.store import Store
from ixt_train.conditioning import build_conditioner, load_tokenizer
from ixt_train.config.train_config import load_train_config
from ixt_train.evaluation.held_out import evaluate
from ixt_train.inference.loaded_model import load_model
from ixt_train.runs.draws import read_draws
from ixt_train.runs.metrics import read_metrics
from ixt_train.runs.rejections import count_rejections
from ixt_train.stream.packing import Collator
from ixt_train.stream.replay import Replay
from ixt_train.trainer.objective import count_rows, count_tokens

ALTERNATE = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ '<|' + m['role'] + '|>' }}"
    "{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

IS_REJECTED = "n_chars > 110"
ANSWER = {"role": "assistant", "content": "1"}


@pytest.fixture
def talks(tmp_path: Path) -> Callable[[int, int], Tree]:
    """A train config of some conversations, of which every n-th has two questions in a row."""

    def build_tree(documents: int, every: int) -> Tree:
        lines = []
        for n in range(documents):
            talk = [{"role": "user", "content": f"{n} + 1 ="}]
            talk += talk * (n % every == 0)
            talk.append({"role": "assistant", "content": f"{n + 1}"})
            lines.append(json.dumps({"messages": talk}))
        (tmp_path / "talks.jsonl").write_text("\n".join(lines))
        store = Store.init(tmp_path / "store")
        ingest(store, "talks", [tmp_path / "talks.jsonl"])
        (tmp_path / "alternate.jinja").write_text(ALTERNATE)
        mix = {"store": str(store.root), "condition": {"kind": "none"}}
        return {"mix": mix, "stage": "sft", "sft": {"template": str(tmp_path / "alternate.jinja")}}

    return build_tree


@pytest.fixture
def sft_tree(config_tree: Tree, talks: Callable[[int, int], Tree]) -> Tree:
    tree = config_tree | talks(60, 3) | {"duration": "16ba", "packing": "best_fit"}
    tree["tokenizer"] = {"train": {"kind": "bpe", "vocab_size": 300}}
    tree["eval"] = {"every": "6ba", "samples": 8}
    return tree


def rejected_of(folder: str | Path) -> list[Tree]:
    lines = (Path(folder) / "rejected.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def rejected_documents(store: str) -> set[str]:
    sql = f"SELECT doc_id FROM documents WHERE {IS_REJECTED}"
    return {str(name) for (name,) in Store.open(store).sql(sql).fetchall()}


def test_rejected_conversations_are_counted_and_recorded_once(
    sft_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(sft_tree, run_folder=str(tmp_path / "whole"))
    rows = rejected_of(whole.run_folder)
    bad = rejected_documents(sft_tree["mix"]["store"])
    drawn = {name for _, names in read_draws(whole.run_folder) for name in names}
    assert {row["doc_id"] for row in rows} == bad & drawn
    assert len(rows) == whole.rejected > 5
    assert all("user, user, assistant: roles must alternate" in row["reason"] for row in rows)
    metrics = [row for row in read_metrics(whole.run_folder) if "loss" in row]
    assert metrics[-1]["rejected"] == whole.rejected
    for step in (1, 16):
        samples = Replay(Path(whole.run_folder)).batch(step)["samples"]
        assert {s["doc_id"] for s in samples if "rejected" in s} == bad & {
            s["doc_id"] for s in samples
        }
    with monkeypatch.context() as patch:
        crash_at(10, patch)
        with pytest.raises(Stopped):
            run(sft_tree)
    # A crash after the records of later steps, in the middle of a line.
    file = tmp_path / "run" / "rejected.jsonl"
    file.write_text(file.read_text() + json.dumps(rows[-1] | {"step": 9}) + '\n{"doc')
    resumed = run(sft_tree)
    assert losses(resumed.run_folder) == losses(whole.run_folder)
    assert rejected_of(resumed.run_folder) == rows
    figures = evaluate(load_model(resumed.run_folder))
    assert figures["rejected"] > 0
    assert figures["documents"]["all"] > 0
    assert figures["loss"]["none"]["all"] == pytest.approx(whole.losses["eval"], abs=1e-6)


def test_rejected_conversations_have_no_effect_on_the_weights(sft_tree: Tree) -> None:
    """A batch of rejected conversations alone has no loss."""
    folder = Path(run(sft_tree, duration="1ba").run_folder)
    config = load_train_config(folder / "config.yaml")
    tokenizer = load_tokenizer(folder / "tokenizer")
    conditioner = build_conditioner(config, tokenizer, Replay(folder).plan.mix.condition)
    encoded = conditioner.encode_or_reject(
        canonical_text([*[{"role": "user", "content": "a"}] * 2, ANSWER])
    )
    assert encoded.rejected
    sample = {"input_ids": encoded.input_ids, "loss_weights": encoded.loss_weights}
    batch = Collator(0, 8)([sample | {"doc_id": bytes(16), "rejected": encoded.rejected}])
    assert batch["rejected"] == [[(bytes(16), encoded.rejected)]]
    assert not torch.any(batch["loss_weights"])
    assert count_tokens(count_rows(batch))["total"] == 2


def test_train_with_only_rejected_conversations_fails(
    config_tree: Tree, talks: Callable[[int, int], Tree]
) -> None:
    tree = config_tree | talks(40, 1) | {"eval": {"samples": 0}}
    with pytest.raises(ConfigError, match=r"all of 64 conversations .* roles must alternate"):
        run(tree)


def test_train_whose_draws_are_all_rejected_fails_at_its_end_and_again(
    sft_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check before the start sees only some of the draws."""
    from ixt_train.trainer import setup

    monkeypatch.setattr(setup, "check_targets", lambda *_: None)
    sft_tree["mix"] |= {"selections": [{"name": "bad", "where": IS_REJECTED}]}
    for _ in range(2):
        with pytest.raises(TrainingError, match="every conversation was rejected"):
            run(sft_tree)


def test_token_budget_counts_rejected_conversations_as_they_are_drawn(sft_tree: Tree) -> None:
    result = run(sft_tree, duration="1500tok", eval={"samples": 0})
    assert result.rejected > 0
    assert abs(result.tokens - 1500) < 8 * 20


@pytest.mark.slow
def test_two_processes_record_the_rejections_of_both(
    sft_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    one = run(sft_tree, run_folder=str(tmp_path / "one"))
    two = two_processes(write_config(sft_tree))
    assert two["rejected"] == one.rejected
    by_name: list[Any] = [
        sorted((row["doc_id"], row["step"]) for row in rejected_of(folder))
        for folder in (one.run_folder, two["run_folder"])
    ]
    assert by_name[0] == by_name[1]


def test_megatron_export_leaves_rejected_conversations_out(sft_tree: Tree, tmp_path: Path) -> None:
    result = run(sft_tree, duration="1ba")
    command = ["export", str(tmp_path / "out"), "--format", "megatron", "-O", "stage=sft", "-O",
               f"tokenizer={result.run_folder}/tokenizer", "--store", sft_tree["mix"]["store"],
               "--output", "json"]  # fmt: skip
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["sequences"], report["rejected"]) == (40, 20)
    assert len(rejected_of(tmp_path / "out")) == 20
    none = CliRunner().invoke(build(), [*command, "--overwrite", "--where", IS_REJECTED])
    assert none.exit_code == 1
    assert "all of 20 samples are rejected" in str(none.exception)


def test_rejections_of_a_run_without_any_are_0(tmp_path: Path) -> None:
    assert count_rejections(tmp_path) == 0
