"""Checks of a critic's biases: long documents, and the first of two documents.

Long documents may be better, so the plain correlation of score and length does not show a bias.
What counts is the correlation that remains between documents of the same gold score. It is partial
rank correlation (Spearman's, of the first order): the ranks of score and length, without what the
ranks of the gold score explain by least squares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ixt_data.analysis.rank_statistics import CONFIDENCE_Z, rank_interval
from ixt_data.errors import StoreError
from ixt_data.log import Snapshot
from ixt_data.records import OK
from ixt_data.sql import choose_critic, critiques_query, sql_literal
from ixt_data.store import Store

LENGTH_LIMIT = 0.1
"""A critic is biased if its partial correlation is beyond this on both ends of the interval."""

POSITION_LIMIT = 0.05
"""A judge is biased if its share of wins by the first document is farther from a half."""

MIN_DOCUMENTS = 30
"""Documents with both scores below which nothing is measured."""


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Correlation of a critic's scores with the length of the documents; undefined ones are None.

    Attributes:
        critic: name or id.
        gold: critic of the gold scores.
        documents: number of documents with both scores.
        plain: rank correlation of score and characters.
        given_gold: the same, between documents of the same gold score.
        low: lower end of its 95% interval.
        high: upper end.
        limit: bar of the interval's end that is closest to 0.
    """

    critic: str
    gold: str
    documents: int
    plain: float | None
    given_gold: float | None
    low: float | None
    high: float | None
    limit: float = LENGTH_LIMIT

    @property
    def is_biased(self) -> bool:
        """True if the whole interval is beyond the limit, on one side of 0."""
        if self.low is None or self.high is None:
            return False
        return self.low > self.limit or self.high < -self.limit


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Share of comparisons that the first document won, see `ixt critique --pairwise`.

    Each pair is compared in both orders, so a judge without a preference has a share of a half.

    Attributes:
        critic: name or id.
        comparisons: comparisons with a winner.
        first_wins: share that the first document won.
        low: lower end of its 95% interval.
        high: upper end.
        limit: distance of the interval from a half.
    """

    critic: str
    comparisons: int
    first_wins: float
    low: float
    high: float
    limit: float = POSITION_LIMIT

    @property
    def is_biased(self) -> bool:
        """True if the whole interval is beyond the limit, on one side of a half."""
        return self.low > 0.5 + self.limit or self.high < 0.5 - self.limit


@dataclass(frozen=True)
class BiasChecks:
    """Which biases of a critic a calibration measured, and why not the others.

    Attributes:
        critic: name or id.
        length: `measured`, or the reason.
        position: `measured`, or the reason.
    """

    critic: str
    length: str
    position: str


def list_bias_checks(
    critics: Sequence[str], gold: str | None, positions: Sequence[PositionBias]
) -> tuple[BiasChecks, ...]:
    """Return which biases were measured for each critic.

    Args:
        critics: names or ids.
        gold: critic whose scores are right, if one is given.
        positions: see `measure_position_bias`.
    """
    compared = {one.critic for one in positions}
    lengths = dict.fromkeys(critics, "measured" if gold else "not measured: needs --gold")
    if gold in lengths:
        lengths[gold] = "is the gold critic"
    return tuple(
        BiasChecks(
            one,
            lengths[one],
            "measured" if one in compared else "does not apply: it rates single documents",
        )
        for one in critics
    )


def measure_position_bias(
    store: Store,
    critics: Sequence[str],
    *,
    corpora: Sequence[str] = (),
    at: int | str | None = None,
) -> tuple[PositionBias, ...]:
    """Measure how often the first document won, for critics that compare documents.

    Args:
        store: contains the critiques.
        critics: names or ids; those without comparisons are left out.
        corpora: corpora of the documents; all by default.
        at: version or tag; the latest by default.
    """
    snapshot, found = store.snapshot(at), []
    for critic in critics:
        ((first, second),) = store.sql(
            "SELECT coalesce(sum(first), 0), coalesce(sum(second), 0) FROM (SELECT "
            "any_value(scores['wins_as_first']) AS first, "
            "any_value(scores['wins_as_second']) AS second FROM documents "
            f"JOIN ({critiques_query(snapshot, critic)}) USING (doc_id) "
            f"WHERE {_inside(corpora)} GROUP BY doc_id)",
            at=snapshot.version,
        ).fetchall()
        n = round(first + second)
        if n:
            found.append(PositionBias(critic, n, first / n, *_share_interval(first / n, n)))
    return tuple(found)


def _share_interval(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share (doi 10.1080/01621459.1927.10502953)."""
    z2 = CONFIDENCE_Z**2 / n
    half = CONFIDENCE_Z * math.sqrt((share * (1 - share) + z2 / 4) / n)
    return (share + z2 / 2 - half) / (1 + z2), (share + z2 / 2 + half) / (1 + z2)


def _inside(corpora: Sequence[str]) -> str:
    return f"corpus IN ({', '.join(map(sql_literal, corpora))})" if corpora else "true"


def measure_length_bias(
    store: Store,
    critics: Sequence[str],
    gold: str,
    *,
    corpora: Sequence[str] = (),
    at: int | str | None = None,
) -> tuple[LengthBias, ...]:
    """Measure how much each critic's scores follow the length, given the gold scores.

    Args:
        store: contains the critiques.
        critics: names or ids; the gold critic itself is left out.
        gold: name or id of the critic whose scores are right.
        corpora: corpora of the documents; all by default.
        at: version or tag; the latest by default.

    Raises:
        StoreError: a critic does not exist, or fewer than 30 documents have both scores.
    """
    snapshot = store.snapshot(at)
    snapshot.check_corpora(corpora, store.root)
    for critic in (*critics, gold):
        choose_critic(snapshot, critic, store.root)
    others = [critic for critic in critics if critic != gold]
    if not others:
        raise StoreError(f"{gold} is the only critic: nothing to compare with its scores")
    return tuple(_measure(store, snapshot, critic, gold, corpora) for critic in others)


def _measure(
    store: Store, snapshot: Snapshot, critic: str, gold: str, corpora: Sequence[str]
) -> LengthBias:
    ranks = ", ".join(
        f"rank() OVER (ORDER BY {name}) + (count(*) OVER (PARTITION BY {name}) - 1) / 2.0 AS {name}"
        for name in ("score", "gold", "length")
    )
    ((n, plain, with_gold, gold_length),) = store.sql(
        "WITH given AS (SELECT doc_id, any_value(round(c.score, 9)) AS score, "
        "any_value(round(g.score, 9)) AS gold, any_value(n_chars) AS length FROM documents "
        f"JOIN ({critiques_query(snapshot, critic)}) AS c USING (doc_id) "
        f"JOIN ({critiques_query(snapshot, gold)}) AS g USING (doc_id) "
        f"WHERE {_inside(corpora)} AND c.status = '{OK}' AND g.status = '{OK}' "
        "AND c.score IS NOT NULL AND g.score IS NOT NULL "
        f"GROUP BY doc_id), ranked AS (SELECT {ranks} FROM given) "
        "SELECT count(*), corr(score, length), corr(score, gold), corr(gold, length) FROM ranked",
        at=snapshot.version,
    ).fetchall()
    if n < MIN_DOCUMENTS:
        raise StoreError(
            f"{n} documents have scores by {critic} and by {gold}; a check of biases needs "
            f"{MIN_DOCUMENTS}"
        )
    plain, with_gold, gold_length = (_defined(one) for one in (plain, with_gold, gold_length))
    partial = _partial(plain, with_gold, gold_length)
    low, high = rank_interval(partial, n, controls=1)
    return LengthBias(critic, gold, n, plain, partial, low, high)


def _partial(xy: float | None, xz: float | None, yz: float | None) -> float | None:
    """Return the correlation of x and y without what z explains; None where it is undefined."""
    if xy is None:
        return None
    # A constant gold score explains nothing.
    xz, yz = xz or 0.0, yz or 0.0
    rest = (1 - xz**2) * (1 - yz**2)
    return max(-1.0, min(1.0, (xy - xz * yz) / math.sqrt(rest))) if rest > 1e-12 else None


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
