"""Multipliers: how much less compute an arm needs than another to be as good."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ixt_train.scaling.curves import LearningCurve

# Student's t at 97.5% by degrees of freedom; beyond the table the normal distribution's.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Crossing:
    """Where a curve first reaches a target.

    Attributes:
        at: on the axis; None where it does not.
        end: how far the curve goes.
    """

    at: float | None
    end: float


def falls(metric: str) -> bool:
    """Return whether less of a metric is better."""
    return metric.startswith("loss.")


def crossing(curve: LearningCurve, metric: str, target: float, axis: str) -> Crossing:
    """Where a curve first reaches a target, interpolated between two evaluations.

    Shares are interpolated over the axis as it is, losses over its logarithm.
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
    """How many times as much of something the baseline needs.

    Attributes:
        kind: `mean`: every seed has both. `at least`: the baseline did not get there in some
            seeds; `at most`: the arm did not; the value counts how far they went. `neither`: no
            seed says anything. `unclear`: some seeds bound it from below and some from above.
        value: geometric mean over the seeds, None where there is none.
        low, high: interval at 95% over seeds (Student's t on logarithms), None for fewer than 2
            seeds or bounds.
        seeds: the multiplier of each seed that has one, bounds marked in `bounds`.
        bounds: by seed, -1 where it is at least and 1 where it is at most the value, else 0.
    """

    kind: str
    value: float | None
    low: float | None
    high: float | None
    seeds: dict[int, float]
    bounds: dict[int, int]


def multiplier(arm: dict[int, Crossing], baseline: dict[int, Crossing]) -> Multiplier:
    """Return of an arm against a baseline, seed by seed."""
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
    """Return half of the 95% interval of a mean, by Student's t."""
    freedom = len(values) - 1
    t = _T[freedom - 1] if freedom <= len(_T) else 1.96
    return t * stdev(values) / math.sqrt(len(values))


def best_of(arms: Sequence[dict[int, Crossing]]) -> dict[int, Crossing]:
    """Return by seed, what the best of several arms needs; only seeds that all of them have."""
    found = {}
    for seed in set.intersection(*(set(arm) for arm in arms)):
        each = [arm[seed] for arm in arms]
        reached = [one.at for one in each if one.at is not None]
        found[seed] = Crossing(min(reached) if reached else None, min(one.end for one in each))
    return found
