"""The feedback that a model has seen: what generation and evaluation condition on."""

from ixt_data.errors import MixError
from ixt_data.mix.config import Mix
from ixt_data.mix.scope import Scope
from ixt_data.store import Store

QUANTILES = tuple(k / 11 for k in range(1, 11))


def observed_feedback(store: Store, mix: Mix, holdout: float = 0.0) -> dict[str, tuple[float, str]]:
    """The best and the worst feedback among what the mix draws: `(score, critique)` each.

    The highest (lowest) score bin that occurs, and the most frequent critique in it; ties go to
    the first in alphabetical order.

    Args:
        store: where the mix draws from.
        mix: its selections of weight > 0 in any phase count.
        holdout: share of documents that is never drawn, as for `plan_mix`.

    Raises:
        MixError: the mix has no critic, or no drawn document has a score.
    """
    if mix.critic is None:
        raise MixError("critic: missing, so there is no feedback to observe")
    wheres = _drawn(mix)
    with Scope(store, mix, holdout) as scope:
        best = scope.feedback(wheres, best=True)
        worst = scope.feedback(wheres, best=False)
        if best is None or worst is None:
            raise MixError(
                f"critic: no document that the mix draws has a score by {mix.critic!r} in snapshot "
                f"{scope.snapshot.version}"
            )
    return {"best": best, "worst": worst}


def _drawn(mix: Mix) -> list[str]:
    """The predicates that documents are drawn by in any phase."""
    return [
        phase.where.get(selection.name, selection.where)
        for phase in mix.phases()
        for selection in mix.selections
        if phase.weights.get(selection.name, selection.weight)
    ]


def with_edges(store: Store, mix: Mix, holdout: float = 0.0) -> Mix:
    """The mix with the edges of its score quantiles, as far as it asks for any.

    Args:
        store: where the mix draws from.
        mix: edges that it has stay.
        holdout: share of documents that is never drawn, as for `plan_mix`.

    Raises:
        MixError: no drawn document has a score.
    """
    conditions = [mix.condition, *mix.schedule_conditions()]
    if not any(c.bins == "quantile" and not c.edges for c in conditions):
        return mix
    with Scope(store, mix, holdout) as scope:
        edges = scope.score_quantiles(_drawn(mix), QUANTILES)
        if not edges:
            raise MixError(
                f"condition.bins: no document that the mix draws has a score by {mix.critic!r} in "
                f"snapshot {scope.snapshot.version}"
            )
    return mix.with_edges(edges)
