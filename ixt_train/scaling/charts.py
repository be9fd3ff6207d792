"""Charts of learning curves as SVG."""

from collections.abc import Sequence

from ixt_data.console import Axis, ChartSize, LineStyle, chart_svg, line_chart
from ixt_train.scaling.curves import LearningCurve
from ixt_train.scaling.multipliers import is_lower_better

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
    name: str = "curves",
) -> str:
    """Draw a metric over a clock as SVG: a colour per arm, a line per train run.

    Args:
        curves: the curves, in the order of their arms.
        metric: metric on the vertical axis.
        axis: `steps`, `tokens` or `flops`.
        targets: values drawn as thin lines.
        size: width and height in pixels, without the legend.
        name: name of the chart, unique on its page.
    """
    lines = [
        (curve.arm, list(zip(curve.axis(axis), curve.metrics[metric], strict=True)))
        for curve in curves
    ]
    arms = dict.fromkeys(curve.arm for curve in curves)
    is_loss = is_lower_better(metric)
    is_positive = all(x > 0 for _, points in lines for x, _ in points)
    spec = line_chart(
        lines,
        {arm: LineStyle(PALETTE[i % len(PALETTE)]) for i, arm in enumerate(arms)},
        Axis(AXIS_TITLES[axis], None, "~s", 6, is_loss and is_positive, True),
        Axis(metric, None if is_loss else (0, 1)),
        ChartSize(*size),
        description=f"{metric} over {AXIS_TITLES[axis]}",
        legend="right",
        targets=targets,
        width=1.8,
    )
    return chart_svg(spec, name)
