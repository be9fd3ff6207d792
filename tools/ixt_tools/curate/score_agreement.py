"""Agreement of predicted scores with those of a judge, with intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ixt_tools.curate.text_scorer import Floats

DRAWS = 200
_DIGITS = 4

Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ScoreAgreement:
    """Agreement on held-out documents; undefined values are None.

    Attributes:
        documents: number of held-out documents.
        spearman: rank correlation, -1 to 1.
        spearman_interval: its 95% interval over random draws of the documents.
        cut: score of the judge from which a document is good.
        auc: probability that a good document has a higher predicted score than another one.
        auc_interval: its 95% interval.
        mean_error: mean absolute difference of the scores.
    """

    documents: int
    spearman: float | None
    spearman_interval: Interval
    cut: float
    auc: float | None
    auc_interval: Interval
    mean_error: float


def middle_cut(scores: Floats) -> float:
    """Return the score that divides documents most evenly into those below and the others."""
    values = np.unique(scores)[1:]
    shares = np.array([np.mean(scores >= value) for value in values])
    return float(values[np.argmin(np.abs(shares - 0.5))])


def measure_agreement(
    predicted: Floats, judged: Floats, cut: float, rng: np.random.Generator
) -> ScoreAgreement:
    """Compare predicted scores with the judge's.

    Args:
        predicted: scores of the scorer.
        judged: scores of the judge on the same documents.
        cut: score of the judge from which a document is good.
        rng: draws the documents for the intervals.
    """
    spearman, spearman_interval = _with_interval(_spearman, predicted, judged, rng)
    auc, auc_interval = _with_interval(_auc, predicted, (judged >= cut).astype(float), rng)
    return ScoreAgreement(
        len(judged),
        spearman,
        spearman_interval,
        cut,
        auc,
        auc_interval,
        round(float(np.mean(np.abs(predicted - judged))), _DIGITS),
    )


def _with_interval(
    measure: Callable[[Floats, Floats], float | None],
    predicted: Floats,
    judged: Floats,
    rng: np.random.Generator,
) -> tuple[float | None, Interval]:
    whole, n = measure(predicted, judged), len(judged)
    draws = (rng.integers(n, size=n) for _ in range(DRAWS))
    drawn = [measure(predicted[draw], judged[draw]) for draw in draws]
    known = [value for value in drawn if value is not None]
    if whole is None or not known:
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return round(whole, _DIGITS), (round(float(low), _DIGITS), round(float(high), _DIGITS))


def _spearman(predicted: Floats, judged: Floats) -> float | None:
    from scipy.stats import spearmanr

    if np.ptp(predicted) == 0 or np.ptp(judged) == 0:
        return None
    return float(spearmanr(predicted, judged).statistic)


def _auc(predicted: Floats, good: Floats) -> float | None:
    from sklearn.metrics import roc_auc_score

    if good.all() or not good.any():
        return None
    return float(roc_auc_score(good, predicted))
