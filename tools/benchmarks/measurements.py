"""Measurements of benchmarks and of their references, as a table and as one JSON object."""

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
class Measurement:
    """One value of ixt with that of a reference, both measured in this run.

    Attributes:
        name: name of the measurement.
        ours: value of ixt.
        unit: unit of both values.
        reference: name of the reference; empty where the goal is a limit.
        reference_value: value of the reference; None if it cannot be installed or run.
        ratio: value of ixt divided by that of the reference.
        goal: condition for the value, as text.
        holds: whether the value meets the goal; None if that is unknown.
    """

    name: str
    ours: float
    unit: str
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    goal: str = ""
    holds: bool | None = None


def compare(
    name: str,
    ours: float,
    unit: str,
    reference: str,
    value: float | None,
    goal: float,
    *,
    is_maximum: bool,
) -> Measurement:
    """Return a measurement whose goal is a maximum or minimum ratio to the reference."""
    ratio = None if value is None else ours / value
    holds = None if ratio is None else (ratio <= goal if is_maximum else ratio >= goal)
    sign = "<=" if is_maximum else ">="
    return Measurement(name, ours, unit, reference, value, ratio, f"{sign} {goal:g}x", holds)


def check_limit(name: str, ours: float, unit: str, goal: float, *, is_maximum: bool) -> Measurement:
    """Return a measurement whose goal is a maximum or minimum value."""
    sign = "<=" if is_maximum else ">="
    holds = ours <= goal if is_maximum else ours >= goal
    return Measurement(name, ours, unit, goal=f"{sign} {goal:g} {unit}", holds=holds)


def measure_seconds(function: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


MAX_ROUNDS = 25


def interleave(
    *functions: Callable[[], Any], rounds: int = ROUNDS, min_seconds: float = 0.0
) -> list[float]:
    """Return the median seconds of each function; each round runs all functions.

    Args:
        functions: functions to measure.
        rounds: minimum number of rounds.
        min_seconds: minimum total time, within `MAX_ROUNDS` rounds.
    """
    times: list[list[float]] = []
    while len(times) < rounds or (len(times) < MAX_ROUNDS and sum(map(sum, times)) < min_seconds):
        times.append([measure_seconds(function) for function in functions])
    return [statistics.median(column) for column in zip(*times, strict=True)]


def describe_machine(packages: Sequence[str]) -> dict[str, Any]:
    """Return cores, load and package versions."""
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


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--output", choices=["text", "json"], default="text")
    options.add_argument(
        "--quick", action="store_true", help="shorter run with the same measurements"
    )
    return options


def parse_arguments(description: str | None) -> argparse.Namespace:
    """Parse the arguments of a benchmark without additional options."""
    return make_parser(description).parse_args()


def log(message: str) -> None:
    """Print a message to stderr."""
    print(message, file=sys.stderr, flush=True)


def report(measurements: Sequence[Measurement], packages: Sequence[str], output: str) -> None:
    """Print all measurements."""
    if output == "json":
        record = {
            "machine": describe_machine(packages),
            "figures": [asdict(f) for f in measurements],
        }
        print(json.dumps(record))
        return
    table = Table("figure", "ours", "unit", "reference", "its value", "ratio", "goal", "holds")
    for f in measurements:
        value = "missing" if f.reference and f.reference_value is None else _cell(f.reference_value)
        holds = {True: "yes", False: "NO", None: ""}[f.holds]
        row = (f.name, _cell(f.ours), f.unit, f.reference, value, _cell(f.ratio), f.goal, holds)
        table.add_row(*row)
    # A table in a file or a pipe is not folded.
    Console(width=None if sys.stdout.isatty() else 240).print(table)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"
