"""The mix and train files of the demo: each arm is the same train config with another mix."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ixt_data.mix import ANNEAL

TAG = "demo"
CLOCK, STDLIB = "clock", "stdlib"
# A sum has a token for each number and sign.
CHARACTERS_PER_TOKEN = {CLOCK: 2.2, STDLIB: 3.5}
ARMS = ("plain", "filter", "anneal", "score", "critique")
SUMS_BATCH = 48
"""Documents per step of the model that learns to calculate."""
TEXT_MODEL = {
    "model_type": "llama",
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 192,
    "tie_word_embeddings": True,
}
"""Config of the small Llama that the demo and the experiments train on Python files."""
CONDITIONED = ("score", "critique")
"""The arms whose models solve the problems under the best feedback."""


@dataclass(frozen=True, slots=True)
class DemoSize:
    """The amount of work of the demo; `QUICK` only tests the installation."""

    documents: int = 2000
    problems: int = 400
    arm_steps: int = 900
    arm_every: int = 50
    stdlib_files: int | None = None
    stdlib_steps: int = 300
    stdlib_batch: int = 16
    stdlib_samples: int = 48


FULL = DemoSize()
QUICK = DemoSize(
    documents=200,
    problems=20,
    arm_steps=8,
    arm_every=4,
    stdlib_files=60,
    stdlib_steps=4,
    stdlib_batch=4,
    stdlib_samples=2,
)


def clock_mix(arm: str, store: str, seed: int) -> dict[str, Any]:
    """Return the mix of one arm: arms differ in `condition.kind` and in their selections."""
    always = {"dropout": 0.0, "cooldown": 0.0}
    conditions = {"score": {"kind": "score", **always}, "critique": {"kind": "both", **always}}
    flawless = {"name": "flawless", "where": "score >= 1.0", "weight": 1.0}
    selections, schedule = [{"name": "all", "weight": 1.0}], []
    if arm == "filter":
        selections = [flawless]
    elif arm == "anneal":
        # All documents first; then the weights of the selections hold.
        selections = [{"name": "all", "weight": 0.0}, flawless]
        schedule = [{"share": 1 - ANNEAL, "weights": {"all": 1.0, "flawless": 0.0}}]
    return {
        "store": store,
        "snapshot": TAG,
        "corpus": CLOCK,
        "critic": "arithmetic",
        "condition": conditions.get(arm, {"kind": "none"}),
        "selections": selections,
        "schedule": schedule,
        "seed": seed,
    }


def stdlib_mix(store: str, cut: float, seed: int) -> dict[str, Any]:
    """Return a mix that draws half of its samples from files with a score of at least `cut`."""
    return {
        "store": store,
        "snapshot": TAG,
        "corpus": STDLIB,
        "critic": "rules",
        "condition": {"kind": "both", "dropout": 0.1, "cooldown": 0.0},
        "selections": [
            {"name": "high", "where": f"score >= {cut}", "weight": 0.5},
            {"name": "rest", "where": f"score < {cut}", "weight": 0.5},
        ],
        "seed": seed,
    }


def sums_train_config(steps: int) -> dict[str, Any]:
    """Return the keys of a train config that do not depend on the arm.

    The model is a Llama of 106 thousand parameters (docs/design/001, R1).
    """
    return {
        "model": {
            "config": {
                "model_type": "llama",
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "intermediate_size": 160,
                "max_position_embeddings": 128,
                "rope_theta": 100.0,
                "tie_word_embeddings": False,
            },
            "init": {"embedding_std": 0.5, "scale_residual": True},
        },
        "max_length": 128,
        "global_batch_size": SUMS_BATCH,
        "duration": f"{steps}ba",
        "optimizer": {"lr": 3.0e-3, "betas": [0.9, 0.98], "weight_decay": 0.1},
        "schedule": {"kind": "constant", "warmup": f"{min(50, steps)}ba"},
        "ema": 0.97,
        "holdout": 0.0,
        "checkpoint": {"every": "0ba"},
    }


def clock_train(arm: str, run_folder: str, seed: int, size: DemoSize) -> dict[str, Any]:
    """Return the train config of an arm."""
    return {
        "mix": f"{arm}.mix.yaml",
        "run_folder": run_folder,
        "seed": seed,
        **sums_train_config(size.arm_steps),
        "schedule": {
            "kind": "wsd",
            "warmup": f"{min(50, size.arm_steps)}ba",
            # The learning rate of every arm falls in the part that anneal draws differently.
            "decay": ANNEAL,
            "final": 0.0,
        },
        "tokenizer": {"train": {"kind": "words", "vocab_size": 128}},
        "eval": {
            "every": f"{size.arm_every}ba",
            "samples": 0,
            "tasks": [
                {
                    "name": "sums",
                    "path": "../corpus/held_out.jsonl",
                    "feedback": "best" if arm in CONDITIONED else "none",
                }
            ],
        },
        "threads": 1,
    }


def stdlib_train(
    run_folder: str, seed: int, size: DemoSize, buckets: tuple[float, ...]
) -> dict[str, Any]:
    """Return the train config of the model of Python, which takes about a minute on one core."""
    return {
        "mix": f"{STDLIB}.mix.yaml",
        "run_folder": run_folder,
        "seed": seed,
        "model": {"config": dict(TEXT_MODEL)},
        "tokenizer": {"train": {"kind": "bpe", "vocab_size": 2048, "samples": 300}},
        "max_length": TEXT_MODEL["max_position_embeddings"],
        "global_batch_size": size.stdlib_batch,
        "duration": f"{size.stdlib_steps}ba",
        "optimizer": {"lr": 2.0e-3, "betas": [0.9, 0.95], "weight_decay": 0.1},
        "schedule": {"kind": "wsd", "warmup": f"{min(20, size.stdlib_steps)}ba"},
        "holdout": 0.1,
        "checkpoint": {"every": "0ba"},
        "eval": {
            "buckets": list(buckets),
            "feedback": ["best", "worst", "none", "observed"],
            "samples": size.stdlib_samples,
            "batch_size": 16,
        },
        "threads": 1,
    }


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    """Write a config file with keys in the given order; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=100), encoding="utf-8")
    return path
