"""Mixes that ship with ixt: recipes with the conditions under which they were measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ixt_data.errors import MixError
from ixt_data.mix.config import Condition, Mix, Phase, Selection
from ixt_data.mix.predicates import Scope
from ixt_data.store import Store

Schedule = Literal["auto", "natural", "good-first"]
GOOD_EPOCHS = 24
"""How often good documents are drawn before others come; docs/results.md says how it was chosen."""
VERDICT_WEIGHT = 10.0
"""Loss weight of what a span's verdict is about, right and wrong alike."""
FIRST_FROM = 0.5
"""`auto` begins with the good documents where they last for this share of the run."""


@dataclass(frozen=True)
class Recipe:
    """What a preset is asked for.

    Attributes:
        store: root of the store, as the mix will name it.
        critic: whose spans.
        good: predicate of the good documents.
        visits: documents that the train run draws in all: steps x global batch size.
        sign: the token that a tag takes the place of, and after which a verdict counts; None for
            spans without one.
        snapshot: version or tag; None is the newest.
        corpus: None takes all.
        seed: of the mix.
    """

    store: str
    critic: str
    good: str
    visits: int
    sign: str | None = None
    snapshot: int | str | None = None
    corpus: tuple[str, ...] | None = None
    seed: int = 17


def span_condition(sign: str | None) -> Condition:
    """A tag where the defect is, and ten times the loss on what the verdict is about."""
    weights = {"right": VERDICT_WEIGHT, "wrong": VERDICT_WEIGHT, "rest": 1.0}
    return Condition(
        kind="spans",
        tag_replaces=sign,
        verdict_after=sign,
        loss_by_verdict=weights,
        dropout=0.0,
        cooldown=0.0,
    )


def span_mix(
    store: Store, recipe: Recipe, schedule: Schedule = "auto", epochs: int = GOOD_EPOCHS
) -> Mix:
    """Span critiques that are not behind a filter, whether good documents are few or plenty.

    `natural` draws documents as they come; `good-first` draws good ones alone until each was
    drawn `epochs` times, then as they come. `auto` is `good-first` where that is at least half of
    the run, else `natural`.

    Raises:
        MixError: no document is good, or `visits` is not positive.
    """
    if recipe.visits < 1:
        raise MixError(f"visits: {recipe.visits} must be 1 or more: steps x global_batch_size")
    base = Mix(
        store=recipe.store,
        snapshot=recipe.snapshot,
        corpus=recipe.corpus,
        critic=recipe.critic,
        condition=span_condition(recipe.sign),
        seed=recipe.seed,
    )
    good, every = _count(store, base, recipe.good), _count(store, base, "true")
    if not good:
        raise MixError(
            f"good: no document satisfies {recipe.good!r} by {recipe.critic!r}; see what there is: "
            'ixt query "SUMMARIZE critiques"'
        )
    share = min(1.0, epochs * good / recipe.visits)
    if schedule == "auto":
        schedule = "good-first" if share >= FIRST_FROM else "natural"
    if schedule == "natural" or good == every:
        return base
    flawless = Selection(name="good", where=recipe.good, weight=good)
    if share == 1.0:
        return base.model_copy(update={"selections": (flawless,)})
    rest = Selection(name="rest", where=f"({recipe.good}) IS NOT TRUE", weight=every - good)
    first = Phase(share=share, weights={"rest": 0.0})
    return base.model_copy(update={"selections": (flawless, rest), "schedule": (first,)})


def _count(store: Store, mix: Mix, where: str) -> int:
    with Scope(store, mix) as scope:
        return scope.find("preset", where, None, scope.critics[0]).documents


PRESETS: Mapping[str, Schedule] = {
    "spans": "auto",
    "spans-natural": "natural",
    "spans-good-first": "good-first",
}
"""What `ixt mix preset NAME` can be asked for, with its schedule."""
