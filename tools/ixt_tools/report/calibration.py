"""What `ixt calibrate` shows: tables for a terminal and for a page, and the page's charts."""

from collections.abc import Sequence
from math import log
from pathlib import Path

from ixt_data.analysis import Agreement, Calibration, CanaryResult, CriticPair, Scores
from ixt_tools.report.charts import ACCENT, INK, ChartImage
from ixt_tools.report.content import ReportTable
from ixt_tools.report.page import template

SMALL = {"width": 320, "height": 190}


def critics_table(found: Calibration) -> ReportTable:
    """One row a critic."""
    columns = ("critic", "scored", "coverage", "failed", "mean", "deviation", "slope", "R²")
    rows = tuple(
        (
            scores.critic,
            f"{scores.scored:,}",
            f"{scores.coverage:.1%}",
            f"{scores.failed:,}",
            *map(number, (scores.mean, scores.deviation, scores.slope, scores.r2)),
        )
        for scores in found.critics
    )
    note = "Slope: score for each e-fold of length, by least squares; R²: the share it explains."
    return ReportTable("", columns, rows, note)


def agreement_table(pair: CriticPair) -> ReportTable:
    """All documents, then each source."""
    columns = ("source", "documents", "kappa", "Spearman", "difference", "same")
    rows = [(name, *_agreement(agreement)) for name, agreement in _named(pair)]
    note = f"Kappa: quadratic weights. Difference: {pair.first} less {pair.second}, on average."
    return ReportTable(f"{pair.first} and {pair.second}", columns, tuple(rows), note, "all")


def _named(pair: CriticPair) -> list[tuple[str, Agreement]]:
    return [("all", pair.all), *((one.source or "", one) for one in pair.by_source)]


def _agreement(found: Agreement) -> tuple[str, ...]:
    figures = map(number, (found.kappa, found.spearman, found.mean_difference))
    same = "–" if found.exact is None else f"{found.exact:.1%}"
    return (f"{found.documents:,}", *figures, same)


def samples_table(found: Calibration) -> ReportTable | None:
    """One row for each critic that drew several samples, None if none did."""
    rows = tuple(
        (
            scores.critic,
            f"{samples.documents:,}",
            str(samples.max_samples),
            *map(number, (samples.spread, samples.kappa, samples.spearman)),
        )
        for scores in found.critics
        if (samples := scores.samples) is not None
    )
    columns = ("critic", "documents", "samples", "spread", "kappa", "Spearman")
    note = "Spread: the samples' standard deviation, as a share of the scale, on average."
    return ReportTable("Thinking samples", columns, rows, note) if rows else None


def canaries_table(seen: Sequence[CanaryResult]) -> ReportTable | None:
    """One row a canary and critic, None if there are none."""
    rows = tuple(
        (
            one.name,
            one.critic,
            one.state,
            f"{one.expected[0]:g} to {one.expected[1]:g}",
            number(one.score),
        )
        for one in seen
    )
    return (
        ReportTable("Canaries", ("canary", "critic", "state", "expected", "score"), rows)
        if rows
        else None
    )


def tables(found: Calibration, seen: Sequence[CanaryResult]) -> list[ReportTable]:
    """All of them, in the order in which they are read."""
    listed = (
        critics_table(found),
        *map(agreement_table, found.pairs),
        samples_table(found),
        canaries_table(seen),
    )
    return [table for table in listed if table is not None]


def number(value: float | None) -> str:
    """A figure for people."""
    return "–" if value is None else f"{value:.3f}"


def write_page(found: Calibration, seen: Sequence[CanaryResult], path: Path) -> Path:
    """Writes one self-contained HTML file; needs the extra `train` for its charts."""
    from markupsafe import Markup

    macro = template("macros.html").module.table
    path.parent.mkdir(parents=True, exist_ok=True)
    page = template("calibration.html").render(
        found=found,
        names=", ".join(scores.critic for scores in found.critics) or "no critics",
        critics=critics_table(found),
        charts=[
            (scores, Markup(scores_chart(scores, i).svg()), Markup(length_chart(scores, i).svg()))
            for i, scores in enumerate(found.critics)
        ],
        pairs=[
            (pair, Markup(matrix_chart(pair, i).svg()), macro(agreement_table(pair)))
            for i, pair in enumerate(found.pairs)
        ],
        samples=samples_table(found),
        canaries=canaries_table(seen),
    )
    path.write_text(page, encoding="utf-8")
    return path


def scores_chart(scores: Scores, number: int) -> ChartImage:
    """Documents by value on the scale."""
    import altair as alt

    rows = [{"score": i, "documents": n} for i, n in enumerate(scores.histogram)]
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(color=ACCENT, cornerRadiusEnd=2)
        .encode(
            x=alt.X("score:O", title="score", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("documents:Q", axis=alt.Axis(tickCount=4, format=",d")),
        )
    )
    return ChartImage(bars, **SMALL, name=f"scores-{number}")


def length_chart(scores: Scores, number: int) -> ChartImage:
    """Mean score by length, with the regression through all documents."""
    import altair as alt

    x = alt.X("characters:Q", scale=alt.Scale(type="log"), axis=alt.Axis(grid=False, tickCount=4))
    y = alt.Y("score:Q", title="score", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    # The middle of an octave stands for the documents in it.
    middle = [
        {"characters": low * 2**0.5, "documents": n, "score": mean}
        for low, n, mean in scores.lengths
    ]
    dots = alt.Chart(alt.Data(values=middle)).mark_circle(color=ACCENT, opacity=1)
    drawn = dots.encode(x=x, y=y, size=alt.Size("documents:Q", legend=None))
    if scores.slope is not None and scores.intercept is not None:
        ends = (middle[0]["characters"], middle[-1]["characters"])
        points = [
            {"characters": at, "score": scores.intercept + scores.slope * log(at)} for at in ends
        ]
        line = alt.Chart(alt.Data(values=points)).mark_line(color=INK, strokeWidth=1.5, clip=True)
        drawn = line.encode(x=x, y=y) + drawn
    return ChartImage(drawn, **SMALL, name=f"lengths-{number}")


def matrix_chart(pair: CriticPair, number: int) -> ChartImage:
    """Documents by both critics' values: the darker, the more."""
    import altair as alt

    most = max(map(max, pair.confusion)) or 1
    rows = [
        {"first": x, "second": y, "documents": n, "share": (n / most) ** 0.5}
        for x, line in enumerate(pair.confusion)
        for y, n in enumerate(line)
        if n
    ]
    values = list(range(len(pair.confusion)))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "first:O", title=pair.first, scale=alt.Scale(domain=values), axis=alt.Axis(labelAngle=0)
        ),
        y=alt.Y("second:O", title=pair.second, scale=alt.Scale(domain=values[::-1])),
    )
    opacity = alt.Opacity(
        "share:Q", scale=alt.Scale(domain=[0, 1], range=[0.05, 0.75]), legend=None
    )
    cells = base.mark_rect(color=ACCENT).encode(opacity=opacity)
    words = base.mark_text(color=INK, fontSize=11).encode(text=alt.Text("documents:Q", format=",d"))
    return ChartImage(cells + words, 320, 280, f"matrix-{number}")
