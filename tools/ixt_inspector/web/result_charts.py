"""Charts of the rows of a query: bars, lines, points, or a histogram."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ixt_data.console import ACCENT, ChartSize, Spec, complete_chart
from ixt_inspector.web.chart_files import LINE_COLORS
from ixt_inspector.web.document_columns import is_number
from ixt_inspector.web.text import make_visible

KINDS = {"bar": "bars", "line": "lines", "scatter": "points", "histogram": "histogram"}
MAX_BARS = 60
"""Bars of a chart: more cannot be read."""
MAX_COLORS = len(LINE_COLORS)
HISTOGRAM_BINS = 30
_LABEL_CHARS = 60
_SIZE = ChartSize(None, 320)


@dataclass(frozen=True, slots=True)
class ResultChart:
    """A chart, and what it leaves out.

    Attributes:
        spec: the chart; None if no row has the values that it needs.
        drawn: number of rows that it shows.
        left_out: number of rows that it does not show.
        reason: why it does not show them; empty if it shows all.
    """

    spec: Spec | None
    drawn: int
    left_out: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ChartColumns:
    """The columns of a chart by their numbers in the rows; None for no column."""

    kind: str
    x: int
    y: int | None
    color: int | None


def choose_columns(types: Sequence[str]) -> ChartColumns | None:
    """Return the columns that a chart shows by default; None if no column is a number."""
    numbers = [number for number, kind in enumerate(types) if is_number(kind)]
    others = [number for number in range(len(types)) if number not in numbers]
    if not numbers:
        return None
    if others:
        kind = "line" if _is_time(types[others[0]]) else "bar"
        return ChartColumns(kind, others[0], numbers[0], None)
    if len(numbers) > 1:
        return ChartColumns("scatter", numbers[0], numbers[1], None)
    return ChartColumns("histogram", numbers[0], None, None)


def result_chart(
    chosen: ChartColumns, names: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]
) -> ResultChart:
    """Return the chart of rows; a row without a needed value is left out."""
    if chosen.kind == "histogram":
        return _histogram(names[chosen.x], [row[chosen.x] for row in rows])
    assert chosen.y is not None
    values: list[Spec] = []
    colors: dict[str, int] = {}
    for row in rows:
        x, y = _value(row[chosen.x], types[chosen.x]), _value(row[chosen.y], types[chosen.y])
        if x is None or not isinstance(y, int | float):
            continue
        value = {"x": x, "y": y}
        if chosen.color is not None:
            name = _label(row[chosen.color])
            if name not in colors and len(colors) == MAX_COLORS:
                continue
            colors.setdefault(name, len(colors))
            value["color"] = name
        values.append(value)
    reason = "a value is missing"
    if chosen.color is not None and len(colors) == MAX_COLORS:
        reason += f", or there are more than {MAX_COLORS} colors"
    if chosen.kind == "bar":
        bars = list(dict.fromkeys(value["x"] for value in values))[:MAX_BARS]
        if len({value["x"] for value in values}) > MAX_BARS:
            reason += f", or there are more than {MAX_BARS} bars"
            shown = set(bars)
            values = [value for value in values if value["x"] in shown]
    left_out = len(rows) - len(values)
    if not values:
        return ResultChart(None, 0, left_out, reason)
    spec = _spec(chosen, names, types, values, list(colors))
    return ResultChart(spec, len(values), left_out, reason if left_out else "")


def _spec(
    chosen: ChartColumns,
    names: Sequence[str],
    types: Sequence[str],
    values: list[Spec],
    colors: list[str],
) -> Spec:
    assert chosen.y is not None
    x, y = make_visible(names[chosen.x]), make_visible(names[chosen.y])
    kind = types[chosen.x]
    x_type = "temporal" if _is_time(kind) else "quantitative" if is_number(kind) else "nominal"
    if chosen.kind == "bar":
        x_type = "nominal"
    mark: Spec = {
        "bar": {"type": "bar", "cornerRadiusEnd": 2},
        "line": {"type": "line", "point": len(values) <= MAX_BARS},
        "scatter": {"type": "circle", "opacity": 0.6, "size": 36},
    }[chosen.kind]
    channel: Spec = {"field": "x", "type": x_type, "title": x}
    if x_type == "nominal":
        channel |= {"sort": None, "axis": {"labelLimit": 140, "labelOverlap": True}}
    else:
        channel |= {"scale": {"zero": False}, "axis": {"grid": chosen.kind == "scatter"}}
    encoding: Spec = {
        "x": channel,
        "y": {
            "field": "y",
            "type": "quantitative",
            "title": y,
            "scale": {"zero": chosen.kind == "bar"},
        },
    }
    if colors:
        encoding["color"] = {
            "field": "color",
            "type": "nominal",
            "scale": {"domain": colors, "range": LINE_COLORS[: len(colors)]},
            "legend": {"orient": "top", "title": None, "labelLimit": 240, "columns": 3},
        }
        if chosen.kind == "bar":
            encoding["xOffset"] = {"field": "color", "type": "nominal", "sort": colors}
    else:
        mark["color"] = ACCENT
    description = f"{KINDS[chosen.kind]}: {y} by {x}"
    drawn = {"data": {"values": values}, "mark": mark, "encoding": encoding}
    return complete_chart(drawn, _SIZE, description)


def _histogram(name: str, cells: Sequence[Any]) -> ResultChart:
    numbers = [number for cell in cells if (number := _number(cell)) is not None]
    left_out = len(cells) - len(numbers)
    if not numbers:
        return ResultChart(None, 0, left_out, "a value is missing")
    values = np.array(numbers, np.float64)
    edges = _histogram_edges(float(values.min()), float(values.max()))
    counts, _ = np.histogram(values, bins=edges)
    rows = [
        {"x": float(low), "x_end": float(high), "rows": int(n)}
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    title = make_visible(name)
    drawn: Spec = {
        "data": {"values": rows},
        "mark": {"type": "bar", "color": ACCENT, "binSpacing": 1},
        "encoding": {
            "x": {
                "field": "x",
                "type": "quantitative",
                "title": title,
                "bin": {"binned": True},
                "axis": {"grid": False, "format": "~g"},
            },
            "x2": {"field": "x_end"},
            "y": {
                "field": "rows",
                "type": "quantitative",
                "title": "rows",
                "axis": {"tickCount": 4, "format": ",d"},
            },
        },
    }
    spec = complete_chart(drawn, _SIZE, f"histogram of {title}")
    return ResultChart(spec, len(numbers), left_out, "a value is missing" if left_out else "")


def _histogram_edges(low: float, high: float) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return finite and increasing edges of at most `HISTOGRAM_BINS` bins."""
    if low == high:
        margin = max(0.5, abs(low) / 1000)
        low, high = max(low - margin, -sys.float_info.max), min(high + margin, sys.float_info.max)
    # The difference of two values may be infinite, but not that of their halves.
    scale = 1.0 if math.isfinite(high - low) else 0.5
    edges: np.ndarray[Any, np.dtype[np.float64]]
    edges = np.unique(np.linspace(low * scale, high * scale, HISTOGRAM_BINS + 1) / scale)
    return edges


def _value(cell: Any, kind: str) -> Any:
    """Return a value as Vega reads it; None if it is missing."""
    if is_number(kind):
        return _number(cell)
    return None if cell is None else str(cell) if _is_time(kind) else _label(cell)


def _number(cell: Any) -> float | int | None:
    try:
        number = cell if isinstance(cell, int | float) else float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _label(cell: Any) -> str:
    text = make_visible(str(cell))
    return text if len(text) <= _LABEL_CHARS else f"{text[:_LABEL_CHARS]}…"


def _is_time(kind: str) -> bool:
    return kind == "DATE" or kind.startswith("TIMESTAMP")
