"""The report: by group and target, each arm's budget and its multipliers over baselines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from ixt_data.errors import ConfigError
from ixt_train.scaling.curves import AXES, LearningCurve
from ixt_train.scaling.multipliers import (
    Crossing,
    Multiplier,
    best_crossings,
    find_crossing,
    is_lower_better,
    multiplier,
)
from ixt_train.scaling.power_laws import PowerLaw, fit_power_law

ACCURACIES = (0.3, 0.5, 0.9)
WITH_ANNOTATION = "flops with annotation"
EITHER = "|"
"""Separator between arms of which the better one is the baseline, seed by seed."""


@dataclass(frozen=True)
class RequiredBudget:
    """The budget that an arm needs to reach a target.

    Attributes:
        reached, runs: number of its train runs that reach the target, and of all.
        mean: by axis, the mean over those that do.
        seeds: by axis, the value of each seed, None if it does not reach the target.
    """

    reached: int
    runs: int
    mean: Mapping[str, float | None]
    seeds: Mapping[str, Mapping[int, float | None]]


@dataclass(frozen=True)
class ArmReport:
    """One arm of a group.

    Attributes:
        arm: its name.
        seeds: seeds of its train runs.
        documents: different documents drawn, the maximum over its train runs.
        parameters: number of the model's parameters.
        annotation_flops: FLOPs of the critics that it needs, separate from training.
        best, last: values of the metric, by seed.
        needs: required budgets, by target.
        against: multipliers, by target, baseline and axis.
        power_law: power law of the loss over FLOPs, if there are enough points.
    """

    arm: str
    seeds: tuple[int, ...]
    documents: int
    parameters: int
    annotation_flops: float
    best: Mapping[int, float]
    last: Mapping[int, float]
    needs: Mapping[str, RequiredBudget]
    against: Mapping[str, Mapping[str, Mapping[str, Multiplier]]]
    power_law: PowerLaw | None


@dataclass(frozen=True)
class GroupReport:
    """Arms that can be compared: the same corpus, model and task."""

    group: str
    metric: str
    targets: tuple[float, ...]
    baselines: tuple[str, ...]
    arms: tuple[ArmReport, ...]


def compare_arms(
    curves: Iterable[LearningCurve],
    metric: str | None = None,
    targets: Sequence[float] = (),
    against: Sequence[str] = (),
) -> list[GroupReport]:
    """Compare the arms of each group of curves.

    Args:
        curves: curves of any arms, seeds and budgets.
        metric: metric to compare; by default the first task, else the loss under the best feedback.
        targets: values of the metric; by default .3, .5 and .9 of a task, or the losses of `plain`
            (else of the worst arm) at half of its compute and at its end.
        against: baselines, each an arm or the better of several as in `plain|filter`; by default
            plain, every filter, and the best filter if there are several.

    Raises:
        ConfigError: no curve exists, or not all of them have the metric.
    """
    groups = defaultdict[str, list[LearningCurve]](list)
    for curve in curves:
        groups[curve.group].append(curve)
    if not groups:
        raise ConfigError("no curves: name run folders, a file of curves, or a scaling config")
    return [_group(name, groups[name], metric, targets, against) for name in sorted(groups)]


def join_budgets(curves: Iterable[LearningCurve]) -> list[LearningCurve]:
    """Return one curve per arm and seed: its only budget's, or the ends of its budgets.

    With a falling learning rate, a model is good at the end of its budget, not before.
    """
    runs = defaultdict[tuple[str, int], list[LearningCurve]](list)
    for curve in curves:
        runs[curve.arm, curve.seed].append(curve)
    return [_ends(parts) if len(parts) > 1 else parts[0] for _, parts in sorted(runs.items())]


def _ends(parts: list[LearningCurve]) -> LearningCurve:
    parts = sorted(parts, key=lambda curve: curve.tokens[-1])
    shared = set.intersection(*(set(curve.metrics) for curve in parts))
    return replace(
        parts[-1],
        budget=", ".join(curve.budget for curve in parts),
        steps=tuple(curve.steps[-1] for curve in parts),
        tokens=tuple(curve.tokens[-1] for curve in parts),
        flops=tuple(curve.flops[-1] for curve in parts),
        metrics={name: tuple(c.metrics[name][-1] for c in parts) for name in shared},
        seconds=sum(curve.seconds for curve in parts),
    )


def _group(
    name: str,
    curves: Sequence[LearningCurve],
    metric: str | None,
    targets: Sequence[float],
    against: Sequence[str],
) -> GroupReport:
    curves = join_budgets(curves)
    metric = _metric(curves, metric)
    arms = defaultdict[str, dict[int, LearningCurve]](dict)
    for curve in curves:
        arms[curve.arm][curve.seed] = curve
    chosen_targets = tuple(targets) or _targets(arms, metric)
    baselines = tuple(against) or _baselines(list(arms))
    reports = [
        _arm(arm, arms, metric, chosen_targets, [b for b in baselines if _has_arms(b, arms)])
        for arm in arms
    ]
    order = {arm: i for i, arm in enumerate(baselines)}
    reports.sort(key=lambda report: (order.get(report.arm, len(order)), report.arm))
    return GroupReport(name, metric, chosen_targets, baselines, tuple(reports))


def _metric(curves: Sequence[LearningCurve], requested: str | None) -> str:
    shared = sorted(set.intersection(*(set(curve.metrics) for curve in curves)))
    if requested is not None and requested in shared:
        return requested
    if requested is not None or not shared:
        known = ", ".join(shared) or "none"
        raise ConfigError(f"metric: {requested!r} is not in every curve; valid are: {known}")
    tasks = [name for name in shared if name.startswith("tasks.")]
    losses = [name for name in shared if name.startswith("loss.inference.")]
    return (tasks or losses[-1:] or shared)[0]


def _targets(arms: Mapping[str, Mapping[int, LearningCurve]], metric: str) -> tuple[float, ...]:
    if not is_lower_better(metric):
        return ACCURACIES
    ends = {arm: fmean(c.metrics[metric][-1] for c in runs.values()) for arm, runs in arms.items()}
    reference = "plain" if "plain" in arms else max(ends, key=lambda arm: ends[arm])
    halves = [c.metrics[metric][(len(c.steps) - 1) // 2] for c in arms[reference].values()]
    return tuple(dict.fromkeys(round(value, 4) for value in (fmean(halves), ends[reference])))


def _baselines(arms: Sequence[str]) -> tuple[str, ...]:
    filters = sorted(arm for arm in arms if arm.startswith("filter"))
    best = (EITHER.join(filters),) if len(filters) > 1 else ()
    return (*(arm for arm in arms if arm == "plain"), *filters, *best)


def _has_arms(baseline: str, arms: Mapping[str, Any]) -> bool:
    return all(part in arms for part in baseline.split(EITHER))


def _arm(
    name: str,
    arms: Mapping[str, Mapping[int, LearningCurve]],
    metric: str,
    targets: Sequence[float],
    baselines: Sequence[str],
) -> ArmReport:
    runs = arms[name]
    best_value = min if is_lower_better(metric) else max
    power_law = None
    if is_lower_better(metric):
        points = [p for c in runs.values() for p in zip(c.flops, c.metrics[metric], strict=True)]
        power_law = fit_power_law([flops for flops, _ in points], [loss for _, loss in points])
    return ArmReport(
        arm=name,
        seeds=tuple(sorted(runs)),
        documents=max(curve.documents for curve in runs.values()),
        parameters=max(curve.parameters for curve in runs.values()),
        annotation_flops=max(curve.annotation_flops for curve in runs.values()),
        best={seed: best_value(runs[seed].metrics[metric]) for seed in sorted(runs)},
        last={seed: runs[seed].metrics[metric][-1] for seed in sorted(runs)},
        needs={f"{target:g}": _need(runs, metric, target) for target in targets},
        against={
            f"{target:g}": {
                baseline: _against(runs, baseline, arms, metric, target)
                for baseline in baselines
                if baseline != name
            }
            for target in targets
        },
        power_law=power_law,
    )


def _crossings(
    runs: Mapping[int, LearningCurve], metric: str, target: float, axis: str
) -> dict[int, Crossing]:
    if axis != WITH_ANNOTATION:
        return {seed: find_crossing(curve, metric, target, axis) for seed, curve in runs.items()}
    reports = _crossings(runs, metric, target, "flops")
    return {
        seed: Crossing(None if c.at is None else c.at + extra, c.end + extra)
        for seed, c in reports.items()
        for extra in (runs[seed].annotation_flops,)
    }


def _need(runs: Mapping[int, LearningCurve], metric: str, target: float) -> RequiredBudget:
    seeds = {
        axis: {seed: c.at for seed, c in sorted(_crossings(runs, metric, target, axis).items())}
        for axis in AXES
    }
    reached_at = {
        axis: [at for at in each.values() if at is not None] for axis, each in seeds.items()
    }
    mean = {axis: fmean(each) if each else None for axis, each in reached_at.items()}
    return RequiredBudget(len(reached_at["steps"]), len(runs), mean, seeds)


def _against(
    runs: Mapping[int, LearningCurve],
    baseline: str,
    arms: Mapping[str, Mapping[int, LearningCurve]],
    metric: str,
    target: float,
) -> dict[str, Multiplier]:
    baseline_runs = [arms[part] for part in baseline.split(EITHER)]
    all_curves = [curve for group in (runs, *baseline_runs) for curve in group.values()]
    axes = AXES + ((WITH_ANNOTATION,) if any(c.annotation_flops for c in all_curves) else ())
    return {
        axis: multiplier(
            _crossings(runs, metric, target, axis),
            best_crossings([_crossings(other, metric, target, axis) for other in baseline_runs]),
        )
        for axis in axes
    }


def report_record(groups: Sequence[GroupReport]) -> dict[str, Any]:
    """Return the report as a JSON object; JSON requires text keys, also for seeds."""
    return {"groups": [_plain(asdict(group)) for group in groups]}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
