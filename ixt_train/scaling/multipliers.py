"""Multipliers: how much less compute one arm needs than another for the same result."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

from ixt_train.scaling.curves import LearningCurve


@dataclass(frozen=True)
class Crossing:
    """The point where a curve first reaches a target.

    Attributes:
        at: value on the axis, None if the curve does not reach the target.
        end: value on the axis at the end of the curve.
    """

    at: float | None
    end: float


def falls(metric: str) -> bool:
    """Return whether lower values of a metric are better."""
    return metric.startswith("loss.")


def crossing(curve: LearningCurve, metric: str, target: float, axis: str) -> Crossing:
    """Find where a curve first reaches a target, interpolated between two evaluations.

    Task scores are interpolated linearly in the axis, losses in its logarithm.
    """
    clock, values = curve.axis(axis), curve.metrics[metric]
    sign = -1 if falls(metric) else 1
    for i, value in enumerate(values):
        if sign * value < sign * target:
            continue
        if i == 0:
            return Crossing(clock[0], clock[-1])
        share = (target - values[i - 1]) / (value - values[i - 1])
        first, last = clock[i - 1], clock[i]
        if falls(metric) and first > 0:
            return Crossing(first * (last / first) ** share, clock[-1])
        return Crossing(first + (last - first) * share, clock[-1])
    return Crossing(None, clock[-1])


@dataclass(frozen=True)
class Multiplier:
    """The ratio of what the baseline needs to what the arm needs.

    Attributes:
        kind: `mean`: every seed has both. `at least`: the baseline did not reach the target in some
            seeds. `at most`: the arm did not; the value uses the ends of the curves. `neither`:
            no seed reached it. `unclear`: some seeds give a lower bound and some an upper bound.
        value: geometric mean over the seeds, None if unknown.
        low, high: 95% interval over seeds (Student's t on logarithms), None for fewer than 2
            seeds or bounds.
        seeds: the multiplier of each seed that has one.
        bounds: by seed, -1 for a lower bound, 1 for an upper bound, else 0.
    """

    kind: str
    value: float | None
    low: float | None
    high: float | None
    seeds: dict[int, float]
    bounds: dict[int, int]


def multiplier(arm: dict[int, Crossing], baseline: dict[int, Crossing]) -> Multiplier:
    """Return the multiplier of an arm against a baseline, from their crossings by seed."""
    seeds, bounds = dict[int, float](), dict[int, int]()
    for seed in sorted(arm.keys() & baseline.keys()):
        ours, theirs = arm[seed], baseline[seed]
        if ours.at is None and theirs.at is None:
            continue
        bounds[seed] = 0 if ours.at and theirs.at else (-1 if theirs.at is None else 1)
        seeds[seed] = (theirs.at or theirs.end) / (ours.at or ours.end)
    if not seeds:
        return Multiplier("neither", None, None, None, {}, {})
    logs = [math.log(value) for value in seeds.values()]
    mean, kind = math.exp(fmean(logs)), _kind(bounds)
    low = high = None
    if kind == "mean" and len(logs) > 1:
        half = interval(logs)
        low, high = mean / math.exp(half), mean * math.exp(half)
    return Multiplier(kind, None if kind == "unclear" else mean, low, high, seeds, bounds)


def _kind(bounds: dict[int, int]) -> str:
    found = set(bounds.values()) - {0}
    if not found:
        return "mean"
    if len(found) == 2:
        return "unclear"
    return "at least" if -1 in found else "at most"


def interval(values: Sequence[float]) -> float:
    """Return half of the 95% interval of a mean, by Student's t (scipy.stats).

    Args:
        values: two or more measurements.
    """
    t = float(stats.t.ppf(0.975, len(values) - 1))
    return t * stdev(values) / math.sqrt(len(values))


def best_of(arms: Sequence[dict[int, Crossing]]) -> dict[int, Crossing]:
    """Return by seed the earliest crossing of several arms; only seeds that all arms have."""
    found = {}
    for seed in set.intersection(*(set(arm) for arm in arms)):
        each = [arm[seed] for arm in arms]
        reached = [one.at for one in each if one.at is not None]
        found[seed] = Crossing(min(reached) if reached else None, min(one.end for one in each))
    return found
