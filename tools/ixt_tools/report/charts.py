"""The charts of a report, inline or as PNG files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ixt_data.console import (
    INK,
    Axis,
    ChartSize,
    LineStyle,
    Spec,
    chart_png,
    chart_slug,
    chart_svg,
    line_chart,
    tenths_chart,
)
from ixt_tools.report.content import Arm, Histogram

LIGHT_COLORS = {
    "--ink": "#1c1d1f",
    "--soft": "#5f636a",
    "--line": "#d9dad5",
    "--accent": "#3f6f8f",
    "--arm-plain": "#8a8d93",
    "--arm-filter": "#3f78b5",
    "--arm-anneal": "#3d8b6d",
    "--arm-score": "#a8740f",
    "--arm-critique": "#c2410c",
}
"""The light theme of report.css, for PNG files."""
LIGHT_PAGE = "#fcfcfa"
ARM_STYLES = {
    "plain": LineStyle("var(--arm-plain)", (2, 3)),
    "filter": LineStyle("var(--arm-filter)", (7, 3)),
    "anneal": LineStyle("var(--arm-anneal)", (1, 2)),
    "score": LineStyle("var(--arm-score)", (5, 2, 1, 2)),
    "critique": LineStyle("var(--arm-critique)"),
}
SMALL = ChartSize(320, 190)
LARGE = ChartSize(700, 300)


@dataclass(frozen=True, slots=True)
class ChartImage:
    """A chart, and its name, which is unique on the page."""

    spec: Spec
    name: str

    def svg(self) -> str:
        """Return an inline SVG in the colours of the page."""
        return chart_svg(self.spec, self.name)

    def write_png(self, folder: Path) -> Path:
        """Write `<name>.png` in the colours of the light theme and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{chart_slug(self.name)}.png"
        path.write_bytes(chart_png(self.spec, LIGHT_COLORS, LIGHT_PAGE))
        return path


def accuracy_chart(arms: Sequence[Arm]) -> ChartImage:
    """Return accuracy over steps, one line per arm."""
    spec = line_chart(
        [(arm.name, list(zip(arm.steps, arm.accuracy, strict=True))) for arm in arms],
        {arm.name: ARM_STYLES.get(arm.name, LineStyle(INK)) for arm in arms},
        Axis("training steps", ticks=6, has_zero=True),
        Axis("problems solved", (0, 1), "%"),
        LARGE,
        description="Share of problems solved over training steps, one line per arm",
        width=2.5,
        is_smooth=True,
    )
    return ChartImage(spec, "accuracy")


def histogram_chart(histogram: Histogram) -> ChartImage:
    """Return documents per tenth of the score."""
    spec = tenths_chart(
        histogram.counts,
        SMALL,
        title=f"score ({histogram.critic})",
        description=f"Documents of {histogram.corpus} by the score of {histogram.critic}",
    )
    return ChartImage(spec, f"scores-{histogram.corpus}-{histogram.critic}")


def curve_chart(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    title: str,
    name: str,
    *,
    is_share: bool = False,
) -> ChartImage:
    """Return values over tokens, one line per name; shares as percentages from 0 to 1."""
    spare = [*ARM_STYLES.values()][::-1]
    styles = {
        line: ARM_STYLES.get(line, spare[number % len(spare)]) for number, line in enumerate(curves)
    }
    spec = line_chart(
        list(curves.items()),
        styles,
        Axis("tokens", format="~s", ticks=6, has_zero=True),
        Axis(title, (0, 1), "%") if is_share else Axis(title),
        LARGE,
        description=f"{title} over tokens",
    )
    return ChartImage(spec, name)
