"""Vega-Lite specs of all charts, as plain dicts.

One spec serves a page's inline SVG, a PNG file (`chart_images`) and the inspector, where
vega-embed draws it in the browser. Colours are CSS variables of the page around the chart, such as
`var(--ink)`, so a chart follows the light and the dark theme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
Points = Sequence[tuple[float, float]]

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
INK, SOFT, GRID, ACCENT = "var(--ink)", "var(--soft)", "var(--line)", "var(--accent)"
FONT = "ui-sans-serif, system-ui, sans-serif"
CONFIG: Mapping[str, Any] = {
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "domainColor": GRID,
        "tickColor": GRID,
        "gridColor": GRID,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "legend": {"labelColor": INK, "labelFontSize": 13},
}


@dataclass(frozen=True, slots=True)
class ChartSize:
    """The size of the plot in pixels; without a width it fills its container in a browser."""

    width: int | None
    height: int


@dataclass(frozen=True, slots=True)
class LineStyle:
    """A colour (a CSS colour or `var(--name)`) and a dash pattern in pixels."""

    color: str
    dash: tuple[float, ...] = (1, 0)


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of numbers.

    Attributes:
        title: text next to the axis; none if empty.
        domain: lowest and highest value; by default those of the data.
        format: number format of d3, such as `~s` or `%`.
        ticks: approximate number of ticks.
        is_logarithmic: whether the scale is logarithmic.
        has_zero: whether the axis includes zero.
    """

    title: str = ""
    domain: tuple[float, float] | None = None
    format: str = "~g"
    ticks: int = 5
    is_logarithmic: bool = False
    has_zero: bool = False

    def encoding(self, field: str, *, has_grid: bool) -> Spec:
        """Return the channel of a field."""
        scale: Spec = {"type": "log" if self.is_logarithmic else "linear"}
        if self.domain is not None:
            scale["domain"] = list(self.domain)
        elif not self.is_logarithmic:
            scale["zero"] = self.has_zero
        return {
            "field": field,
            "type": "quantitative",
            "title": self.title or None,
            "scale": scale,
            "axis": {"grid": has_grid, "format": self.format, "tickCount": self.ticks},
        }


def line_chart(
    lines: Sequence[tuple[str, Points]],
    styles: Mapping[str, LineStyle],
    x: Axis,
    y: Axis,
    size: ChartSize,
    *,
    description: str,
    legend: str | None = "top",
    targets: Sequence[float] = (),
    width: float = 2,
    is_smooth: bool = False,
) -> Spec:
    """Return a chart of lines.

    Args:
        lines: name and points of each line; lines of one name share a style.
        styles: style by name, in the order of the legend.
        x: horizontal axis.
        y: vertical axis.
        size: size of the plot.
        description: text for screen readers.
        legend: position of the legend, None for no legend.
        targets: values of y that thin horizontal rules mark.
        width: width of the lines in pixels.
        is_smooth: whether lines are monotone curves instead of straight segments.
    """
    rows = [
        {"line": name, "number": number, "x": at, "y": value}
        for number, (name, points) in enumerate(lines)
        for at, value in points
    ]
    domain = list(styles)
    mark: Spec = {"type": "line", "strokeWidth": width}
    if is_smooth:
        mark["interpolate"] = "monotone"
    if all(len(points) == 1 for _, points in lines if points):
        # A line of one point has no length.
        mark["point"] = True
    drawn: Spec = {
        "data": {"values": rows},
        "mark": mark,
        "encoding": {
            "x": x.encoding("x", has_grid=False),
            "y": y.encoding("y", has_grid=True),
            "color": {
                "field": "line",
                "type": "nominal",
                "scale": {"domain": domain, "range": [style.color for style in styles.values()]},
                "legend": None
                if legend is None
                else {
                    "orient": legend,
                    "title": None,
                    "symbolType": "stroke",
                    "symbolSize": 700,
                    "columns": 1 if legend == "right" else 3,
                    "labelLimit": 240,
                },
            },
            "strokeDash": {
                "field": "line",
                "type": "nominal",
                "scale": {
                    "domain": domain,
                    "range": [list(style.dash) for style in styles.values()],
                },
                "legend": None,
            },
            "detail": {"field": "number", "type": "nominal"},
        },
    }
    if targets:
        rules: Spec = {
            "data": {"values": [{"target": target} for target in targets]},
            "mark": {"type": "rule", "strokeDash": [2, 3], "color": SOFT},
            "encoding": {"y": {"field": "target", "type": "quantitative"}},
        }
        drawn = {"layer": [rules, drawn]}
    return _complete(drawn, size, description)


def count_chart(
    labels: Sequence[str],
    counts: Sequence[int],
    size: ChartSize,
    *,
    title: str,
    description: str,
    shown_labels: Sequence[str] | None = None,
    links: Sequence[str] = (),
    has_counts_axis: bool = True,
) -> Spec:
    """Return bars of documents by a label, such as a score.

    Args:
        labels: a label per bar, in order.
        counts: documents per bar.
        size: size of the plot.
        title: title of the horizontal axis; none if empty.
        description: text for screen readers.
        shown_labels: the labels on the axis; all by default.
        links: address that a click on each bar opens; no links by default.
        has_counts_axis: whether there is a vertical axis.
    """
    rows: list[Spec] = [
        {"label": label, "documents": n} for label, n in zip(labels, counts, strict=True)
    ]
    if links:
        rows = [{**row, "link": link} for row, link in zip(rows, links, strict=True)]
    x_axis: Spec = {"labelAngle": 0}
    if shown_labels is not None:
        x_axis["values"] = list(shown_labels)
    y_axis: Spec | None = {"tickCount": 4, "format": ",d"} if has_counts_axis else None
    encoding: Spec = {
        "x": {
            "field": "label",
            "type": "ordinal",
            "title": title or None,
            "sort": None,
            "axis": x_axis,
        },
        "y": {"field": "documents", "type": "quantitative", "title": "documents", "axis": y_axis},
        "tooltip": [
            {"field": "label", "type": "nominal", "title": title or "value"},
            {"field": "documents", "type": "quantitative", "format": ",d"},
        ],
    }
    if links:
        encoding["href"] = {"field": "link", "type": "nominal"}
    mark = {"type": "bar", "color": ACCENT, "cornerRadiusEnd": 2}
    drawn: Spec = {"data": {"values": rows}, "mark": mark, "encoding": encoding}
    return _complete(drawn, size, description)


def tenths_chart(counts: Sequence[int], size: ChartSize, *, title: str, description: str) -> Spec:
    """Return bars of documents by score to the nearest tenth: 11 counts, from 0 to 1."""
    rows = [
        {"from": (i - 0.44) / 10, "to": (i + 0.44) / 10, "documents": count}
        for i, count in enumerate(counts)
    ]
    drawn: Spec = {
        "data": {"values": rows},
        "mark": {"type": "bar", "color": ACCENT, "cornerRadiusEnd": 2},
        "encoding": {
            "x": {
                "field": "from",
                "type": "quantitative",
                "title": title,
                "scale": {"domain": [-0.05, 1.05]},
                "axis": {"grid": False, "values": [0, 0.2, 0.4, 0.6, 0.8, 1.0], "format": ".1f"},
            },
            "x2": {"field": "to"},
            "y": {
                "field": "documents",
                "type": "quantitative",
                "title": "documents",
                "axis": {"tickCount": 4, "format": ",d"},
            },
            "y2": {"datum": 0},
        },
    }
    return _complete(drawn, size, description)


def length_chart(
    means: Sequence[tuple[float, int, float]],
    regression: Points,
    size: ChartSize,
    *,
    description: str,
) -> Spec:
    """Return mean scores by length, with a regression line.

    Args:
        means: characters, number of documents and mean score of each group of lengths.
        regression: points of the line; no line if empty.
        size: size of the plot.
        description: text for screen readers.
    """
    x = Axis("characters", format="~s", ticks=4, is_logarithmic=True)
    y = Axis("score", (0, 1))
    channels = {
        "x": x.encoding("characters", has_grid=False),
        "y": y.encoding("score", has_grid=True),
    }
    rows = [{"characters": at, "documents": n, "score": mean} for at, n, mean in means]
    circles: Spec = {
        "data": {"values": rows},
        "mark": {"type": "circle", "color": ACCENT, "opacity": 1},
        "encoding": {
            **channels,
            "size": {"field": "documents", "type": "quantitative", "legend": None},
        },
    }
    layers = [circles]
    if regression:
        line: Spec = {
            "data": {"values": [{"characters": at, "score": score} for at, score in regression]},
            "mark": {"type": "line", "color": INK, "strokeWidth": 1.5, "clip": True},
            "encoding": channels,
        }
        layers.insert(0, line)
    return _complete({"layer": layers}, size, description)


def matrix_chart(
    counts: Sequence[Sequence[int]], first: str, second: str, size: ChartSize, *, description: str
) -> Spec:
    """Return documents by two critics' scores: the more documents, the darker the cell.

    Args:
        counts: documents, by the first critic's score and then by the second's.
        first: title of the horizontal axis.
        second: title of the vertical axis.
        size: size of the plot.
        description: text for screen readers.
    """
    largest = max(map(max, counts)) or 1
    rows = [
        {"first": x, "second": y, "documents": n, "share": (n / largest) ** 0.5}
        for x, line in enumerate(counts)
        for y, n in enumerate(line)
        if n
    ]
    values = list(range(len(counts)))
    position: Spec = {
        "x": {
            "field": "first",
            "type": "ordinal",
            "title": first,
            "scale": {"domain": values},
            "axis": {"labelAngle": 0},
        },
        "y": {
            "field": "second",
            "type": "ordinal",
            "title": second,
            "scale": {"domain": values[::-1]},
        },
    }
    opacity = {
        "field": "share",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "range": [0.05, 0.75]},
        "legend": None,
    }
    number = {"field": "documents", "type": "quantitative", "format": ",d"}
    drawn: Spec = {
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "rect", "color": ACCENT},
                "encoding": {**position, "opacity": opacity},
            },
            {
                "mark": {"type": "text", "color": INK, "fontSize": 11},
                "encoding": {**position, "text": number},
            },
        ],
    }
    return _complete(drawn, size, description)


def _complete(drawn: Spec, size: ChartSize, description: str) -> Spec:
    """Return a chart with its size, theme and schema."""
    return {
        "$schema": SCHEMA,
        "description": description,
        "width": "container" if size.width is None else size.width,
        "height": size.height,
        "background": "transparent",
        **drawn,
        "config": dict(CONFIG),
    }
