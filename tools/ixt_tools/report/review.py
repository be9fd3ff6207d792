"""`ixt report`: one page on a snapshot, mixes and train runs, for example for a review."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ixt_data.analysis import Calibration, calibrate
from ixt_data.errors import StoreError
from ixt_data.mix import load_mix, plan_mix
from ixt_data.store import Store
from ixt_tools.report.calibration import calibration_tables, lengths_chart
from ixt_tools.report.charts import ChartImage, curve_chart, histogram_chart
from ixt_tools.report.content import Histogram, Loss, MixPlanSummary, ReportTable, Sample
from ixt_tools.report.page import load_template, loss_table, mix_table
from ixt_tools.report.snapshot import SnapshotQueries
from ixt_train.runs import TrainRun, read_train_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class CriticSummary:
    """The scores of one critic in one corpus."""

    corpus: str
    critic: str
    histogram: Histogram
    tables: tuple[ReportTable, ...]
    examples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class PlannedMix:
    """A mix with its plan and the warnings of the plan."""

    plan: MixPlanSummary
    samples: int
    tokens: int
    snapshot: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """The content of the page.

    Attributes:
        store: address of the store; the name of its folder, if it is on a disk.
        snapshot: version.
        created: time of the commit in UTC; empty for an empty store.
        tags: tags of the version.
        corpora: table of the corpora.
        judged: summaries by corpus and critic.
        calibration: calibration of the critics; None without critiques.
        mixes: requested mixes.
        runs: requested train runs.
    """

    store: str
    snapshot: int
    created: str
    tags: tuple[str, ...]
    corpora: ReportTable
    judged: tuple[CriticSummary, ...]
    calibration: Calibration | None
    mixes: tuple[PlannedMix, ...]
    runs: tuple[TrainRun, ...]


def make_review(
    store: Store,
    at: int | str | None = None,
    *,
    corpora: Sequence[str] = (),
    critics: Sequence[str] = (),
    mixes: Sequence[Path] = (),
    runs: Sequence[Path] = (),
    samples: int | None = None,
) -> Review:
    """Query the store for the content of the page.

    Args:
        store: store to report.
        at: version or tag; the latest by default.
        corpora: corpora to report; all by default.
        critics: critics to report, by name; all by default.
        mixes: mix files to plan, each at its own snapshot.
        runs: folders of train runs.
        samples: draws of each plan; each document once by default.

    Raises:
        StoreError: a corpus or critic does not exist.
        ConfigError, MixError: a mix or a run folder is not readable, or a mix cannot be planned.
    """
    with SnapshotQueries(store, at) as queries:
        snapshot = queries.snapshot
        names = tuple(dict.fromkeys(critic.name for critic in snapshot.critics.values()))
        shown = _select("corpus", corpora, tuple(snapshot.corpora))
        judges = _select("critic", critics, names)
        judged = [_judged(queries, *pair) for pair in product(shown, judges)]
        created = queries.rows(
            "SELECT strftime(created AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M') AS at FROM snapshots "
            "ORDER BY version DESC LIMIT 1"
        )
        calibration = (
            calibrate(store, judges, corpora=shown, at=snapshot.version)
            if shown and judges
            else None
        )
        return Review(
            store=_store_name(store.root),
            snapshot=snapshot.version,
            created=created[0]["at"] if created else "",
            tags=tuple(n for n, version in store.tags().items() if version == snapshot.version),
            corpora=_corpora(queries, shown),
            judged=tuple(one for one in judged if one is not None),
            calibration=calibration,
            mixes=tuple(_planned(store, path, samples) for path in mixes),
            runs=tuple(map(read_train_run, runs)),
        )


def _store_name(root: str) -> str:
    """Return the name of a store: a report is shared, and a local path tells about a machine."""
    return root if "://" in root else Path(root).name


def _select(kind: str, requested: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in requested:
        if name not in known:
            raise StoreError(f"{kind} {name!r} does not exist; valid: {', '.join(known) or 'none'}")
    return tuple(dict.fromkeys(requested)) or known


def _corpora(queries: SnapshotQueries, names: Sequence[str]) -> ReportTable:
    sql = """SELECT corpus, count(*) AS documents, sum(n_bytes) AS bytes, count(DISTINCT source)
    AS sources FROM documents GROUP BY 1"""
    totals = {row["corpus"]: row for row in queries.rows(sql)}
    rows = tuple(
        (
            name,
            f"{totals[name]['documents']:,}",
            f"{int(totals[name]['bytes']) / 1e6:,.1f} MB",
            f"{totals[name]['sources']:,}",
            f"{queries.snapshot.corpora[name].shards:,}",
        )
        for name in names
        if name in totals
    )
    return ReportTable("", ("corpus", "documents", "text", "sources", "shards"), rows)


def _judged(queries: SnapshotQueries, corpus: str, critic: str) -> CriticSummary | None:
    histogram = queries.histogram(corpus, critic)
    statuses = queries.statuses(corpus, critic)
    if statuses.rows and statuses.rows[0][0] == "not critiqued" and len(statuses.rows) == 1:
        return None
    parts = (
        queries.sources(corpus, critic),
        queries.complaints(corpus, critic),
        statuses,
    )
    return CriticSummary(
        corpus,
        critic,
        histogram,
        tuple(part for part in parts if part is not None),
        queries.examples(corpus, critic),
    )


def _planned(store: Store, path: Path, samples: int | None) -> PlannedMix:
    plan = plan_mix(load_mix(path), samples, store=store)
    summary = plan.summary()
    rows = tuple(
        (
            part["name"],
            f"{part['documents']:,}",
            f"{part['tokens']:,}",
            f"{part['share']:.1%}",
            f"{part['epochs']:.2f}",
        )
        for part in summary["selections"]
    )
    text = path.read_text(encoding="utf-8")
    return PlannedMix(
        MixPlanSummary(path.name, text, rows, plan.documents, plan.digest),
        plan.samples,
        summary["tokens"],
        plan.version,
        plan.warnings,
    )


def runs_table(runs: Sequence[TrainRun]) -> ReportTable:
    """Return a row per train run, with its last values."""
    tasks = tuple(dict.fromkeys(name for run in runs for name in run.tasks))
    rows = tuple(
        (
            run.name,
            run.stage,
            f"{run.steps:,}",
            f"{run.tokens:,}",
            f"{run.loss[-1][1]:.3f}" if run.loss else "–",
            *(f"{run.tasks[name][-1][1]:.1%}" if name in run.tasks else "–" for name in tasks),
            f"{run.seconds:,.0f} s",
        )
        for run in runs
    )
    columns = ("train run", "stage", "steps", "tokens", "train loss", *tasks, "time")
    return ReportTable("", columns, rows, "Losses in nats per token; tasks: share solved.")


def held_out_table(run: TrainRun) -> ReportTable | None:
    """Return the held-out loss by score bucket and feedback; None without a holdout."""
    losses = tuple(
        Loss(bucket.replace("-", " to "), feedback, loss)
        for feedback, buckets in run.by_bucket.items()
        for bucket, loss in buckets.items()
        if isinstance(loss, int | float)
    )
    return loss_table(losses) if losses else None


def _run_charts(runs: Sequence[TrainRun]) -> "Iterator[tuple[str, ChartImage]]":
    def lines(of: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {
            f"{run}, {name}" if len(runs) > 1 else name: points
            for run, curves in of.items()
            for name, points in curves.items()
            if len(points) > 1
        }

    loss = {run.name: run.loss for run in runs if len(run.loss) > 1}
    held_out = lines({run.name: run.held_out for run in runs})
    tasks = lines({run.name: run.tasks for run in runs})
    if loss:
        yield "Training loss, nats per token", curve_chart(loss, "loss", "train-loss")
    if held_out:
        yield "Held-out loss by feedback", curve_chart(held_out, "loss", "held-out-loss")
    if tasks:
        chart = curve_chart(tasks, "problems solved", "tasks", is_share=True)
        yield "Tasks by exact match", chart


def _agreement_tables(calibration: Calibration | None) -> list[ReportTable]:
    if calibration is None:
        return []
    # Critics of different corpora have no documents in common.
    pairs = tuple(pair for pair in calibration.pairs if pair.all.documents)
    return calibration_tables(replace(calibration, pairs=pairs), ())


def _length_charts(calibration: Calibration | None) -> "list[tuple[str, Markup]]":
    from markupsafe import Markup

    critics = calibration.critics if calibration else ()
    return [
        (c.critic, Markup(lengths_chart(c, i).svg())) for i, c in enumerate(critics) if c.lengths
    ]


def write_review(review: Review, path: Path, plots: Path | None = None) -> list[Path]:
    """Write the page, a JSON file with its content, and PNG plots; return their paths.

    Args:
        review: content of the page.
        path: file for the page.
        plots: folder for PNG files; no PNG files if None.
    """
    from markupsafe import Markup

    charts = [histogram_chart(one.histogram) for one in review.judged]
    run_charts = list(_run_charts(review.runs))
    page = load_template("review.html").render(
        review=review,
        judged=[
            (one, Markup(chart.svg())) for one, chart in zip(review.judged, charts, strict=True)
        ],
        mixes=mix_table(tuple(mix.plan for mix in review.mixes)) if review.mixes else None,
        runs=runs_table(review.runs) if review.runs else None,
        held_out=[held_out_table(run) for run in review.runs],
        agreement=_agreement_tables(review.calibration),
        lengths=_length_charts(review.calibration),
        run_charts=[(title, Markup(chart.svg())) for title, chart in run_charts],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    content = path.with_suffix(".json")
    content.write_bytes(orjson.dumps(review, option=orjson.OPT_INDENT_2))
    drawn = [*charts, *(chart for _, chart in run_charts)]
    return [path, content, *([chart.write_png(plots) for chart in drawn] if plots else [])]
