"""Preset mixes: recipes, with the conditions of their measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ixt_data.errors import MixError
from ixt_data.mix.condition import Condition, SpanFeedback, build_condition
from ixt_data.mix.config import Mix, Phase, Selection
from ixt_data.mix.predicates import Scope
from ixt_data.store import Store

Schedule = Literal["auto", "natural", "good-first"]
GOOD_EPOCHS = 24
"""Draws of each good document before other documents; docs/results.md has the measurements."""
VERDICT_WEIGHT = 10.0
"""Loss weight of the tokens that a span's verdict refers to, both right and wrong."""
ANNEAL = 0.3
"""Share of a run that draws good documents alone, at its end."""
FIRST_FROM = 0.5
"""`auto` starts with the good documents if they last for this share of the run."""


@dataclass(frozen=True)
class Recipe:
    """The parameters of a preset.

    Attributes:
        store: root of the store, as the mix will contain it.
        critic: the critic of the spans.
        good: predicate of the good documents.
        visits: number of draws of the train run: steps x global batch size; spans need it.
        sign: the token that a tag replaces, and after which a verdict counts; None for spans
            without such a token.
        snapshot: version or tag; None is the newest.
        corpus: names of the corpora; None is all.
        seed: seed of the mix.
    """

    store: str
    critic: str
    good: str
    visits: int | None = None
    sign: str | None = None
    snapshot: int | str | None = None
    corpus: tuple[str, ...] | None = None
    seed: int = 17


def span_condition(sign: str | None) -> SpanFeedback:
    """Return a condition with a tag at each defect and ten times the loss on judged tokens."""
    weights = {"right": VERDICT_WEIGHT, "wrong": VERDICT_WEIGHT, "rest": 1.0}
    return SpanFeedback(
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
    """Return a mix with span critiques that trains at least as well as a filtered corpus.

    `natural` draws all documents uniformly. `good-first` draws only good documents until each was
    drawn `epochs` times, then all. `auto` is `good-first` if its first phase is at least half of
    the run, else `natural`.

    Args:
        store: the store, to count the good documents.
        recipe: the parameters.
        schedule: `auto`, `natural` or `good-first`.
        epochs: draws of each good document in the first phase of `good-first`.

    Raises:
        MixError: no document is good, or `visits` is not positive.
    """
    if recipe.visits is None or recipe.visits < 1:
        raise MixError(f"visits: {recipe.visits or 0} must be 1 or more: steps x global_batch_size")
    base = _base(recipe, span_condition(recipe.sign))
    good, total = _count_good(store, base, recipe), _count(store, base, "true")
    share = min(1.0, epochs * good / recipe.visits)
    if schedule == "auto":
        schedule = "good-first" if share >= FIRST_FROM else "natural"
    if schedule == "natural" or good == total:
        return base
    good_documents = Selection(name="good", where=recipe.good, weight=good)
    if share == 1.0:
        return base.model_copy(update={"selections": (good_documents,)})
    rest = Selection(name="rest", where=f"({recipe.good}) IS NOT TRUE", weight=total - good)
    first = Phase(share=share, weights={"rest": 0.0})
    return base.model_copy(update={"selections": (good_documents, rest), "schedule": (first,)})


def anneal_mix(
    store: Store, recipe: Recipe, last: float = ANNEAL, feedback: Condition | None = None
) -> Mix:
    """Return a mix of all documents that ends with the good documents alone.

    Let the learning rate fall in the same part: `schedule: {kind: wsd, decay: 0.3}`.

    Args:
        store: the store, to check that documents are good.
        recipe: the parameters.
        last: share of the run, at its end, with good documents alone.
        feedback: the condition; by default without feedback.

    Raises:
        MixError: no document is good, or `last` is not between 0 and 1.
    """
    if not 0 < last < 1:
        raise MixError(f"last: {last} must be a share between 0 and 1")
    base = _base(recipe, feedback or build_condition(kind="none"))
    _count_good(store, base, recipe)
    # The weights of a phase replace the selections' own, which hold after it.
    selections = (
        Selection(name="all", weight=0.0),
        Selection(name="good", where=recipe.good, weight=1.0),
    )
    first = Phase(share=1 - last, weights={"all": 1.0, "good": 0.0})
    return base.model_copy(update={"selections": selections, "schedule": (first,)})


def _base(recipe: Recipe, condition: Condition) -> Mix:
    return Mix(
        store=recipe.store,
        snapshot=recipe.snapshot,
        corpus=recipe.corpus,
        critic=recipe.critic,
        condition=condition,
        seed=recipe.seed,
    )


def _count_good(store: Store, mix: Mix, recipe: Recipe) -> int:
    """Return the number of good documents.

    Raises:
        MixError: there are none.
    """
    if good := _count(store, mix, recipe.good):
        return good
    raise MixError(
        f"good: no document satisfies {recipe.good!r} by {recipe.critic!r}; set another predicate "
        '(--good), from the scores: ixt query "SUMMARIZE critiques"'
    )


def _count(store: Store, mix: Mix, where: str) -> int:
    with Scope(store, mix) as scope:
        return scope.find("preset", where, None, scope.mix.critics[0]).documents


SPAN_PRESETS: Mapping[str, Schedule] = {
    "spans": "auto",
    "spans-natural": "natural",
    "spans-good-first": "good-first",
}
"""Schedule of each preset of spans."""
