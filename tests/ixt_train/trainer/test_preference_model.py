"""Stage preference: the losses of TRL's DPOTrainer, rewards, exact resume, adapters, two ranks."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answered_prompts import preference_tree, write_model, write_store
from train_runs import Stopped, Tree, crash_at, losses, run, two_processes
from typer.testing import CliRunner

from ixt_data.cli import build
from ixt_data.errors import ConfigError, MixError
from ixt_data.records import parse_id
from ixt_data.store.store import Store
from ixt_train.conditioning import PairConditioner
from ixt_train.evaluation.held_out import evaluate
from ixt_train.inference.generation import generate
from ixt_train.inference.loaded_model import load_model
from ixt_train.inference.model_export import export_model
from ixt_train.runs.checkpoints import read_checkpoint
from ixt_train.runs.metrics import read_metrics
from ixt_train.stream.replay import Replay


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """A store of answers, and the folder of a model."""
    folder = tmp_path_factory.mktemp("answers")
    store = write_store(folder)
    write_model(folder / "model")
    return store, folder / "model"


@pytest.fixture
def tree(inputs: tuple[Store, Path], tmp_path: Path) -> Tree:
    return preference_tree(*inputs, tmp_path / "run")


END = "<|eos|>"
ROOT = Path(__file__).resolve().parents[3]


def pair_rows(folder: str | Path, key: str = "preference") -> list[Tree]:
    return [row[key] for row in read_metrics(Path(folder) / "metrics.jsonl") if key in row]


def drawn_pairs(folder: Path, steps: int) -> list[Tree]:
    """The pairs of some steps in the order of the plan, as TRL reads them."""
    replay = Replay(folder)
    pairs = []
    for step in range(1, steps + 1):
        for sample in replay.batch(step)["samples"]:
            *prompt, better = json.loads(sample["text"])["messages"]
            pairs.append(
                {"prompt": prompt, "chosen": [better], "rejected": [sample["worse_answer"]]}
            )
    return pairs


def losses_of_trl(model: Path, pairs: list[Tree], batch: int, **options: Any) -> list[float]:
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, dataset: Any = None) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    trainer = InOrder(
        AutoModelForCausalLM.from_pretrained(model),
        args=DPOConfig(
            str(model.parent / "trl"),
            per_device_train_batch_size=batch,
            max_steps=len(pairs) // batch,
            learning_rate=3e-3,
            lr_scheduler_type="constant",
            adam_beta1=0.9,
            adam_beta2=0.95,
            weight_decay=0.0,
            logging_steps=1,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            **options,
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    # Its log rounds to four digits.
    found: list[float] = []
    compute = trainer.compute_loss

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        loss = compute(*args, **kwargs)
        found.append(float(loss))
        return loss

    trainer.compute_loss = compute_loss
    trainer.train()
    return found


@pytest.mark.parametrize(
    "preference",
    [
        {"loss": "sigmoid", "beta": 0.3},
        {"loss": "robust", "beta": 0.1, "label_smoothing": 0.2},
        {"loss": "ipo", "beta": 0.5},
    ],
    ids=lambda preference: str(preference["loss"]),
)
def test_losses_are_those_of_trl(tree: Tree, preference: Tree) -> None:
    result = run(tree, preference=preference, duration="6ba", microbatch_size=4)
    options = {"loss_type": [preference["loss"]], "beta": preference["beta"]}
    options["label_smoothing"] = preference.get("label_smoothing", 0.0)
    pairs = drawn_pairs(Path(result.run_folder), 6)
    expected = losses_of_trl(Path(tree["model"]["path"]), pairs, 8, **options)
    assert losses(result.run_folder) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-2


@pytest.mark.parametrize("kind", ["none", "both"])
def test_the_loss_counts_the_last_answer_and_its_end(tree: Tree, kind: str) -> None:
    tree["mix"] = tree["mix"] | {"condition": {"kind": kind, "cooldown": 0.0}}
    result = run(tree, duration="1ba", eval={"samples": 0})
    replay = Replay(Path(result.run_folder))
    loaded = load_model(result.run_folder)
    tokenizer, observed = loaded.tokenizer, loaded.conditioner.observed
    conditioner = PairConditioner(
        tokenizer, replay.plan.mix.condition, observed, pairs=replay.pairs, max_length=96
    )
    for sample in replay.batch(1)["samples"]:
        encoded = conditioner.encode(sample["text"])
        both = [json.loads(sample["text"])["messages"]]
        both.append([*both[0][:-1], sample["worse_answer"]])
        prompts = []
        halves = (slice(encoded.worse_from), slice(encoded.worse_from, None))
        for messages, half in zip(both, halves, strict=True):
            ids, weights = encoded.input_ids[half], encoded.loss_weights[half]
            assert tokenizer.decode(ids[weights > 0]) == messages[-1]["content"] + END
            assert set(weights.tolist()) == {0.0, 1.0}
            prompts.append(ids[: np.argmax(weights > 0)].tolist())
            if kind == "none":
                expected = tokenizer.apply_chat_template(messages, return_dict=False)
                assert ids.tolist() == expected
        # The best feedback before both answers, at inference, too.
        assert prompts[0] == prompts[1] == loaded.conditioner.reply(both[0][:-1]).tolist()
        said = tokenizer.decode(prompts[0])
        assert said.count("<|score_10|> every step is correct") == 2 * (kind == "both")


def test_rewards_grow_from_zero_and_are_logged(tree: Tree) -> None:
    result = run(tree, duration="40ba", preference={"beta": 0.5}, eval={"samples": 8})
    rows = pair_rows(result.run_folder)
    assert rows[0] == {"pairs": 8, "loss": pytest.approx(0.693147), "accuracy": 0.0, "margin": 0.0,
                       "better_reward": 0.0, "worse_reward": 0.0}  # fmt: skip
    assert rows[-1]["accuracy"] > 0.8
    assert rows[-1]["margin"] == pytest.approx(
        rows[-1]["better_reward"] - rows[-1]["worse_reward"], abs=1e-5
    )
    measured = pair_rows(result.run_folder, "eval")[-1]
    assert measured["preference"]["pairs"] > 4
    assert result.losses["eval"] == measured["preference"]["loss"]
    mixes = pair_rows(result.run_folder, "mix")
    assert mixes[-1]["loss"]["selection"]["all"] == pytest.approx(rows[-1]["loss"], abs=1e-5)
    figures = evaluate(load_model(result.run_folder))
    assert figures["loss"]["none"]["all"] == pytest.approx(measured["loss"]["none"]["all"])


@pytest.mark.parametrize("adapters", [False, True], ids=["all weights", "adapters"])
def test_resume_after_a_crash_is_exact(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapters: bool
) -> None:
    tree |= {"lora": {"rank": 4, "alpha": 8}} if adapters else {"ema": 0.9}
    tree["mix"] = tree["mix"] | {"condition": {"kind": "both", "dropout": 0.3}}
    tree["logging"] = tree["logging"] | {"every": 3}
    whole = run(tree, run_folder=str(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        crash_at(6, patch)
        with pytest.raises(Stopped):
            run(tree)
    resumed = run(tree)
    # Rows since the checkpoint of step 4, with pairs of steps before it.
    assert losses(resumed.run_folder) == losses(whole.run_folder)
    assert pair_rows(resumed.run_folder) == pair_rows(whole.run_folder)
    assert pair_rows(resumed.run_folder, "eval") == pair_rows(whole.run_folder, "eval")
    both = [read_checkpoint(Path(one.checkpoint))["state"]["model"] for one in (whole, resumed)]
    assert both[0].keys() == both[1].keys()
    assert all(torch.equal(value, both[1][name]) for name, value in both[0].items())
    assert not any("initial" in name for name in both[0])


def test_adapters_are_compared_with_the_model_without_them(tree: Tree) -> None:
    """The loss of step 1 is log 2, and the base weights do not change."""
    result = run(tree, lora={"rank": 4, "alpha": 8}, duration="40ba", optimizer={"lr": 1e-2})
    rows = pair_rows(result.run_folder)
    assert rows[0]["loss"] == pytest.approx(0.693147)
    assert rows[-1]["margin"] > rows[0]["margin"]
    out = Path(tree["run_folder"]).parent / "out"
    export_model(load_model(result.run_folder), out)
    exported = load_model(out)
    assert exported.tokenizer.chat_template
    greedy = {"max_new_tokens": 4, "temperature": 0.0}
    texts = [
        generate(load_model(folder), "1 + 2 =", "none", **greedy).text
        for folder in (result.run_folder, out)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("cross_entropy", ["dense", "chunked"])
def test_micro_batches_and_losses_at_the_head_change_nothing(
    tree: Tree, tmp_path: Path, cross_entropy: str
) -> None:
    whole = run(tree, run_folder=str(tmp_path / "whole"))
    parts = run(tree, microbatch_size=3, cross_entropy=cross_entropy)
    assert losses(parts.run_folder) == pytest.approx(losses(whole.run_folder), abs=1e-5)
    assert [row["accuracy"] for row in pair_rows(parts.run_folder)] == [
        row["accuracy"] for row in pair_rows(whole.run_folder)
    ]


def test_two_ranks_train_as_one(
    tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    one = run(tree, run_folder=str(tmp_path / "one"))
    two = two_processes(write_config(tree))
    assert losses(two["run_folder"]) == pytest.approx(losses(one.run_folder), abs=1e-5)
    for mine, other in zip(
        *(pair_rows(f) for f in (one.run_folder, two["run_folder"])), strict=True
    ):
        assert mine == pytest.approx(other, abs=1e-4)
    assert two["losses"]["eval"] == pytest.approx(one.losses["eval"], abs=1e-4)


def test_selections_draw_better_answers(tree: Tree) -> None:
    tree["mix"] |= {"selections": [{"name": "right", "where": "score = 1 AND off_by = 0"}]}
    result = run(tree, duration="2ba", eval={"samples": 0})
    replay = Replay(Path(result.run_folder))
    assert all(
        sample["worse_answer"]["role"] == "assistant" for sample in replay.batch(2)["samples"]
    )
    where = "off_by = 3"
    tree["mix"] |= {"selections": [{"name": "wrong", "where": where}]}
    with pytest.raises(MixError, match=r"selection 'wrong': no better answer of a pair"):
        run(tree, run_folder=f"{tree['run_folder']}-2")


def test_pairs_that_do_not_fit_have_no_loss_and_are_recorded(tree: Tree) -> None:
    longest = run(tree, duration="8ba", max_length=18, eval={"samples": 0})
    rows = (Path(longest.run_folder) / "rejected.jsonl").read_text().splitlines()
    assert 0 < len(rows) == longest.rejected
    assert "max_length: the answer starts after" in json.loads(rows[0])["reason"]
    assert parse_id(json.loads(rows[0])["doc_id"])
    assert sum(row["pairs"] for row in pair_rows(longest.run_folder)) < 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference": {"min_difference": 0.9}}, "differ by at most 0.75, and min_difference"),
        ({"packing": "best_fit"}, "packing: best_fit, and stage preference needs pad"),
        ({"stage": "sft", "preference": {"beta": 1.0}}, "preference: the stage is sft"),
        ({"z_loss": 1e-4}, "z_loss"),
        ({"fsdp": {"version": 2}}, "fsdp: the initial model"),
        ({"preference": {"beta": float("inf")}}, "beta"),
        ({"preference": {"label_smoothing": 0.1}}, "label_smoothing: 0.1 with loss sigmoid"),
        ({"max_length": 16}, "all of .* rejected. The first one: max_length"),
    ],
    ids=str,
)
def test_config_without_a_possible_run_is_refused(tree: Tree, changes: Tree, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tree, **changes)


def test_a_store_without_two_answers_to_a_prompt_is_refused(
    inputs: tuple[Store, Path], tmp_path: Path
) -> None:
    store = write_store(tmp_path, prompts=10, errors=(0,))
    with pytest.raises(ConfigError, match=r"no two of the 10 answers .* ingest conversations"):
        run(preference_tree(store, inputs[1], tmp_path / "run"))


@pytest.mark.parametrize(
    "condition", [{"kind": "spans"}, {"kind": "both", "loss_on_prefix": 0.5}], ids=str
)
def test_condition_that_differs_within_a_pair_is_refused(tree: Tree, condition: Tree) -> None:
    tree["mix"] |= {"condition": condition}
    with pytest.raises(ConfigError, match="compares complete answers under the same feedback"):
        run(tree)


def test_the_example_of_the_docs_runs_from_sft(
    inputs: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model = inputs
    page = (ROOT / "docs" / "training.md").read_text()
    (example,) = re.findall(r"```yaml\n(stage: preference\n.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "S").symlink_to(store.root)
    sft = preference_tree(store, model, tmp_path / "runs" / "sft")
    sft |= {"stage": "sft", "duration": "2ba"}
    run(sft)
    (tmp_path / "run.yaml").write_text(example)
    changes = ["mix.corpus=answers", "mix.critic=closeness", "duration=4ba", "threads=1",
               "max_length=64", "global_batch_size=8", "holdout=0.2"]  # fmt: skip
    command = ["train", "run.yaml", *changes, "--output", "json"]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["steps"] == 4
    assert "60 pairs of 180 answers, one of each prompt that has one" in " ".join(
        done.stderr.split()
    )
    assert Path("runs/preference/pairs.arrow").is_file()
