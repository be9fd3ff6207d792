"""The arms of the experiments: one train config, and a mix for each arm."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpora import SUMS, TAG, CorpusFolder
from noisy_critic import KINDS

from ixt_data.mix import (
    GOOD_EPOCHS,
    Condition,
    Mix,
    Recipe,
    Schedule,
    Selection,
    anneal_mix,
    build_condition,
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
class ArmContext:
    """The corpus and budget for which an arm builds its mix."""

    store: Store
    folder: CorpusFolder
    good: int
    steps: int


MixFactory = Callable[[ArmContext], Mix]


def condition(kind: str, **keys: Any) -> Condition:
    """Return a condition without dropout and cooldown; `keys` override."""
    plain = {"cooldown": 0.0} if kind == "none" else {"cooldown": 0.0, "dropout": 0.0}
    return build_condition(kind=kind, **plain | keys)


def weighted_condition(**keys: Any) -> Condition:
    """Return a condition without feedback, with the loss weights of the span recipe."""
    return condition("none", loss_by_verdict=RESULT_WEIGHTS, verdict_after="=", **keys)


def simple(feedback: Condition, *selections: Selection, critic: str = CRITIC) -> MixFactory:
    """Return a mix factory with a condition and selections."""

    def make(context: ArmContext) -> Mix:
        chosen = {"selections": selections} if selections else {}
        return _base(context, critic).model_copy(update={"condition": feedback, **chosen})

    return make


def threefold(feedback: Condition) -> MixFactory:
    """Return a mix factory that draws each good document three times as often as another."""

    def make(context: ArmContext) -> Mix:
        rest = context.folder.corpus.documents - context.good
        parts = (
            Selection(name="good", where=GOOD, weight=3.0 * context.good),
            Selection(name="rest", where=f"({GOOD}) IS NOT TRUE", weight=float(rest)),
        )
        return _base(context).model_copy(update={"condition": feedback, "selections": parts})

    return make


def anneal(feedback: Condition, last: float) -> MixFactory:
    """Return a mix factory of all documents, and of the flawless ones at the end of a run."""

    def make(context: ArmContext) -> Mix:
        return anneal_mix(context.store, _recipe(context), last, feedback)

    return make


def preset(schedule: Schedule, epochs: int = GOOD_EPOCHS) -> MixFactory:
    """Return a mix factory of the recipe in ixt, for the planned visits."""

    def make(context: ArmContext) -> Mix:
        return span_mix(context.store, _recipe(context), schedule, epochs)

    return make


def _recipe(context: ArmContext) -> Recipe:
    return Recipe(
        store=str(context.folder.store),
        critic=CRITIC,
        good=GOOD,
        visits=context.steps * SUMS_BATCH,
        sign="=",
        snapshot=TAG,
        corpus=(SUMS,),
        seed=context.folder.seed,
    )


def _base(context: ArmContext, critic: str = CRITIC) -> Mix:
    # Every arm needs a critic, which decides which documents are good and which losses count more.
    return Mix(
        store=str(context.folder.store),
        snapshot=TAG if critic == CRITIC else None,
        corpus=(SUMS,),
        critic=critic,
        seed=context.folder.seed,
    )


SPANS_CONDITION = span_condition("=")
INSERTED = SPANS_CONDITION.model_copy(update={"tag_replaces": None})
MASKED = SPANS_CONDITION.model_copy(update={"loss_by_verdict": {**RESULT_WEIGHTS, "wrong": 0.0}})
CRITIQUE = condition("both")
ARMS: Mapping[str, MixFactory] = {
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
    "spans-3x": threefold(SPANS_CONDITION),
    "spans-masked": simple(MASKED),
    "plain-x10": simple(weighted_condition()),
    "filter-x10": simple(weighted_condition(), FLAWLESS),
    "spans-inserted": simple(INSERTED),
    "spans-wrong-10": simple(SPANS_CONDITION, critic="wrong_on_10"),
    "spans-wrong-20": simple(SPANS_CONDITION, critic="wrong_on_20"),
    "anneal-10": anneal(condition("none"), 0.1),
    "anneal-30": anneal(condition("none"), 0.3),
    "anneal-50": anneal(condition("none"), 0.5),
    "anneal-30-x10": anneal(weighted_condition(), 0.3),
    "critique-anneal-10": anneal(CRITIQUE, 0.1),
    "critique-anneal-30": anneal(CRITIQUE, 0.3),
    "score-anneal-30": anneal(condition("score"), 0.3),
    "spans-anneal-30": anneal(SPANS_CONDITION, 0.3),
}
"""Every arm by name."""


def train_arm_tokenizer(context: ArmContext) -> Path:
    """Return the tokenizer of all arms of a corpus: words of texts and critiques, and all tags.

    Arms of one seed start with the same weights and differ only in their mix.
    """
    folder = context.folder.folder / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        training = TokenizerTraining(kind="words", vocab_size=160)
        texts = corpus_texts(context.store, _base(context), training.samples)
        special = [*SPECIAL_TOKENS, *map(tag_token, KINDS)]
        tokenizer = train_tokenizer(texts, training, special)
        tokenizer.save_pretrained(folder)
    return folder


def is_conditioned(mix: Mix) -> bool:
    """Return whether a model of this mix is evaluated under the best feedback."""
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
    decay: float | None = None,
) -> dict[str, Any]:
    """Return the train config of every arm.

    Args:
        mix: file of the mix.
        run_folder: folder of the run.
        task: file of the held-out problems.
        tokenizer: folder of the tokenizer.
        feedback: feedback under which the problems are solved.
        steps: number of steps; without `decay`, a run ends when it solves 90% of the problems.
        seed: seed of weights and order.
        every: steps between evaluations.
        decay: share of the run, at its end, during which the learning rate falls to zero; None
            keeps it constant.
    """
    config = {
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
        "logging": {"tensorboard": False, "progress": False},
        "threads": 1,
    }
    if decay is None:
        return {**config, "stop": {"metric": "tasks.sums", "threshold": 0.9}}
    falling = {"kind": "wsd", "decay": decay, "final": 0.0}
    return {**config, "schedule": config["schedule"] | falling}
