"""Charts: inline SVG whose colours are the page's CSS variables, or PNG files of their own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixt_tools.report.content import Arm, Histogram

# A colour that is drawn, and the CSS variable that stands in its place afterwards.
VARIABLES = {
    "#010101": "--ink",
    "#020202": "--soft",
    "#030303": "--line",
    "#040404": "--accent",
    "#050505": "--page",
    "#060606": "--arm-plain",
    "#070707": "--arm-filter",
    "#080808": "--arm-score",
    "#090909": "--arm-critique",
}
# The same colours where there is no page around the chart: those of the light theme.
LIGHT = {
    "#010101": "#1c1d1f",
    "#020202": "#5f636a",
    "#030303": "#d9dad5",
    "#040404": "#3f6f8f",
    "#050505": "#fcfcfa",
    "#060606": "#8a8d93",
    "#070707": "#3f78b5",
    "#080808": "#a8740f",
    "#090909": "#c2410c",
}
INK, SOFT, LINE, ACCENT, PAGE = list(VARIABLES)[:5]
ARM_COLOURS = dict(zip(("plain", "filter", "score", "critique"), list(VARIABLES)[5:], strict=True))
ARM_DASHES = {"plain": [2, 3], "filter": [7, 3], "score": [5, 2, 1, 2], "critique": [1, 0]}
FONT = "ui-sans-serif, system-ui, sans-serif"
VEGA_LITE = "5.20"
_STYLE: Mapping[str, Any] = {
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "domainColor": LINE,
        "tickColor": LINE,
        "gridColor": LINE,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "legend": {"labelColor": INK, "labelFontSize": 13},
}


def accuracy_chart(arms: Sequence[Arm], width: int = 700, height: int = 300) -> "ChartImage":
    """Accuracy over steps, one line an arm."""
    import altair as alt

    rows = [
        {"arm": arm.name, "step": step, "accuracy": accuracy}
        for arm in arms
        for step, accuracy in zip(arm.steps, arm.accuracy, strict=True)
    ]
    names = [arm.name for arm in arms]
    colour = alt.Color(
        "arm:N",
        scale=alt.Scale(domain=names, range=[ARM_COLOURS.get(name, INK) for name in names]),
        legend=alt.Legend(orient="top", title=None, symbolType="stroke", symbolSize=700),
    )
    lines = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("step:Q", title="training steps", axis=alt.Axis(grid=False, tickCount=6)),
        y=alt.Y(
            "accuracy:Q",
            title="problems solved",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%", tickCount=5),
        ),
        color=colour,
    )
    dash = alt.StrokeDash(
        "arm:N",
        scale=alt.Scale(domain=names, range=[ARM_DASHES.get(name, [1, 0]) for name in names]),
        legend=None,
    )
    drawn = lines.mark_line(strokeWidth=2.5, interpolate="monotone").encode(strokeDash=dash)
    return ChartImage(drawn, width, height, "accuracy")


def histogram_chart(histogram: Histogram, width: int = 320, height: int = 190) -> "ChartImage":
    """Documents per tenth of the score."""
    import altair as alt

    rows = [
        {"from": (i + 0.06) / 10, "to": (i + 0.94) / 10, "documents": count}
        for i, count in enumerate(histogram.counts)
    ]
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(color=ACCENT, cornerRadiusEnd=2)
        .encode(
            x=alt.X(
                "from:Q",
                title=f"score ({histogram.critic})",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(grid=False, values=[0, 0.2, 0.4, 0.6, 0.8, 1.0], format=".1f"),
            ),
            x2="to:Q",
            y2=alt.datum(0),
            y=alt.Y("documents:Q", title="documents", axis=alt.Axis(tickCount=4, format=",d")),
        )
    )
    return ChartImage(bars, width, height, f"scores-{histogram.corpus}-{histogram.critic}")


def curve_chart(
    curves: Mapping[str, Sequence[tuple[int, float]]], title: str, name: str, share: bool = False
) -> "ChartImage":
    """Values over tokens, a line a name; `share` draws them as percentages from 0 to 1."""
    import altair as alt

    rows = [
        {"line": line, "tokens": tokens, "value": value}
        for line, points in curves.items()
        for tokens, value in points
    ]
    colours, dashes = [*ARM_COLOURS.values()][::-1], [*ARM_DASHES.values()][::-1]
    names = list(curves)
    own = [ARM_COLOURS.get(name, colours[i % len(colours)]) for i, name in enumerate(names)]
    strokes = [ARM_DASHES.get(name, dashes[i % len(dashes)]) for i, name in enumerate(names)]
    legend = alt.Legend(
        orient="top", title=None, symbolType="stroke", symbolSize=700, columns=3, labelLimit=240
    )
    drawn = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("tokens:Q", axis=alt.Axis(grid=False, tickCount=6, format="~s")),
            y=alt.Y(
                "value:Q",
                title=title,
                scale=alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False),
                axis=alt.Axis(format="%" if share else "~g", tickCount=5),
            ),
            color=alt.Color("line:N", scale=alt.Scale(domain=names, range=own), legend=legend),
            strokeDash=alt.StrokeDash(
                "line:N",
                scale=alt.Scale(domain=names, range=strokes),
                legend=None,
            ),
        )
    )
    return ChartImage(drawn, 700, 300, name)


@dataclass(frozen=True, slots=True)
class ChartImage:
    """A chart with its size in pixels and a name of its own on the page."""

    chart: Any
    width: int
    height: int
    name: str

    def svg(self) -> str:
        """For inlining: scalable, themed, ids of its own."""
        import vl_convert

        drawn: str = vl_convert.vegalite_to_svg(self._styled("transparent"), vl_version=VEGA_LITE)
        return inline(drawn, self._slug)

    def write_png(self, folder: Path) -> Path:
        """Writes `<name>.png` at twice its size, in the colours of the light theme."""
        import vl_convert

        text = self._styled(PAGE)
        for colour, light in LIGHT.items():
            text = text.replace(f'"{colour}"', f'"{light}"')
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._slug}.png"
        path.write_bytes(vl_convert.vegalite_to_png(text, vl_version=VEGA_LITE, scale=2))
        return path

    @property
    def _slug(self) -> str:
        return re.sub(r"\W+", "-", self.name)

    def _styled(self, background: str) -> str:
        sized = self.chart.properties(width=self.width, height=self.height, background=background)
        return str(sized.configure(**_STYLE).to_json())


def inline(drawn: str, prefix: str) -> str:
    """An SVG file as an element of the page: colours by variable, size by the page."""
    for colour, variable in VARIABLES.items():
        drawn = drawn.replace(f'"{colour}"', f'"var({variable})"')
    drawn = re.sub(r'\bid="', f'id="{prefix}-', drawn)
    drawn = re.sub(r'url\(([\'"]?)#', rf"url(\1#{prefix}-", drawn)
    # Without a size of its own the drawing takes the width of the page and keeps its shape.
    return re.sub(r'(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r"\1", drawn, count=1)
