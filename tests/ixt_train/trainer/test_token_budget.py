"""Train runs of a number of tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_runs import Tree, run

from ixt_data.mix.config import Mix
from ixt_data.mix.planner import plan_mix
from ixt_data.store.store import Store
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.conditioning.tokenizer import load_tokenizer
from ixt_train.runs.feedback import observed_pairs
from ixt_train.runs.metrics import read_metrics
from ixt_train.runs.run_folder import read_json
from ixt_train.stream.mix_stream import MixStream
from ixt_train.trainer.token_budget import TokenCounter

BATCH_TOKENS = 8 * 62


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "both", "dropout": 0.1},
        {"kind": "both", "dropout": 0.9, "cooldown": 0},
        {"kind": "both", "dropout": 0, "cooldown": 0.8},
        {"kind": "none"},
    ],
)
def test_token_budget_is_met_within_one_batch(config_tree: Tree, condition: Tree) -> None:
    mix = config_tree["mix"] | {"condition": condition}
    result = run(config_tree, mix=mix, duration="12_000tok", eval={"samples": 0}, ema=None)
    assert abs(result.tokens - 12_000) <= BATCH_TOKENS


def test_token_budget_counts_tokens_after_truncation(config_tree: Tree) -> None:
    small = {"max_length": 56, "duration": "6_000tok", "eval": {"samples": 0}, "ema": None}
    assert abs(run(config_tree, **small).tokens - 6000) <= 8 * 56


@pytest.mark.parametrize(
    "changes",
    [
        {"condition": {"kind": "both", "dropout": 0.3, "cooldown": 0.2, "noisy": 0.5}},
        {"condition": {"kind": "spans", "dropout": 0.2}},
        {
            "condition": {"kind": "score", "dropout": 0.5},
            "schedule": [
                {"share": 0.4, "weights": {"all": 1}},
                {"share": 0.3, "condition": {"kind": "both"}},
            ],
        },
    ],
)
def test_counted_tokens_are_those_of_the_stream(
    trained_run: Path, sums: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    base = {"store": str(sums / "store"), "critic": "arithmetic"}
    mix = Mix.model_validate(base | changes)
    store = Store.open(sums / "store")
    plan = plan_mix(mix, 640, store=store, batch=16, epoch_samples=160)
    observed = observed_pairs(read_json(trained_run / "feedback.json"))
    conditioner = Conditioner(load_tokenizer(trained_run / "tokenizer"), mix.condition, observed)
    with MixStream(plan, conditioner, local=tmp_path / "local", batch_size=16) as stream:
        lengths = np.array([len(s["input_ids"]) for _ in range(plan.epochs) for s in stream])
    counter = TokenCounter(store, conditioner, None)
    assert counter.count(plan) == lengths.sum()
    # Known documents are not tokenized again.
    assert counter.count(plan) == lengths.sum()
    assert TokenCounter(store, conditioner, 57).count(plan) == np.minimum(lengths, 57).sum()


def test_train_run_that_splits_documents_fills_its_rows(config_tree: Tree) -> None:
    tree = config_tree | {"packing": "best_fit", "split": "fill", "attention": "document"}
    tree |= {"max_length": 40, "duration": "12_000tok", "eval": {"samples": 0}, "ema": None}
    result = run(tree)
    # No token is truncated, and the budget counts all of them.
    assert abs(result.tokens - 12_000) <= BATCH_TOKENS
    rows = read_metrics(Path(result.run_folder, "metrics.jsonl"))
    fill = [row["row_fill"] for row in rows if "row_fill" in row]
    assert min(fill) > 0.9
