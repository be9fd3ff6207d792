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


def is_lower_better(metric: str) -> bool:
    """Return whether lower values of a metric are better."""
    return metric.startswith("loss.")


def find_crossing(curve: LearningCurve, metric: str, target: float, axis: str) -> Crossing:
    """Find where a curve first reaches a target, interpolated between two evaluations.

    Task scores are interpolated linearly in the axis, losses in its logarithm.
    """
    clock, values = curve.axis(axis), curve.metrics[metric]
    sign = -1 if is_lower_better(metric) else 1
    for i, value in enumerate(values):
        if sign * value < sign * target:
            continue
        if i == 0:
            return Crossing(clock[0], clock[-1])
        share = (target - values[i - 1]) / (value - values[i - 1])
        first, last = clock[i - 1], clock[i]
        if is_lower_better(metric) and first > 0:
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
        arm_crossing, baseline_crossing = arm[seed], baseline[seed]
        if arm_crossing.at is None and baseline_crossing.at is None:
            continue
        bounds[seed] = (
            0
            if arm_crossing.at and baseline_crossing.at
            else (-1 if baseline_crossing.at is None else 1)
        )
        seeds[seed] = (baseline_crossing.at or baseline_crossing.end) / (
            arm_crossing.at or arm_crossing.end
        )
    if not seeds:
        return Multiplier("neither", None, None, None, {}, {})
    logs = [math.log(value) for value in seeds.values()]
    mean, kind = math.exp(fmean(logs)), _kind(bounds)
    low = high = None
    if kind == "mean" and len(logs) > 1:
        half = confidence_half_width(logs)
        low, high = mean / math.exp(half), mean * math.exp(half)
    return Multiplier(kind, None if kind == "unclear" else mean, low, high, seeds, bounds)


def _kind(bounds: dict[int, int]) -> str:
    directions = set(bounds.values()) - {0}
    if not directions:
        return "mean"
    if len(directions) == 2:
        return "unclear"
    return "at least" if -1 in directions else "at most"


def confidence_half_width(values: Sequence[float]) -> float:
    """Return half of the 95% interval of a mean, by Student's t (scipy.stats).

    Args:
        values: two or more measurements.
    """
    t = float(stats.t.ppf(0.975, len(values) - 1))
    return t * stdev(values) / math.sqrt(len(values))


def best_crossings(arms: Sequence[dict[int, Crossing]]) -> dict[int, Crossing]:
    """Return by seed the earliest crossing of several arms; only seeds that all arms have."""
    directions = {}
    for seed in set.intersection(*(set(arm) for arm in arms)):
        candidates = [arm[seed] for arm in arms]
        reached = [candidate.at for candidate in candidates if candidate.at is not None]
        directions[seed] = Crossing(
            min(reached) if reached else None, min(candidate.end for candidate in candidates)
        )
    return directions
