"""The report as tables for the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ixt_data.console import format_count
from ixt_train.scaling.multipliers import Multiplier, is_lower_better
from ixt_train.scaling.report import ArmReport, GroupReport, RequiredBudget

if TYPE_CHECKING:
    from rich.console import Group

_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_quantity(value: float | None) -> str:
    """Format a number in three digits with a unit prefix."""
    if value is None:
        return "–"
    for size, letter in _UNITS:
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def format_budget(budget: RequiredBudget, axis: str) -> str:
    """Format a required budget, with the number of train runs if not all reached the target."""
    if not budget.reached:
        return "not reached"
    share = (
        ""
        if budget.reached == budget.runs
        else f" ({budget.reached} of {format_count(budget.runs, 'run')})"
    )
    return format_quantity(budget.mean[axis]) + share


def format_multiplier(multiplier: Multiplier | None) -> str:
    """Format a multiplier with its interval, or with its bound."""
    if multiplier is None:
        return ""
    if multiplier.value is None:
        return "neither reaches it" if multiplier.kind == "neither" else "unclear"
    if multiplier.kind == "at least":
        return f"> {multiplier.value:.2f}x"
    if multiplier.kind == "at most":
        return f"not reached (< {multiplier.value:.2f}x)"
    if multiplier.low is None:
        return f"{multiplier.value:.2f}x"
    return f"{multiplier.value:.2f}x ({multiplier.low:.2f} to {multiplier.high:.2f})"


def columns(group: GroupReport) -> list[str]:
    """Return the headings of `rows`."""
    heads = [f"{baseline}, {axis}" for baseline in group.baselines for axis in ("tokens", "FLOPs")]
    best = "lowest" if is_lower_better(group.metric) else "highest"
    return ["arm", "runs", best, "steps", "tokens", "FLOPs", *heads]


def rows(group: GroupReport, target: float) -> list[list[str]]:
    """Return a row for each arm: its budget, and its multipliers in tokens and FLOPs."""
    return [_row(group, arm, f"{target:g}") for arm in group.arms]


def _row(group: GroupReport, arm: ArmReport, target: str) -> list[str]:
    budget, against = arm.needs[target], arm.against[target]
    best = list(arm.best.values())
    span = f"{min(best):.2f}" + (f" to {max(best):.2f}" if len(best) > 1 else "")
    cells = [arm.arm, str(budget.runs), span]
    cells += [format_budget(budget, axis) for axis in ("steps", "tokens", "flops")]
    for baseline in group.baselines:
        multiplier = against.get(baseline, {})
        cells += [format_multiplier(multiplier.get(axis)) for axis in ("tokens", "flops")]
    return cells


def render_tables(groups: Sequence[GroupReport]) -> "Group":
    """Format the tables of all groups and targets."""
    from rich.console import Group, RenderableType

    from ixt_data.console import table

    parts: list[RenderableType] = []
    for group in groups:
        for target in group.targets:
            title = f"{group.group + ': ' if group.group else ''}{group.metric} at {target:g}"
            parts += [title, table(columns(group), rows(group, target)), ""]
    return Group(*parts)
