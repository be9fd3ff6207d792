"""Charts of learning curves as SVG, drawn without a browser or the network."""

from collections.abc import Sequence
from typing import Any

from ixt_train.scaling.curves import LearningCurve
from ixt_train.scaling.multipliers import is_lower_better

FONT = "ui-sans-serif, system-ui, sans-serif"
# Okabe and Ito's colours, which colour-blind readers can distinguish, then more colours.
PALETTE = (
    "#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
    "#8c564b", "#6a3d9a", "#b2df8a", "#17becf",
)  # fmt: skip
AXIS_TITLES = {"steps": "steps", "tokens": "tokens, feedback included", "flops": "training FLOPs"}


def curve_chart(
    curves: Sequence[LearningCurve],
    metric: str,
    axis: str = "tokens",
    *,
    targets: Sequence[float] = (),
    size: tuple[int, int] = (620, 320),
) -> str:
    """Draw a metric over a clock as SVG: a colour per arm, a line per train run.

    Args:
        curves: the curves, in the order of their arms.
        metric: metric on the vertical axis.
        axis: `steps`, `tokens` or `flops`.
        targets: values drawn as thin lines.
        size: width and height in pixels, without the legend.
    """
    import altair as alt

    points = [
        {"arm": curve.arm, "run": f"{curve.arm} {curve.seed} {curve.budget}", "x": x, "y": y}
        for curve in curves
        for x, y in zip(curve.axis(axis), curve.metrics[metric], strict=True)
    ]
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    scale = alt.Scale(domain=arms, range=[PALETTE[i % len(PALETTE)] for i in range(len(arms))])
    upright = alt.Scale(zero=False) if is_lower_better(metric) else alt.Scale(domain=[0, 1])
    lines = (
        alt.Chart(alt.Data(values=points))
        .mark_line(strokeWidth=1.8, opacity=0.85)
        .encode(
            x=alt.X(
                "x:Q",
                title=AXIS_TITLES[axis],
                axis=alt.Axis(grid=False, tickCount=6, format="~s"),
                scale=alt.Scale(type="log")
                if is_lower_better(metric) and _positive(points)
                else alt.Undefined,
            ),
            y=alt.Y("y:Q", title=metric, scale=upright),
            color=alt.Color(
                "arm:N", scale=scale, legend=alt.Legend(title=None, symbolType="stroke")
            ),
            detail="run:N",
        )
    )
    rules = (
        alt.Chart(alt.Data(values=[{"y": target} for target in targets]))
        .mark_rule(strokeDash=[2, 3], color="#9a9a9a")
        .encode(y="y:Q")
    )
    return _svg(alt.layer(rules, lines) if targets else lines, *size)


def _positive(points: Sequence[dict[str, Any]]) -> bool:
    return all(point["x"] > 0 for point in points)


def _svg(chart: Any, width: int, height: int) -> str:
    import vl_convert

    styled = chart.properties(width=width, height=height, background="#ffffff").configure(
        font=FONT, view={"stroke": None}, axis={"titleFontWeight": "normal", "gridColor": "#e6e6e6"}
    )
    drawn: str = vl_convert.vegalite_to_svg(styled.to_json(), vl_version="5.20")
    return drawn
