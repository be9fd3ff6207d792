"""Where the lines and bars of a chart are; templates draw them as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STEPS = tuple(range(11))
"""Scores are counted to the nearest tenth, as they are told to a model."""
COLOURS = 6


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """One bar: its step of the score, documents, and height as a share of the highest."""

    step: int
    n: int
    height: float

    @property
    def low(self) -> float:
        """The lowest score in it."""
        return max(0.0, round(self.step / 10 - 0.05, 2))

    @property
    def high(self) -> float:
        """The highest score in it; one that lies between two is in the upper one."""
        return min(1.0, round(self.step / 10 + 0.0499, 4))


def bars(counts: Mapping[int, int]) -> list[HistogramBar]:
    """A histogram of scores."""
    most = max(counts.values(), default=0) or 1
    return [HistogramBar(step, counts.get(step, 0), counts.get(step, 0) / most) for step in STEPS]


@dataclass(frozen=True, slots=True)
class ChartLine:
    """A line: its name, number of its colour, and path."""

    name: str
    colour: int
    path: str
    last: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a common axis, in the units of the drawing.

    Attributes:
        width, height: of the drawing.
        left: where the axis is.
        lines: what is drawn.
        x, y: places and labels of the marks on the axes.
    """

    width: int
    height: int
    left: int
    lines: tuple[ChartLine, ...]
    x: tuple[tuple[float, str], ...]
    y: tuple[tuple[float, str], ...]


LEFT, RIGHT, TOP, BOTTOM = 48, 16, 10, 26


def chart(
    curves: Mapping[str, Sequence[tuple[float, float]]], width: int = 460, height: int = 220
) -> Chart | None:
    """Curves (points by name, in order of x) as paths, None if there is nothing to draw."""
    known = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()
    }
    xs = [x for points in known.values() for x, _ in points]
    ys = [y for points in known.values() for _, y in points]
    if not xs:
        return None
    across, up = ticks(min(xs), max(xs), 6), ticks(min(ys), max(ys), 5)
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)
    low, high = min(up[0], min(ys)), max(up[-1], max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        wide, tall = width - LEFT - RIGHT, height - TOP - BOTTOM
        return (
            round(LEFT + wide * (x - left) / (right - left), 1),
            round(TOP + tall * (1 - (y - low) / ((high - low) or 1)), 1),
        )

    lines = [
        ChartLine(name, i % COLOURS, _path([place(*point) for point in points]), points[-1][1])
        for i, (name, points) in enumerate(known.items())
        if points
    ]
    return Chart(
        width,
        height,
        LEFT,
        tuple(lines),
        tuple((place(x, low)[0], label(x)) for x in across if left <= x <= right),
        tuple((place(left, y)[1], label(y)) for y in up),
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about so many of them."""
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]


def label(value: float) -> str:
    """A number on an axis."""
    for bound, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= bound:
            return f"{value / bound:g}{letter}"
    return f"{value:.4g}"


def _path(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:
        # A dot: a line of no length with round ends.
        points = [points[0], points[0]]
    return "M" + "L".join(f"{x},{y}" for x, y in points)


def shade(n: int, most: int) -> int:
    """How dark a cell of a table is, 0 to 9, on a logarithmic scale."""
    return 0 if not n else 1 + round(8 * math.log1p(n) / math.log1p(most))


def histogram(rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Counts by step, of rows `step, n`."""
    counts: dict[int, int] = {}
    for row in rows:
        counts[row["step"]] = counts.get(row["step"], 0) + row["n"]
    return counts
