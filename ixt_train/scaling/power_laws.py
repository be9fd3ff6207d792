"""Power laws of a loss over compute: loss = floor + scale x compute ^ -exponent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

MIN_POINTS, MIN_POINTS_WITH_FLOOR = 4, 6
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """A fitted power law.

    Attributes:
        scale, exponent, floor: parameters of the law; the floor is 0 for few points.
        r2: share of the variance of the loss that it explains.
        points: number of fitted points.
    """

    scale: float
    exponent: float
    floor: float
    r2: float
    points: int


def fit_power_law(compute: Sequence[float], loss: Sequence[float]) -> PowerLaw | None:
    """Fit a power law by least squares on logarithms; None for fewer than 4 different points.

    From 6 points on, it also fits the floor, over a grid below the lowest loss.
    """
    x, y = np.asarray(compute, float), np.asarray(loss, float)
    usable = (x > 0) & (y > 0)
    x, y = x[usable], y[usable]
    if len(np.unique(x)) < MIN_POINTS:
        return None
    floor = 0.0
    if len(x) >= MIN_POINTS_WITH_FLOOR:
        grid = ((0.0, 0.99 * y.min()),)
        floor = float(optimize.brute(lambda at: -_fit(x, y, at[0]).r2, grid, Ns=100, finish=None))
    return _fit(x, y, floor)


def _fit(x: Floats, y: Floats, floor: float) -> PowerLaw:
    line = stats.linregress(np.log(x), np.log(y - floor))
    prediction = floor + np.exp(line.intercept) * x**line.slope
    total = float(((y - y.mean()) ** 2).sum())
    r2 = 1 - float(((y - prediction) ** 2).sum()) / total if total else 1.0
    return PowerLaw(float(np.exp(line.intercept)), float(-line.slope), float(floor), r2, len(x))
