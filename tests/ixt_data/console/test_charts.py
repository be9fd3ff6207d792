"""Specs of charts: valid Vega-Lite, drawn as SVG and PNG."""

import re
from collections.abc import Callable

import altair
import pytest

from ixt_data.console.chart_images import chart_png, chart_svg
from ixt_data.console.charts import (
    Axis,
    ChartSize,
    LineStyle,
    Spec,
    count_chart,
    length_chart,
    line_chart,
    matrix_chart,
    tenths_chart,
)

SIZE = ChartSize(300, 150)
STYLES = {"plain": LineStyle("var(--ink)", (2, 3)), "filter": LineStyle("#0072b2")}
COLORS = dict.fromkeys(("--ink", "--soft", "--line", "--accent"), "#123456")


def lines(**options: object) -> Spec:
    curves = [("plain", [(1, 0.5), (2, 0.7)]), ("filter", [(1, 0.2), (2, 0.9)])]
    x = Axis("tokens", format="~s", is_logarithmic=True)
    return line_chart(curves, STYLES, x, Axis("y", (0, 1)), SIZE, description="d", **options)


CHARTS: dict[str, Callable[[], Spec]] = {
    "lines": lines,
    "targets": lambda: lines(targets=(0.3, 0.5), legend="right", is_smooth=True),
    "counts": lambda: count_chart(
        ["0", "1"], [3, 4], SIZE, title="score", description="d", links=["/a", "/b"]
    ),
    "small counts": lambda: count_chart(
        ["0", "1"],
        [3, 4],
        ChartSize(None, 80),
        title="",
        description="d",
        shown_labels=["0"],
        has_counts_axis=False,
    ),
    "tenths": lambda: tenths_chart(range(11), SIZE, title="score", description="d"),
    "lengths": lambda: length_chart(
        [(90.0, 3, 0.4), (180.0, 4, 0.6)], [(90.0, 0.4), (180.0, 0.6)], SIZE, description="d"
    ),
    "matrix": lambda: matrix_chart([[1, 2], [0, 4]], "one", "two", SIZE, description="d"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_spec_is_valid_vega_lite(name: str) -> None:
    altair.Chart.from_dict(CHARTS[name]())


@pytest.mark.parametrize("name", [name for name in CHARTS if "small" not in name])
def test_svg_uses_colors_of_the_page(name: str) -> None:
    drawn = chart_svg(CHARTS[name](), "a name")
    assert "var(--" in drawn
    assert "<svg" in drawn
    assert not re.search(r'<svg[^>]* width="', drawn)
    assert all(found.startswith("a-name-") for found in re.findall(r'\bid="([^"]*)', drawn))


def test_png_replaces_variables() -> None:
    assert chart_png(lines(), COLORS, "#ffffff").startswith(b"\x89PNG")
    with pytest.raises(KeyError, match="--ink"):
        chart_png(lines(), {"--soft": "#111111"}, "#ffffff")


def test_svg_escapes_untrusted_names() -> None:
    spec = matrix_chart([[1]], "<script>alert(1)</script>", "two", SIZE, description="<script>")
    assert "<script" not in chart_svg(spec, "x")


def test_lines_of_one_point_are_visible() -> None:
    spec = line_chart(
        [("plain", [(1, 1)])], {"plain": LineStyle("#000000")}, Axis(), Axis(), SIZE, description=""
    )
    assert spec["mark"]["point"] is True
