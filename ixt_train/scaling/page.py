"""The report as one self-contained HTML file."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ixt_data.storage import atomic_write
from ixt_train.scaling.charts import curve_chart
from ixt_train.scaling.curves import LearningCurve
from ixt_train.scaling.report import GroupReport, join_budgets
from ixt_train.scaling.result_tables import columns, format_quantity, rows

_STYLE = """:root { --ink: #1c1d1f; --soft: #5f636a; --line: #e6e6e6; }
body { font: 15px/1.5 ui-sans-serif, system-ui, sans-serif; color: #1c1d1f;
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; max-width: 52rem; height: auto; }
.wide { overflow-x: auto; } .note { color: #5f636a; }"""
NOTE = (
    "A multiplier is the ratio of what the baseline needs to what the arm needs for the same "
    "result, interpolated between evaluations: the geometric mean over seeds, with its 95% "
    "interval. Tokens are those of documents and feedback, without padding. FLOPs are 6 per "
    "parameter and token, plus those of attention; they exclude evaluation and annotation."
)


def write_page(path: Path, groups: Sequence[GroupReport], curves: Sequence[LearningCurve]) -> None:
    """Write the page: for each group its curves, and a table for each target."""
    parts = ["<h1>Compute to reach a target</h1>", f'<p class="note">{escape(NOTE)}</p>']
    for number, group in enumerate(groups):
        group_curves = join_budgets(curve for curve in curves if curve.group == group.group)
        parts.append(f"<h2>{escape(group.group or group.metric)}</h2>")
        for axis in ("tokens", "flops"):
            parts.append(
                curve_chart(
                    group_curves,
                    group.metric,
                    axis,
                    targets=group.targets,
                    name=f"{axis}-{number}",
                )
            )
        for target in group.targets:
            parts.append(f"<h3>{escape(group.metric)} at {target:g}</h3>")
            parts.append(_table(columns(group), rows(group, target)))
        parts += [_annotation(group), _fits(group)]
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>ixt scaling</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _annotation(group: GroupReport) -> str:
    lines = [
        (arm.arm, format_quantity(arm.annotation_flops))
        for arm in group.arms
        if arm.annotation_flops
    ]
    if not lines:
        return '<p class="note">No arm counts FLOPs of annotation.</p>'
    return "<h3>Annotation</h3>" + _table(("arm", "FLOPs of its critics"), lines)


def _fits(group: GroupReport) -> str:
    lines = [
        (
            arm.arm,
            f"{arm.power_law.floor:.3f} + {arm.power_law.scale:.3g} "
            f"x FLOPs^-{arm.power_law.exponent:.3f}",
            f"{arm.power_law.r2:.3f}",
            str(arm.power_law.points),
        )
        for arm in group.arms
        if arm.power_law is not None
    ]
    return "<h3>Power laws</h3>" + _table(("arm", "loss", "R²", "points"), lines) if lines else ""
