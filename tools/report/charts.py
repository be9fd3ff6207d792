"""Charts as inline SVG whose colours are the page's CSS variables: one drawing, light and dark."""

import re
from collections.abc import Sequence
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
INK, SOFT, LINE, ACCENT, PAGE = list(VARIABLES)[:5]
ARM_COLOURS = dict(zip(("plain", "filter", "score", "critique"), list(VARIABLES)[5:], strict=True))
ARM_DASHES = {"plain": [2, 3], "filter": [7, 3], "score": [5, 2, 1, 2], "critique": [1, 0]}
FONT = "ui-sans-serif, system-ui, sans-serif"


def accuracy_chart(arms: Sequence[Arm], width: int = 700, height: int = 300) -> str:
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
    return svg(drawn, width, height, "accuracy")


def histogram_chart(histogram: Histogram, width: int = 320, height: int = 190) -> str:
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
    return svg(bars, width, height, f"scores-{histogram.corpus}")


def svg(chart: Any, width: int, height: int, name: str) -> str:
    """Draw a chart as SVG for inlining: scalable, themed, ids of its own."""
    import vl_convert

    styled = chart.properties(width=width, height=height, background="transparent").configure(
        font=FONT,
        view={"stroke": None},
        axis={
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
        legend={"labelColor": INK, "labelFontSize": 13},
    )
    drawn: str = vl_convert.vegalite_to_svg(styled.to_json(), vl_version="5.20")
    return inline(drawn, re.sub(r"\W", "-", name))


def inline(drawn: str, prefix: str) -> str:
    """An SVG file as an element of the page: colours by variable, size by the page."""
    for colour, variable in VARIABLES.items():
        drawn = drawn.replace(f'"{colour}"', f'"var({variable})"')
    drawn = re.sub(r'\bid="', f'id="{prefix}-', drawn)
    drawn = re.sub(r'url\(([\'"]?)#', rf"url(\1#{prefix}-", drawn)
    # Without a size of its own the drawing takes the width of the page and keeps its shape.
    return re.sub(r'(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r"\1", drawn, count=1)
