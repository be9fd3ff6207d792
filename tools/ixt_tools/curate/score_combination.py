"""Functions from the scores of several critics to one score.

A missing score is estimated: the critic's mean, moved by the mean distance of the document's other
scores from their critics' means. So a strict critic that is missing does not raise the score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ixt_data.errors import CriticError
from ixt_tools.curate.text_scorer import Floats

Method = Literal["mean", "logistic", "isotonic"]
_DIGITS = 6
"""Digits of stored parameters: below the differences between machines."""


@dataclass(frozen=True)
class ScoreCombination:
    """A function of the scores of some critics.

    Attributes:
        method: `mean` of the scores; `logistic`: probability of a good document by a linear
            model; `isotonic`: the mean on the scale of other scores, by a rising step function.
        min_scores: fewest scores that a document needs.
        means: mean score of each critic, for missing scores; None if all are needed.
        weights: one per critic, then the intercept; for `logistic`.
        knots: pairs of a mean and its calibrated score, rising; for `isotonic`.
    """

    method: Method
    min_scores: int
    means: tuple[float, ...] | None = None
    weights: tuple[float, ...] = ()
    knots: tuple[tuple[float, float], ...] = ()

    def combine(self, scores: Floats) -> Floats:
        """Return one score per row, 0 to 1; NaN where too few are known.

        Args:
            scores: a row per document and a column per critic; NaN where a score is missing.
        """
        known = ~np.isnan(scores)
        filled = scores if self.means is None else fill_missing(scores, np.array(self.means))
        if self.method == "logistic":
            *weights, intercept = self.weights
            combined = 1 / (1 + np.exp(-(filled @ np.array(weights) + intercept)))
        else:
            combined = filled.mean(axis=1)
        if self.method == "isotonic":
            combined = np.interp(combined, *np.array(self.knots).T)
        combined[known.sum(axis=1) < self.min_scores] = np.nan
        result: Floats = combined
        return result

    def to_json(self) -> dict[str, Any]:
        """Return the parameters as plain JSON."""
        return {
            "method": self.method,
            "min_scores": self.min_scores,
            "means": None if self.means is None else list(self.means),
            "weights": list(self.weights),
            "knots": [list(knot) for knot in self.knots],
        }

    @classmethod
    def from_json(cls, record: Any) -> "ScoreCombination":
        """Parse `to_json`.

        Raises:
            CriticError: the record is another one.
        """
        if not isinstance(record, Mapping) or {*record} != {*cls.__dataclass_fields__}:
            raise CriticError(f"not a combination of scores: {record!r:.80}")
        means = record["means"]
        return cls(
            record["method"],
            record["min_scores"],
            None if means is None else tuple(means),
            tuple(record["weights"]),
            tuple((low, high) for low, high in record["knots"]),
        )


def fill_missing(scores: Floats, means: Floats) -> Floats:
    """Return the scores with estimates instead of NaN; a row without a score has the means.

    Args:
        scores: a row per document and a column per critic.
        means: mean score of each critic.
    """
    known = ~np.isnan(scores)
    distance = np.where(known, scores - means, 0.0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
    return np.where(known, scores, np.clip(means + distance[:, None], 0.0, 1.0))


def fit_combination(
    method: Method, min_scores: int, scores: Floats, gold: Floats, cut: float
) -> ScoreCombination:
    """Fit a combination to the scores of another critic.

    `logistic` is scikit-learn's LogisticRegression with its default penalty, `isotonic` its
    IsotonicRegression.

    Args:
        method: `logistic` or `isotonic`.
        min_scores: see `ScoreCombination`.
        scores: a row per document and a column per critic, NaN where a score is missing.
        gold: scores of the other critic on these documents.
        cut: score of the other critic from which a document is good.
    """
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    means = None
    if min_scores < scores.shape[1]:
        means = score_means(scores)
        scores = fill_missing(scores, np.array(means))
    if method == "logistic":
        model = LogisticRegression(max_iter=1000).fit(scores, gold >= cut)
        weights = np.append(model.coef_[0], model.intercept_[0])
        return ScoreCombination(method, min_scores, means, _rounded(weights))
    steps = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
        scores.mean(axis=1), gold
    )
    knots = zip(_rounded(steps.X_thresholds_), _rounded(steps.y_thresholds_), strict=True)
    return ScoreCombination(method, min_scores, means, knots=tuple(knots))


def score_means(scores: Floats) -> tuple[float, ...]:
    """Return the mean of each column, over the rows without a missing score if there are some."""
    complete = scores[~np.isnan(scores).any(axis=1)]
    return _rounded(np.nanmean(scores if len(complete) == 0 else complete, axis=0))


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in np.round(values, _DIGITS))
