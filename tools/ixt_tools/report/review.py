"""`ixt report`: one page on a snapshot, mixes and train runs, to attach to a review."""

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
from ixt_tools.report.calibration import length_chart, tables
from ixt_tools.report.charts import ChartImage, curve_chart, histogram_chart
from ixt_tools.report.content import Histogram, Loss, MixPlanSummary, ReportTable, Sample
from ixt_tools.report.page import loss_table, mix_table, template
from ixt_tools.report.snapshot import SnapshotQueries
from ixt_train.runs import TrainRun, read_train_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class CriticSummary:
    """What one critic found in one corpus."""

    corpus: str
    critic: str
    histogram: Histogram
    tables: tuple[ReportTable, ...]
    examples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class PlannedMix:
    """A mix with its plan, and what the plan warns of."""

    plan: MixPlanSummary
    samples: int
    tokens: int
    snapshot: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """Everything that the page shows.

    Attributes:
        store: root of the store.
        snapshot: its version.
        created: when that was committed, UTC; empty for an empty store.
        tags: names of this version.
        corpora: a table of them.
        judged: by corpus and critic.
        calibration: of the critics, None where nothing is critiqued.
        mixes, runs: that were asked for.
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
    """Asks the store all that the page shows.

    Args:
        store: where the documents are.
        at: version or tag, the newest by default.
        corpora: only these; all by default.
        critics: only these, by name; all by default.
        mixes: mix files to plan, each at its own snapshot.
        runs: folders of train runs.
        samples: draws of each plan; each document once by default.

    Raises:
        StoreError: there is no such corpus or critic.
        ConfigError, MixError: a mix or a run folder cannot be read, or a mix not planned.
    """
    with SnapshotQueries(store, at) as gathered:
        snapshot = gathered.snapshot
        names = tuple(dict.fromkeys(critic.name for critic in snapshot.critics.values()))
        shown = _chosen("corpus", corpora, tuple(snapshot.corpora))
        judges = _chosen("critic", critics, names)
        judged = [_judged(gathered, *pair) for pair in product(shown, judges)]
        created = gathered.rows(
            "SELECT strftime(created AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M') AS at FROM snapshots "
            "ORDER BY version DESC LIMIT 1"
        )
        found = (
            calibrate(store, judges, corpora=shown, at=snapshot.version)
            if shown and judges
            else None
        )
        return Review(
            store=str(store.root),
            snapshot=snapshot.version,
            created=created[0]["at"] if created else "",
            tags=tuple(n for n, version in store.tags().items() if version == snapshot.version),
            corpora=_corpora(gathered, shown),
            judged=tuple(one for one in judged if one is not None),
            calibration=found,
            mixes=tuple(_planned(store, path, samples) for path in mixes),
            runs=tuple(map(read_train_run, runs)),
        )


def _chosen(what: str, asked: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in asked:
        if name not in known:
            raise StoreError(f"no {what} {name!r}; there are: {', '.join(known) or 'none'}")
    return tuple(dict.fromkeys(asked)) or known


def _corpora(gathered: SnapshotQueries, names: Sequence[str]) -> ReportTable:
    sql = """SELECT corpus, count(*) AS documents, sum(n_bytes) AS bytes, count(DISTINCT source)
    AS sources FROM documents GROUP BY 1"""
    found = {row["corpus"]: row for row in gathered.rows(sql)}
    rows = tuple(
        (
            name,
            f"{found[name]['documents']:,}",
            f"{int(found[name]['bytes']) / 1e6:,.1f} MB",
            f"{found[name]['sources']:,}",
            f"{gathered.snapshot.corpora[name].shards:,}",
        )
        for name in names
        if name in found
    )
    return ReportTable("", ("corpus", "documents", "text", "sources", "shards"), rows)


def _judged(gathered: SnapshotQueries, corpus: str, critic: str) -> CriticSummary | None:
    histogram = gathered.histogram(corpus, critic)
    statuses = gathered.statuses(corpus, critic)
    if statuses.rows and statuses.rows[0][0] == "not critiqued" and len(statuses.rows) == 1:
        return None
    parts = (
        gathered.sources(corpus, critic),
        gathered.complaints(corpus, critic),
        statuses,
    )
    return CriticSummary(
        corpus,
        critic,
        histogram,
        tuple(part for part in parts if part is not None),
        gathered.examples(corpus, critic),
    )


def _planned(store: Store, path: Path, samples: int | None) -> PlannedMix:
    plan = plan_mix(load_mix(path), samples, store=store)
    figures = plan.summary()
    rows = tuple(
        (
            part["name"],
            f"{part['documents']:,}",
            f"{part['tokens']:,}",
            f"{part['share']:.1%}",
            f"{part['epochs']:.2f}",
        )
        for part in figures["selections"]
    )
    text = path.read_text(encoding="utf-8")
    return PlannedMix(
        MixPlanSummary(path.name, text, rows, plan.digest),
        plan.samples,
        figures["tokens"],
        plan.version,
        plan.warnings,
    )


def runs_table(runs: Sequence[TrainRun]) -> ReportTable:
    """One row a train run, with its last figures."""
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
    return ReportTable(
        "", columns, rows, "Losses in nats per token; tasks: the share that is solved."
    )


def held_out_table(run: TrainRun) -> ReportTable | None:
    """Held-out loss by score bucket and feedback, None where nothing was held out."""
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
        chart = curve_chart(tasks, "problems solved", "tasks", share=True)
        yield "Tasks by exact match", chart


def _agreement(found: Calibration | None) -> list[ReportTable]:
    if found is None:
        return []
    # Critics of different corpora have no documents in common.
    return tables(replace(found, pairs=tuple(p for p in found.pairs if p.all.documents)), ())


def _length_charts(found: Calibration | None) -> "list[tuple[str, Markup]]":
    from markupsafe import Markup

    critics = found.critics if found else ()
    return [
        (c.critic, Markup(length_chart(c, i).svg())) for i, c in enumerate(critics) if c.lengths
    ]


def write_review(review: Review, path: Path, plots: Path | None = None) -> list[Path]:
    """Writes the page, its content as JSON beside it, and PNG plots; returns what it wrote.

    Args:
        review: what to show.
        path: of the page.
        plots: folder for the PNG files, None for none.
    """
    from markupsafe import Markup

    charts = [histogram_chart(one.histogram) for one in review.judged]
    run_charts = list(_run_charts(review.runs))
    page = template("review.html").render(
        review=review,
        judged=[
            (one, Markup(chart.svg())) for one, chart in zip(review.judged, charts, strict=True)
        ],
        mixes=mix_table(tuple(mix.plan for mix in review.mixes)) if review.mixes else None,
        runs=runs_table(review.runs) if review.runs else None,
        held_out=[held_out_table(run) for run in review.runs],
        agreement=_agreement(review.calibration),
        lengths=_length_charts(review.calibration),
        run_charts=[(title, Markup(chart.svg())) for title, chart in run_charts],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    kept = path.with_suffix(".json")
    kept.write_bytes(orjson.dumps(review, option=orjson.OPT_INDENT_2))
    drawn = [*charts, *(chart for _, chart in run_charts)]
    return [path, kept, *([chart.write_png(plots) for chart in drawn] if plots else [])]
