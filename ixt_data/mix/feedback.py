"""The feedback in the drawn documents, for conditioning in generation and evaluation."""

from ixt_data.errors import MixError
from ixt_data.mix.config import Mix
from ixt_data.mix.predicates import CriticPredicate, Scope
from ixt_data.mix.saved_selections import resolve_selections
from ixt_data.store import Store

QUANTILES = tuple(k / 11 for k in range(1, 11))


def observed_feedback(store: Store, mix: Mix, holdout: float = 0.0) -> dict[str, tuple[float, str]]:
    """Return the `best` and the `worst` feedback of the drawn documents: `(score, critique)`.

    The score is the highest (lowest) score bin, the critique the most frequent one in this bin; of
    equally frequent ones the first in alphabetical order.

    Args:
        store: the store to draw from.
        mix: the mix; its selections of weight > 0 in any phase count.
        holdout: share of documents that is never drawn, as for `plan_mix`.

    Raises:
        MixError: the mix has no critic, or no drawn document has a score.
    """
    with Scope(store, mix, holdout) as scope:
        mix = scope.mix
        drawn = _drawn(mix)
        if not drawn:
            raise MixError("critic: missing, so observed feedback does not exist")
        best = scope.feedback(drawn, best=True)
        worst = scope.feedback(drawn, best=False)
        if best is None or worst is None:
            raise MixError(
                f"critic: no document that the mix draws has a score by {_names(mix)} in snapshot "
                f"{scope.snapshot.version}"
            )
    return {"best": best, "worst": worst}


def _drawn(mix: Mix) -> list[CriticPredicate]:
    """Return the predicates of all phases with weight > 0, each with its critic."""
    return [
        (critic, phase.where.get(selection.name, selection.where))
        for phase in mix.phases()
        for selection in mix.selections
        if phase.weights.get(selection.name, selection.weight)
        and (critic := mix.critic_of(selection)) is not None
    ]


def _names(mix: Mix) -> str:
    return " or ".join(repr(critic) for critic in mix.critics if critic is not None)


def with_edges(store: Store, mix: Mix, holdout: float = 0.0) -> Mix:
    """Return the mix with saved selections resolved and the edges of score quantiles filled in.

    Args:
        store: the store to draw from.
        mix: the mix; edges that it contains do not change.
        holdout: share of documents that is never drawn, as for `plan_mix`.

    Raises:
        MixError: no drawn document has a score, or a saved selection does not exist.
    """
    mix = resolve_selections(store, mix, store.snapshot(mix.snapshot))
    if not mix.lacks_edges():
        return mix
    with Scope(store, mix, holdout) as scope:
        drawn = _drawn(mix)
        edges = scope.score_quantiles(drawn, QUANTILES) if drawn else ()
        if not edges:
            raise MixError(
                f"condition.bins: no document that the mix draws has a score by {_names(mix)} in "
                f"snapshot {scope.snapshot.version}"
            )
    return mix.with_edges(edges)
