"""The report as tables for the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ixt_train.scaling.multipliers import Multiplier, falls
from ixt_train.scaling.report import ArmReport, GroupReport, RequiredBudget

if TYPE_CHECKING:
    from rich.console import Group

_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float | None) -> str:
    """Format a number in three digits with a unit prefix."""
    if value is None:
        return "–"
    for size, letter in _UNITS:
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def needed(need: RequiredBudget, axis: str) -> str:
    """Format a required budget, with the number of train runs if not all reached the target."""
    if not need.reached:
        return "not reached"
    share = "" if need.reached == need.runs else f" ({need.reached} of {need.runs} runs)"
    return quantity(need.mean[axis]) + share


def times(found: Multiplier | None) -> str:
    """Format a multiplier with its interval, or with its bound."""
    if found is None:
        return ""
    if found.value is None:
        return "neither reaches it" if found.kind == "neither" else "unclear"
    if found.kind == "at least":
        return f"> {found.value:.2f}x"
    if found.kind == "at most":
        return f"not reached (< {found.value:.2f}x)"
    if found.low is None:
        return f"{found.value:.2f}x"
    return f"{found.value:.2f}x ({found.low:.2f} to {found.high:.2f})"


def columns(group: GroupReport) -> list[str]:
    """Return the headings of `rows`."""
    heads = [f"{baseline}, {axis}" for baseline in group.baselines for axis in ("tokens", "FLOPs")]
    best = "lowest" if falls(group.metric) else "highest"
    return ["arm", "runs", best, "steps", "tokens", "FLOPs", *heads]


def rows(group: GroupReport, target: float) -> list[list[str]]:
    """Return a row for each arm: its budget, and its multipliers in tokens and FLOPs."""
    return [_row(group, arm, f"{target:g}") for arm in group.arms]


def _row(group: GroupReport, arm: ArmReport, target: str) -> list[str]:
    need, against = arm.needs[target], arm.against[target]
    best = list(arm.best.values())
    span = f"{min(best):.2f}" + (f" to {max(best):.2f}" if len(best) > 1 else "")
    cells = [arm.arm, str(need.runs), span]
    cells += [needed(need, axis) for axis in ("steps", "tokens", "flops")]
    for baseline in group.baselines:
        found = against.get(baseline, {})
        cells += [times(found.get(axis)) for axis in ("tokens", "flops")]
    return cells


def render(groups: Sequence[GroupReport]) -> "Group":
    """Format the tables of all groups and targets."""
    from rich.console import Group, RenderableType

    from ixt_data.console import table

    shown: list[RenderableType] = []
    for group in groups:
        for target in group.targets:
            title = f"{group.group + ': ' if group.group else ''}{group.metric} at {target:g}"
            shown += [title, table(columns(group), rows(group, target)), ""]
    return Group(*shown)
