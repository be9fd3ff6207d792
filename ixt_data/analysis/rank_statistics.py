"""Rank correlation and its interval."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE_Z = 1.96
"""Normal quantile of a 95% interval."""


def rank_correlation(a: Floats, b: Floats) -> float | None:
    """Return Spearman's correlation, None where all values of one side are equal."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Floats) -> Floats:
    """Return ranks; equal values share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def rank_interval(
    value: float | None, n: int, controls: int = 0
) -> tuple[float | None, float | None]:
    """Return the 95% interval of a rank correlation; None for None.

    It is Fisher's z with the variance (1 + r^2 / 2) / (n - 3) of Bonett and Wright 2000 (doi
    10.1007/BF02294183); a partial correlation has one degree of freedom less per control.

    Args:
        value: the correlation, -1 to 1.
        n: number of documents, above 3 and the controls together.
        controls: number of values whose part is taken out.
    """
    if value is None:
        return None, None
    if abs(value) > 1 - 1e-12:
        return value, value
    half = CONFIDENCE_Z * math.sqrt((1 + value**2 / 2) / (n - 3 - controls))
    return math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)
