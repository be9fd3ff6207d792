"""Ranks whose packing gives them different numbers of rows."""

from pathlib import Path

import pytest
import torch
from ranks import run_ranks, train_with_unequal_rows
from train_runs import Tree, losses, run

from ixt_data.config import validate
from ixt_train.config.train_config import TrainConfig
from ixt_train.runs.metrics import read_metrics
from ixt_train.stream.packing import Collator, batch_doc_ids
from ixt_train.trainer.equal_rows import pad_rows


def test_rows_of_padding_have_no_token_and_no_document() -> None:
    sample = {"input_ids": [5, 6, 7], "loss_weights": [0.0, 1.0, 1.0], "doc_id": bytes(16)}
    batch = Collator(9, 4, "best_fit", separate_documents=True)([sample])
    padded = pad_rows(batch, 3, 9)
    assert padded["input_ids"].tolist() == [[5, 6, 7, 9], [9] * 4, [9] * 4]
    for key in ("attention_mask", "loss_weights", "position_ids"):
        assert torch.equal(padded[key][:1], batch[key])
        assert padded[key].dtype == batch[key].dtype
        assert not padded[key][1:].any()
    assert (padded["labels"][1:] == -100).all()
    assert len(padded["doc_ids"]) == 3
    assert len(batch_doc_ids(padded)) == 1
    assert pad_rows(batch, 1, 9) is batch


def test_sharded_train_run_with_unequal_rows_equals_one_process(
    config_tree: Tree, tmp_path: Path
) -> None:
    """FSDP2: a rank with a row less would leave the other one waiting."""
    model = config_tree["model"]["config"] | {"attention_dropout": 0.0}
    tree = config_tree | {"model": {"config": model}, "ema": None, "eval": {"samples": 0}}
    # Two samples without feedback fill a row with 108 tokens; other samples have a row each.
    condition = config_tree["mix"]["condition"] | {"dropout": 0.5}
    tree |= {"mix": config_tree["mix"] | {"condition": condition}}
    tree |= {"packing": "best_fit", "attention": "document", "max_length": 110}
    tree |= {"microbatch_size": 1, "duration": "6ba", "checkpoint": {"every": 0}}
    one = run(tree, run_folder=str(tmp_path / "one"))
    folder = str(tmp_path / "two")
    config = validate(TrainConfig, tree | {"run_folder": folder, "fsdp": {"version": 2}}, "test")
    # A rank that waits forever ends with an error after the timeout of the process group.
    rows = run_ranks(2, train_with_unequal_rows, config, limit_seconds=200)
    assert any(a != b for a, b in zip(*rows, strict=True)), rows
    assert [row["tokens"] for row in read_metrics(Path(folder, "metrics.jsonl"))] == [
        row["tokens"] for row in read_metrics(Path(one.run_folder, "metrics.jsonl"))
    ]
    assert losses(folder) == pytest.approx(losses(one.run_folder), abs=1e-4)
