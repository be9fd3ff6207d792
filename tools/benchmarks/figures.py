"""What every benchmark prints: figures measured side by side, as a table and as one JSON object."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, ours beside the reference's, both measured in this run.

    Attributes:
        name: what was measured.
        ours: our value.
        unit: of both values.
        reference: what we are compared with; empty where the goal is a plain bound.
        reference_value: its value, None if it could not be installed or run.
        ratio: ours divided by the reference's.
        goal: what the figure should be, in words.
        holds: whether it is; None where it cannot be said.
    """

    name: str
    ours: float
    unit: str
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    goal: str = ""
    holds: bool | None = None


def beside(
    name: str,
    ours: float,
    unit: str,
    reference: str,
    value: float | None,
    goal: float,
    *,
    most: bool,
) -> Figure:
    """A figure whose goal is a ratio to the reference: at most (`most`) or at least `goal`."""
    ratio = None if value is None else ours / value
    holds = None if ratio is None else (ratio <= goal if most else ratio >= goal)
    sign = "<=" if most else ">="
    return Figure(name, ours, unit, reference, value, ratio, f"{sign} {goal:g}x", holds)


def bound(name: str, ours: float, unit: str, goal: float, *, most: bool) -> Figure:
    """A figure whose goal is a number."""
    sign = "<=" if most else ">="
    holds = ours <= goal if most else ours >= goal
    return Figure(name, ours, unit, goal=f"{sign} {goal:g} {unit}", holds=holds)


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


MOST_ROUNDS = 25


def in_turn(*functions: Callable[[], Any], rounds: int = ROUNDS, least: float = 0.0) -> list[float]:
    """Median seconds of each function, all of them run in turn.

    Args:
        functions: what is measured.
        rounds: how often at least.
        least: seconds in all that are measured at least, in at most `MOST_ROUNDS` rounds.
    """
    times: list[list[float]] = []
    while len(times) < rounds or (len(times) < MOST_ROUNDS and sum(map(sum, times)) < least):
        times.append([seconds(function) for function in functions])
    return [statistics.median(column) for column in zip(*times, strict=True)]


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """Where the figures were measured."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        **versions,
    }


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark; one may add its own."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--output", choices=["text", "json"], default="text")
    options.add_argument("--quick", action="store_true", help="a shorter run, the same figures")
    return options


def arguments(description: str | None) -> argparse.Namespace:
    """What was asked of a benchmark without options of its own."""
    return parser(description).parse_args()


def say(message: str) -> None:
    """Progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def report(figures: Sequence[Figure], packages: Sequence[str], output: str) -> None:
    """Prints all figures."""
    if output == "json":
        record = {"machine": machine(packages), "figures": [asdict(f) for f in figures]}
        print(json.dumps(record))
        return
    table = Table("figure", "ours", "unit", "reference", "its value", "ratio", "goal", "holds")
    for f in figures:
        value = "missing" if f.reference and f.reference_value is None else _cell(f.reference_value)
        holds = {True: "yes", False: "NO", None: ""}[f.holds]
        row = (f.name, _cell(f.ours), f.unit, f.reference, value, _cell(f.ratio), f.goal, holds)
        table.add_row(*row)
    Console().print(table)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"
