"""A small real store of worked sums, and train configs over it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from ixt_data.critics.arithmetic import ArithmeticCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.ingestion.corpus import ingest
from ixt_data.store.store import Store
from ixt_tools.demo.clock_arithmetic import write_corpus

MODEL = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "rope_theta": 100.0,
    "attention_dropout": 0.1,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `store`, and the task's `held_out.jsonl`."""
    folder = tmp_path_factory.mktemp("sums")
    corpus, _ = write_corpus(folder, documents=300, bad=0.5, seed=0, problems=20)
    store = Store.init(folder / "store")
    ingest(store, "sums", [corpus], id_field="id")
    annotate(store, "sums", ArithmeticCritic())
    return folder


@pytest.fixture
def config_tree(sums: Path, tmp_path: Path) -> dict[str, Any]:
    """A train config as YAML holds it; dropout in the model makes random states count."""
    return {
        "mix": {
            "store": str(sums / "store"),
            "critic": "arithmetic",
            "condition": {"kind": "both", "dropout": 0.1, "cooldown": 0},
        },
        "run_folder": str(tmp_path / "run"),
        "model": {"config": MODEL, "init": {"embedding_std": 0.5}},
        "tokenizer": {"train": {"kind": "words", "vocab_size": 200}},
        "max_length": 96,
        "global_batch_size": 8,
        "duration": "12ba",
        "optimizer": {"lr": 3e-3},
        "schedule": {"kind": "cosine", "warmup": "3ba"},
        "ema": 0.9,
        "holdout": 0.2,
        "checkpoint": {"every": "4ba"},
        "eval": {
            "every": "6ba",
            "samples": 4,
            "tasks": [{"name": "sums", "path": str(sums / "held_out.jsonl")}],
        },
        "logging": {"every": 1},
        "threads": 1,
    }


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def write(tree: dict[str, Any]) -> Path:
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


@pytest.fixture(scope="session")
def trained_run(sums: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished train run; to be read only."""
    from ixt_data.config import validate
    from ixt_train.config.train_config import TrainConfig
    from ixt_train.trainer.training import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    tree = {
        "mix": {"store": str(sums / "store"), "critic": "arithmetic"},
        "run_folder": str(folder),
        "model": {"config": {**MODEL, "attention_dropout": 0.0}},
        "tokenizer": {"train": {"kind": "words", "vocab_size": 200}},
        "max_length": 96,
        "global_batch_size": 16,
        "duration": "40ba",
        "optimizer": {"lr": 1e-2},
        "ema": 0.9,
        "holdout": 0.2,
        "eval": {"samples": 4},
        "threads": 1,
    }
    train(validate(TrainConfig, tree, "test"))
    return folder


@pytest.fixture(scope="session")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a train run that learned to follow its feedback; about a minute on one core.

    The workers of pytest-xdist share it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "follower"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            _train_follower(folder)
            (folder / "done").touch()
    return folder / "run"


def _train_follower(folder: Path) -> None:
    from ixt_data.config import validate
    from ixt_train.config.train_config import TrainConfig
    from ixt_train.trainer.training import train

    corpus, _ = write_corpus(folder, documents=2000, bad=0.5, seed=0, problems=400)
    store = Store.init(folder / "store")
    ingest(store, "sums", [corpus], id_field="id")
    annotate(store, "sums", ArithmeticCritic())
    size = {"hidden_size": 64, "intermediate_size": 160}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "attention_dropout": 0.0}
    # What `none` means is learnt from the tenth of the samples without feedback.
    condition = {"kind": "both", "dropout": 0.1, "cooldown": 0.0}
    tree = {
        "mix": {
            "store": str(folder / "store"),
            "critic": "arithmetic",
            "condition": condition,
        },
        "run_folder": str(folder / "run"),
        "model": {
            "config": {**MODEL, **size, **heads},
            "init": {"embedding_std": 0.5, "scale_residual": True},
        },
        "tokenizer": {"train": {"kind": "words", "vocab_size": 128}},
        "max_length": 96,
        "global_batch_size": 48,
        "duration": "650ba",
        "optimizer": {"lr": 3e-3, "betas": [0.9, 0.98]},
        "schedule": {"warmup": "50ba"},
        "ema": 0.97,
        "holdout": 0.1,
        "eval": {
            "buckets": [0.0, 0.5, 0.9, 1.0],
            "samples": 60,
            "tasks": [{"name": "arithmetic", "limit": 100}],
        },
        "threads": 1,
    }
    train(validate(TrainConfig, tree, "test"))
