"""Interpolation, multipliers and fits, on curves whose answers are known."""

import math
from typing import Any

import pytest

from ixt_data.errors import ConfigError
from ixt_train.scaling.curves import LearningCurve
from ixt_train.scaling.multipliers import Crossing, find_crossing, multiplier
from ixt_train.scaling.power_laws import fit_power_law
from ixt_train.scaling.report import compare_arms


def curve(
    arm: str, seed: int, values: list[float], metric: str = "tasks.sums", **keys: Any
) -> LearningCurve:
    steps = tuple(10 * (i + 1) for i in range(len(values)))
    defaults = {
        "group": "",
        "budget": "",
        "parameters": 1,
        "documents": 5,
        "digest": "",
        "steps": steps,
        "tokens": tuple(100 * step for step in steps),
        "flops": tuple(1e6 * step for step in steps),
    }
    return LearningCurve(arm=arm, seed=seed, metrics={metric: tuple(values)}, **(defaults | keys))


def test_crossing_is_between_two_evaluations() -> None:
    rising = curve("a", 0, [0.0, 0.2, 0.6, 0.1])
    assert find_crossing(rising, "tasks.sums", 0.3, "steps") == Crossing(22.5, 40)
    assert find_crossing(rising, "tasks.sums", 0.0, "tokens").at == 1000
    assert find_crossing(rising, "tasks.sums", 0.7, "flops") == Crossing(None, 40e6)
    falling = curve("a", 0, [4.0, 2.0], "loss.none.all")
    assert find_crossing(falling, "loss.none.all", 3.0, "steps").at == pytest.approx(
        10 * math.sqrt(2)
    )


def test_multiplier_is_the_geometric_mean_with_its_interval() -> None:
    ours = {s: Crossing(10.0, 40) for s in range(3)}
    theirs = {0: Crossing(20.0, 40), 1: Crossing(40.0, 40), 2: Crossing(10.0, 40)}
    found = multiplier(ours, theirs)
    assert (found.kind, found.value) == ("mean", pytest.approx(2.0))
    # ln 2, ln 4, ln 1: deviation ln 2, so half of the interval is 4.30265 ln 2 / sqrt 3.
    assert found.high == pytest.approx(2 * math.exp(4.3026527 * math.log(2) / math.sqrt(3)))
    assert found.low is not None
    assert found.low * (found.high or 0) == pytest.approx(4)


def test_multiplier_of_an_unreached_target_is_a_bound() -> None:
    reached, missed = Crossing(10.0, 40), Crossing(None, 40)
    assert multiplier({0: reached}, {0: missed}).kind == "at least"
    assert multiplier({0: reached}, {0: missed}).value == 4
    assert multiplier({0: missed}, {0: reached}).kind == "at most"
    assert multiplier({0: missed}, {0: missed}).value is None
    mixed = multiplier({0: reached, 1: missed}, {0: missed, 1: reached})
    assert (mixed.kind, mixed.value) == ("unclear", None)
    assert multiplier({0: reached}, {1: reached}).kind == "neither"


def test_compare_arms_uses_plain_every_filter_and_the_best_filter() -> None:
    curves = [curve("plain", 0, [0.0, 0.1, 0.2, 0.4]), curve("filter", 0, [0.0, 0.3, 0.9])]
    curves += [curve("filter-x10", 0, [0.3, 0.4]), curve("critique", 0, [0.0, 0.6, 0.9])]
    (group,) = compare_arms(curves)
    assert group.baselines == ("plain", "filter", "filter-x10", "filter|filter-x10")
    assert [arm.arm for arm in group.arms] == ["plain", "filter", "filter-x10", "critique"]
    against = group.arms[-1].against["0.3"]
    assert against["plain"]["steps"].value == pytest.approx(35 / 15)
    assert against["filter|filter-x10"]["tokens"].value == pytest.approx(10 / 15)
    assert group.arms[0].against["0.9"]["filter"]["steps"].kind == "at most"
    with pytest.raises(ConfigError, match=r"metric: 'loss' is not in every curve; valid are"):
        compare_arms(curves, "loss")


def test_annotation_flops_are_separate() -> None:
    curves = [curve("plain", 0, [0.0, 0.6]), curve("critique", 0, [0.6], annotation_flops=5e6)]
    (group,) = compare_arms(curves, targets=[0.6])
    conditioned = group.arms[-1].against["0.6"]["plain"]
    assert conditioned["flops"].value == pytest.approx(2.0)
    assert conditioned["flops with annotation"].value == pytest.approx(20 / 15)


def test_ends_of_budgets_form_a_curve() -> None:
    parts = [
        curve("plain", 0, [1.0] * n + [5.0 / n], "loss.inference.all", budget=f"{n}ba")
        for n in (4, 1, 2)
    ]
    (group,) = compare_arms(parts, targets=[2.0])
    assert group.arms[0].needs["2"].mean["steps"] == pytest.approx(30 * (5 / 3) ** (1 / 5), rel=0.3)
    assert group.arms[0].best[0] == 1.25


def test_power_law_fit_finds_the_floor() -> None:
    compute = [10.0**n for n in range(1, 8)]
    law = fit_power_law(compute, [1.5 + 4 * c**-0.3 for c in compute])
    assert law is not None
    assert (law.exponent, law.floor) == (pytest.approx(0.3, abs=0.02), pytest.approx(1.5, abs=0.03))
    assert law.r2 > 0.999
    assert fit_power_law(compute[:3], [3.0, 2.0, 1.0]) is None
    few = fit_power_law(compute[:4], [4 * c**-0.3 for c in compute[:4]])
    assert few is not None
    assert few.floor == 0
