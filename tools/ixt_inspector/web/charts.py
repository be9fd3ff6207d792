"""Charts of the inspector: Vega-Lite specs that vega-embed draws in the browser.

Small bars inside table cells (the macros `meter` and `spark` in parts.html) and the shaded cells of
the table of two critics are plain HTML with CSS: they illustrate numbers that stand beside them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_data.console import (
    ACCENT,
    SOFT,
    Axis,
    ChartSize,
    LineStyle,
    Spec,
    count_chart,
    line_chart,
)
from ixt_data.sql import SCORE_STEPS, step_bounds
from ixt_inspector.web.text import make_visible

STEPS = tuple(range(SCORE_STEPS))
LABELS = tuple(str(step / 10) for step in STEPS)
LINE_DASHES = ((1, 0), (7, 3), (2, 3.5), (9, 3, 2, 3), (4, 2), (1, 4))
MAX_LINES = len(LINE_DASHES)


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """One bar: its step of the score, and the number of documents."""

    step: int
    n: int

    def bounds(self) -> dict[str, float]:
        """Return the filter of its documents: `low` and `high`, both included, where they exist."""
        low, high = step_bounds(self.step)
        bounds = {"low": low, "high": high}
        return {name: bound for name, bound in bounds.items() if bound is not None}


def histogram_bars(counts: Mapping[int, int]) -> list[HistogramBar]:
    """Return all bars of a histogram of scores."""
    return [HistogramBar(step, counts.get(step, 0)) for step in STEPS]


def histogram_chart(
    bars: Sequence[HistogramBar], description: str, link_of: Callable[[HistogramBar], str]
) -> Spec:
    """Return a histogram of scores with axes, whose bars link to their documents."""
    return count_chart(
        LABELS,
        [bar.n for bar in bars],
        ChartSize(None, 200),
        title="score",
        description=description,
        links=[link_of(bar) for bar in bars],
    )


def small_histogram_chart(bars: Sequence[HistogramBar], description: str) -> Spec:
    """Return a small histogram of scores without a vertical axis."""
    return count_chart(
        LABELS,
        [bar.n for bar in bars],
        ChartSize(None, 80),
        title="",
        description=make_visible(description),
        shown_labels=(LABELS[0], LABELS[5], LABELS[10]),
        has_counts_axis=False,
    )


def before_after_chart(scores: Sequence[tuple[int, int, int]], description: str) -> Spec:
    """Return the shares of documents and of draws by score, as pairs of bars.

    Args:
        scores: step of the score, number of documents, and number of draws.
        description: text for screen readers.
    """
    size, labels = ChartSize(None, 200), [LABELS[step] for step, _, _ in scores]
    groups = {"all documents": [n for _, n, _ in scores], "draws": [n for _, _, n in scores]}
    chart = count_chart(
        labels, groups["draws"], size, title="score", description=make_visible(description)
    )
    rows = [
        {"label": label, "group": name, "share": n / max(1, sum(counts))}
        for name, counts in groups.items()
        for label, n in zip(labels, counts, strict=True)
    ]
    axis = {"title": "share", "axis": {"tickCount": 4, "format": "%"}}
    color = {
        "scale": {"domain": list(groups), "range": [SOFT, ACCENT]},
        "legend": {"orient": "top", "title": None},
    }
    encoding = {
        "x": chart["encoding"]["x"],
        "xOffset": {"field": "group", "type": "nominal", "sort": list(groups)},
        "y": {"field": "share", "type": "quantitative", **axis},
        "color": {"field": "group", "type": "nominal", **color},
    }
    mark = {"type": "bar", "cornerRadiusEnd": 2}
    return {**chart, "data": {"values": rows}, "mark": mark, "encoding": encoding}


@dataclass(frozen=True, slots=True)
class CurvesChart:
    """A chart of train runs.

    Attributes:
        title: name of the metric.
        unit: unit of the metric.
        spec: the chart; the legend of the page explains its lines.
        last_values: last value by run.
    """

    title: str
    unit: str
    spec: Spec
    last_values: Mapping[str, float]


def curves_chart(
    title: str, unit: str, curves: Mapping[str, Sequence[tuple[float, float]]]
) -> CurvesChart | None:
    """Return a metric over tokens, one line per run; None without a finite value.

    Args:
        title: name of the metric.
        unit: unit of the metric.
        curves: points by run, in order of tokens; a run without points reserves its style.
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()
    }
    shown = {name: points for name, points in finite.items() if points}
    if not shown:
        return None
    styles = {
        make_visible(name): LineStyle(
            f"var(--line-{number % MAX_LINES})", LINE_DASHES[number % MAX_LINES]
        )
        for number, name in enumerate(curves)
    }
    spec = line_chart(
        [(make_visible(name), points) for name, points in shown.items()],
        styles,
        Axis("tokens", format="~s", ticks=6),
        Axis(),
        ChartSize(None, 200),
        description=make_visible(f"{title}, {unit}, over tokens"),
        legend=None,
    )
    return CurvesChart(title, unit, spec, {name: points[-1][1] for name, points in shown.items()})


def shade_level(n: int, largest: int) -> int:
    """Return the shade of a table's cell, 0 to 9, on a logarithmic scale."""
    return 0 if not n else 1 + round(8 * math.log1p(n) / math.log1p(largest))


def histogram_counts(rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Return counts by step from rows with `step` and `n`."""
    counts: dict[int, int] = {}
    for row in rows:
        counts[row["step"]] = counts.get(row["step"], 0) + row["n"]
    return counts
