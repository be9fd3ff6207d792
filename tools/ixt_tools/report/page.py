"""The report page: one HTML file from an autoescaped template and inline charts."""

from pathlib import Path
from typing import Any

import orjson

from ixt_tools.report.charts import accuracy_chart, histogram_chart
from ixt_tools.report.content import Arm, Loss, MixPlanSummary, Report, ReportTable, replace_hidden

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


def loss_table(losses: tuple[Loss, ...]) -> ReportTable:
    """Return losses in nats per token: a row per bucket, a column per feedback."""
    feedbacks = tuple(dict.fromkeys(loss.feedback for loss in losses))
    losses_by_cell = {(loss.bucket, loss.feedback): f"{loss.loss:.3f}" for loss in losses}
    rows = tuple(
        (bucket, *(losses_by_cell.get((bucket, feedback), "–") for feedback in feedbacks))
        for bucket in dict.fromkeys(loss.bucket for loss in losses)
    )
    names = {"none": "no feedback", "observed": "its own feedback"}
    columns = (names.get(feedback, f"{feedback} feedback") for feedback in feedbacks)
    return ReportTable("Held-out loss, nats per token", ("score", *columns), rows)


def arm_table(arms: tuple[Arm, ...]) -> ReportTable:
    """Return a row per arm, with the best accuracy highlighted."""
    best = max(arms, key=lambda arm: arm.final)
    rows = tuple(
        (
            arm.name,
            f"{arm.final:.1%}",
            f"{arm.documents:,}",
            f"{arm.steps[-1] if arm.steps else 0:,}",
            f"{arm.tokens:,}",
            f"{arm.seconds:.0f} s",
        )
        for arm in arms
    )
    columns = ("arm", "problems solved", "documents in the mix", "steps", "tokens", "time")
    return ReportTable("", columns, rows, highlight=best.name)


def mix_table(mixes: tuple[MixPlanSummary, ...]) -> ReportTable:
    """Return a row per selection of all mixes."""
    rows = tuple((mix.name, *row) for mix in mixes for row in mix.rows)
    return ReportTable(
        "", ("mix", "selection", "documents", "tokens, estimated", "weight", "epochs"), rows
    )


def load_template(name: str) -> Any:
    """Return a template of a page, autoescaped, with hidden characters replaced."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: replace_hidden(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def render(report: Report) -> str:
    """Return the page as HTML."""
    from markupsafe import Markup

    # vl-convert escapes every text in its SVG.
    charts = [Markup(histogram_chart(histogram).svg()) for histogram in report.histograms]
    page: str = load_template("report.html").render(
        report=report,
        accuracy=Markup(accuracy_chart(report.arms).svg()) if report.arms else None,
        arms=arm_table(report.arms) if report.arms else None,
        histograms=list(zip(report.histograms, charts, strict=True)),
        mixes=mix_table(report.mixes),
        losses=loss_table(report.losses) if report.losses else None,
    )
    return page


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.html`, and `report.json` with the same content; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    page = folder / "report.html"
    page.write_text(render(report), encoding="utf-8")
    return page
