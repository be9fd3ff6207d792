"""The arms of the proof: one train config, and a mix for each arm."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpora import SUMS, TAG, Ground
from noisy_critic import KINDS

from ixt_data.mix import (
    GOOD_EPOCHS,
    Condition,
    Mix,
    Recipe,
    Schedule,
    Selection,
    span_condition,
    span_mix,
)
from ixt_data.store import Store
from ixt_tools.demo import SUMS_BATCH, sums_train_config
from ixt_train.conditioning import SPECIAL_TOKENS, corpus_texts, tag_token, train_tokenizer
from ixt_train.config import TokenizerTraining

GOOD = "score >= 1"
CRITIC = "arithmetic"
FLAWLESS = Selection(name="flawless", where=GOOD)
RESULT_WEIGHTS = {"right": 10.0, "wrong": 10.0, "rest": 1.0}


@dataclass(frozen=True)
class Plan:
    """What the mix of an arm is made for."""

    store: Store
    ground: Ground
    good: int
    steps: int


Maker = Callable[[Plan], Mix]


def condition(kind: str, **keys: Any) -> Condition:
    """A condition without dropout and cooldown, but for what `keys` say."""
    return Condition.model_validate({"kind": kind, "dropout": 0.0, "cooldown": 0.0, **keys})


def weighted(**keys: Any) -> Condition:
    """No feedback, but the loss weights of the span recipe."""
    return condition("none", loss_by_verdict=RESULT_WEIGHTS, verdict_after="=", **keys)


def simple(told: Condition, *selections: Selection, critic: str = CRITIC) -> Maker:
    """A mix that differs in its condition and selections."""

    def make(plan: Plan) -> Mix:
        chosen = {"selections": selections} if selections else {}
        return _base(plan, critic).model_copy(update={"condition": told, **chosen})

    return make


def threefold(told: Condition) -> Maker:
    """Each good document is drawn three times as often as another."""

    def make(plan: Plan) -> Mix:
        rest = plan.ground.corpus.documents - plan.good
        parts = (
            Selection(name="good", where=GOOD, weight=3.0 * plan.good),
            Selection(name="rest", where=f"({GOOD}) IS NOT TRUE", weight=float(rest)),
        )
        return _base(plan).model_copy(update={"condition": told, "selections": parts})

    return make


def preset(schedule: Schedule, epochs: int = GOOD_EPOCHS) -> Maker:
    """The recipe that ships with ixt, for the visits that are planned."""

    def make(plan: Plan) -> Mix:
        recipe = Recipe(
            store=str(plan.ground.store),
            critic=CRITIC,
            good=GOOD,
            visits=plan.steps * SUMS_BATCH,
            sign="=",
            snapshot=TAG,
            corpus=(SUMS,),
            seed=plan.ground.seed,
        )
        return span_mix(plan.store, recipe, schedule, epochs)

    return make


def _base(plan: Plan, critic: str = CRITIC) -> Mix:
    # Every arm names a critic: which documents are good, and what is weighed, is by its word.
    return Mix(
        store=str(plan.ground.store),
        snapshot=TAG if critic == CRITIC else None,
        corpus=(SUMS,),
        critic=critic,
        seed=plan.ground.seed,
    )


SPANS = span_condition("=")
INSERTED = SPANS.model_copy(update={"tag_replaces": None})
MASKED = SPANS.model_copy(update={"loss_by_verdict": {**RESULT_WEIGHTS, "wrong": 0.0}})
CRITIQUE = condition("both")
ARMS: Mapping[str, Maker] = {
    "plain": simple(condition("none")),
    "filter": simple(condition("none"), FLAWLESS),
    "plain-3x": threefold(condition("none")),
    "score": simple(condition("score")),
    "critique": simple(CRITIQUE),
    "critique-dropout": simple(condition("both", dropout=0.1)),
    "critique-loss": simple(condition("both", loss_on_prefix=1.0)),
    "critique-3x": threefold(CRITIQUE),
    "critique-shuffled": simple(condition("both", noisy=1.0)),
    "critique-noisy": simple(condition("both", noisy=0.2)),
    "spans": preset("natural"),
    "spans-auto": preset("auto"),
    "spans-auto-16": preset("auto", 16),
    "spans-good-first-4": preset("good-first", 4),
    "spans-good-first-8": preset("good-first", 8),
    "spans-good-first-16": preset("good-first", 16),
    "spans-3x": threefold(SPANS),
    "spans-masked": simple(MASKED),
    "plain-x10": simple(weighted()),
    "filter-x10": simple(weighted(), FLAWLESS),
    "spans-inserted": simple(INSERTED),
    "spans-wrong-10": simple(SPANS, critic="wrong_on_10"),
    "spans-wrong-20": simple(SPANS, critic="wrong_on_20"),
}
"""Every arm of the proof by name."""


def tokenizer_of(plan: Plan) -> Path:
    """The tokenizer of all arms of a corpus: its words, those of critiques, and all tags.

    So arms of one seed begin with the same weights, and differ in nothing but their mix.
    """
    folder = plan.ground.folder / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        training = TokenizerTraining(kind="words", vocab_size=160)
        texts = corpus_texts(plan.store, _base(plan), training.samples)
        special = [*SPECIAL_TOKENS, *map(tag_token, KINDS)]
        made = train_tokenizer(texts, training, special)
        made.save_pretrained(folder)
    return folder


def listens(mix: Mix) -> bool:
    """Whether a model of this mix is asked under the best feedback."""
    return mix.condition.kind in ("score", "critique", "both")


def train_config(
    mix: str,
    run_folder: str,
    task: str,
    tokenizer: str,
    *,
    feedback: str,
    steps: int,
    seed: int,
    every: int,
) -> dict[str, Any]:
    """The train config of every arm."""
    return {
        "mix": mix,
        "run_folder": run_folder,
        "seed": seed,
        **sums_train_config(steps),
        "tokenizer": {"path": tokenizer},
        "eval": {
            "every": f"{every}ba",
            "samples": 0,
            "tasks": [{"name": "sums", "path": task, "feedback": feedback}],
        },
        "stop": {"metric": "tasks.sums", "threshold": 0.9},
        "logging": {"tensorboard": False, "progress": False},
        "threads": 1,
    }
