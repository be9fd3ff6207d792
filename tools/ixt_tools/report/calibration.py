"""Tables of `ixt calibrate` for a terminal and for a page, and the charts of the page."""

from collections.abc import Sequence
from math import log
from pathlib import Path

from ixt_data.analysis import (
    Agreement,
    Calibration,
    CanaryResult,
    CriticPair,
    LengthBias,
    PositionBias,
    Scores,
)
from ixt_data.console import ChartSize, count_chart, length_chart, matrix_chart
from ixt_tools.report.charts import SMALL, ChartImage
from ixt_tools.report.content import ReportTable
from ixt_tools.report.page import load_template


def critics_table(calibration: Calibration) -> ReportTable:
    """Return one row per critic."""
    columns = ("critic", "scored", "coverage", "failed", "mean", "deviation", "slope", "R²")
    rows = tuple(
        (
            scores.critic,
            f"{scores.scored:,}",
            f"{scores.coverage:.1%}",
            f"{scores.failed:,}",
            *map(format_number, (scores.mean, scores.deviation, scores.slope, scores.r2)),
        )
        for scores in calibration.critics
    )
    note = "Slope: score per e-fold of length, by least squares. R²: share of variance it explains."
    return ReportTable("", columns, rows, note)


def agreement_table(pair: CriticPair) -> ReportTable:
    """Return a row of all documents, then a row per source."""
    columns = ("source", "documents", "kappa", "Spearman", "difference", "same")
    rows = [(name, *_agreement_cells(agreement)) for name, agreement in _named_agreements(pair)]
    note = f"Kappa: quadratic weights. Difference: mean of {pair.first} minus {pair.second}."
    return ReportTable(f"{pair.first} and {pair.second}", columns, tuple(rows), note, "all")


def _named_agreements(pair: CriticPair) -> list[tuple[str, Agreement]]:
    return [("all", pair.all), *((one.source or "", one) for one in pair.by_source)]


def _agreement_cells(agreement: Agreement) -> tuple[str, ...]:
    values = (agreement.kappa, agreement.spearman, agreement.mean_difference)
    same = "–" if agreement.exact is None else f"{agreement.exact:.1%}"
    return (f"{agreement.documents:,}", *map(format_number, values), same)


def samples_table(calibration: Calibration) -> ReportTable | None:
    """Return a row per critic that drew several samples; None if no critic did."""
    rows = tuple(
        (
            scores.critic,
            f"{samples.documents:,}",
            str(samples.max_samples),
            *map(format_number, (samples.spread, samples.kappa, samples.spearman)),
        )
        for scores in calibration.critics
        if (samples := scores.samples) is not None
    )
    columns = ("critic", "documents", "samples", "spread", "kappa", "Spearman")
    note = "Spread: mean standard deviation of the samples, as a share of the scale."
    return ReportTable("Thinking samples", columns, rows, note) if rows else None


def canaries_table(results: Sequence[CanaryResult]) -> ReportTable | None:
    """Return a row per canary and critic; None without canaries."""
    rows = tuple(
        (
            one.name,
            one.critic,
            one.state,
            f"{one.expected[0]:g} to {one.expected[1]:g}",
            format_number(one.score),
        )
        for one in results
    )
    return (
        ReportTable("Canaries", ("canary", "critic", "state", "expected", "score"), rows)
        if rows
        else None
    )


Bias = LengthBias | PositionBias


def length_bias_table(found: Sequence[Bias]) -> ReportTable | None:
    """Return a row per critic; None without gold scores."""
    biases = [one for one in found if isinstance(one, LengthBias)]
    columns = ("critic", "documents", "plain", "given gold", "95%", "warning")
    rows = tuple(
        (
            one.critic,
            f"{one.documents:,}",
            *map(format_number, (one.plain, one.given_gold)),
            f"{format_number(one.low)} to {format_number(one.high)}",
            f"prefers {'long' if (one.low or 0) > 0 else 'short'}" if one.is_biased else "",
        )
        for one in biases
    )
    if not rows:
        return None
    note = (
        f"Rank correlation of score and characters; given gold: between documents of the same "
        f"score by {biases[0].gold}. Warning: the interval is beyond {biases[0].limit:g}."
    )
    return ReportTable("Length bias", columns, rows, note)


def position_bias_table(found: Sequence[Bias]) -> ReportTable | None:
    """Return a row per critic that compares documents; None if no critic does."""
    biases = [one for one in found if isinstance(one, PositionBias)]
    rows = tuple(
        (
            one.critic,
            f"{one.comparisons:,}",
            f"{one.first_wins:.1%}",
            f"{one.low:.1%} to {one.high:.1%}",
            f"prefers the {'first' if one.first_wins > 0.5 else 'second'}" if one.is_biased else "",
        )
        for one in biases
    )
    if not rows:
        return None
    columns = ("critic", "comparisons", "first wins", "95%", "warning")
    note = (
        "Each pair is compared in both orders. Warning: the interval is farther from 50% than "
        f"{biases[0].limit:.0%}."
    )
    return ReportTable("Position bias", columns, rows, note)


def calibration_tables(
    calibration: Calibration,
    results: Sequence[CanaryResult],
    biases: Sequence[Bias] = (),
) -> list[ReportTable]:
    """Return all tables in reading order."""
    listed = (
        critics_table(calibration),
        *map(agreement_table, calibration.pairs),
        samples_table(calibration),
        length_bias_table(biases),
        position_bias_table(biases),
        canaries_table(results),
    )
    return [table for table in listed if table is not None]


def format_number(value: float | None) -> str:
    """Return a number with three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def write_calibration_page(
    calibration: Calibration,
    results: Sequence[CanaryResult],
    path: Path,
    biases: Sequence[Bias] = (),
) -> Path:
    """Write one self-contained HTML file and return its path.

    The charts require the extra `train`.
    """
    from markupsafe import Markup

    macro = load_template("macros.html").module.table
    path.parent.mkdir(parents=True, exist_ok=True)
    page = load_template("calibration.html").render(
        calibration=calibration,
        names=", ".join(scores.critic for scores in calibration.critics) or "no critics",
        critics=critics_table(calibration),
        charts=[
            (scores, Markup(scores_chart(scores, i).svg()), Markup(lengths_chart(scores, i).svg()))
            for i, scores in enumerate(calibration.critics)
        ],
        pairs=[
            (pair, Markup(agreement_chart(pair, i).svg()), macro(agreement_table(pair)))
            for i, pair in enumerate(calibration.pairs)
        ],
        samples=samples_table(calibration),
        biases=[t for t in (length_bias_table(biases), position_bias_table(biases)) if t],
        canaries=canaries_table(results),
    )
    path.write_text(page, encoding="utf-8")
    return path


def scores_chart(scores: Scores, position: int) -> ChartImage:
    """Return documents by score on the scale."""
    spec = count_chart(
        [str(score) for score in range(len(scores.histogram))],
        scores.histogram,
        SMALL,
        title="score",
        description=f"Documents by the score of {scores.critic}",
    )
    return ChartImage(spec, f"scores-{position}")


def lengths_chart(scores: Scores, position: int) -> ChartImage:
    """Return the mean score by length, with the regression over all documents."""
    # The middle of an octave represents the documents in it.
    means = [(low * 2**0.5, n, mean) for low, n, mean in scores.lengths]
    regression: list[tuple[float, float]] = []
    if scores.slope is not None and scores.intercept is not None:
        ends = (means[0][0], means[-1][0])
        regression = [(at, scores.intercept + scores.slope * log(at)) for at in ends]
    description = f"Mean score of {scores.critic} by number of characters"
    spec = length_chart(means, regression, SMALL, description=description)
    return ChartImage(spec, f"lengths-{position}")


def agreement_chart(pair: CriticPair, position: int) -> ChartImage:
    """Return documents by the scores of both critics."""
    spec = matrix_chart(
        pair.confusion,
        pair.first,
        pair.second,
        ChartSize(320, 280),
        description=f"Documents by the scores of {pair.first} and {pair.second}",
    )
    return ChartImage(spec, f"matrix-{position}")
