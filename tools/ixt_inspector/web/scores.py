"""The page of scores: their distribution over all documents and by source."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from ixt_data.errors import QueryError
from ixt_data.sql import SCORE_STEP
from ixt_inspector.web.chart_files import FORMATS, chart_file
from ixt_inspector.web.charts import (
    HistogramBar,
    histogram_bars,
    histogram_chart,
    histogram_counts,
    small_histogram_chart,
)
from ixt_inspector.web.request import PageRequest, group_rows
from ixt_inspector.web.snapshot_cache import SnapshotView

MAX_SOURCES = 24
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def show(request: PageRequest) -> Response:
    """Return the page."""
    view = request.view
    critic = request.choice("critic", view.critics, view.default_critic or "")
    corpus = request.choice("corpus", view.snapshot.corpora, "")
    scores: dict[str, Any] = {"n": 0}
    chart = None
    if critic:
        key = ("scores", critic, corpus)
        scores = view.cache.get(key, lambda: _read_scores(view, critic, corpus))

    def link_of(bar: HistogramBar) -> str:
        return request.link("/documents", critic=critic, corpus=corpus, **bar.bounds())

    if scores["n"]:
        chart = histogram_chart(scores["bars"], "Documents by score", link_of)
    if kind := request.choice("format", FORMATS, ""):
        if chart is None:
            raise QueryError(f"no scores by {critic!r}" if critic else "no critiques yet")
        return chart_file(chart, kind, f"Scores by {critic}")
    return request.page(
        "scores.html",
        "Scores",
        critic=critic,
        critics=view.critics,
        corpus=corpus,
        corpora=list(view.snapshot.corpora),
        scores=scores,
        chart=chart,
        max_sources=MAX_SOURCES,
        files={kind: request.link(format=kind) for kind in FORMATS},
        link_of=link_of,
    )


def _read_scores(view: SnapshotView, critic: str, corpus: str) -> dict[str, Any]:
    listing, values = view.listing(view.columns(critic)), {"corpus": corpus}
    scored = f"{listing.source} AS listing WHERE status = 'ok' AND score IS NOT NULL"
    if corpus:
        scored += " AND corpus = $corpus"
    parameters = values if corpus else None
    totals = view.query(
        f"SELECT count(*) AS n, avg(score) AS mean, stddev_pop(score) AS deviation, "
        f"quantile_cont(score, {list(_QUANTILES)}) AS quantiles, "
        f"count(DISTINCT source) AS sources FROM {scored}",
        parameters,
    )[0]
    steps = view.query(
        f"WITH steps AS (SELECT source, {SCORE_STEP} AS step, "
        f"count(*) AS n, sum(score) AS total FROM {scored} GROUP BY ALL), "
        "largest AS (SELECT source FROM steps GROUP BY source ORDER BY sum(n) DESC, source "
        f"LIMIT {MAX_SOURCES}) "
        "SELECT CASE WHEN largest.source IS NULL THEN NULL ELSE steps.source END AS source, step, "
        "sum(n)::BIGINT AS n, sum(total) AS total FROM steps LEFT JOIN largest "
        "ON steps.source = largest.source GROUP BY ALL",
        parameters,
    )
    sources = [_source(name, rows) for name, rows in group_rows(steps, "source").items()]
    sources.sort(key=lambda source: (source["name"] is None, -source["n"], source["name"]))
    return {
        **totals,
        "quantiles": list(zip(_QUANTILES, totals["quantiles"] or [], strict=False)),
        "bars": histogram_bars(histogram_counts(steps)),
        "by_source": sources,
    }


def _source(name: str | None, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    n = sum(row["n"] for row in rows)
    mean = sum(row["total"] for row in rows) / n
    bars = histogram_bars(histogram_counts(rows))
    chart = small_histogram_chart(bars, f"Scores of {name}")
    return {"name": name, "n": n, "mean": mean, "bars": bars, "chart": chart}
