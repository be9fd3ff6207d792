"""How a critic's scores are spread, over all documents and by source."""

from typing import Any

from starlette.responses import Response

from ixt_inspector.web.charts import bars, histogram
from ixt_inspector.web.listing import ComparedCritics
from ixt_inspector.web.request import PageRequest, rows_by
from ixt_inspector.web.snapshot_cache import SnapshotView

SOURCES = 24
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def show(call: PageRequest) -> Response:
    """The page."""
    view = call.view
    critic = call.choice("critic", view.critics, next(iter(view.critics), ""))
    corpus = call.choice("corpus", view.snapshot.corpora, "")
    found = None
    if critic:
        found = view.memo.get(("scores", critic, corpus), lambda: _found(view, critic, corpus))
    return call.page(
        "scores.html",
        "Scores",
        critic=critic,
        critics=view.critics,
        corpus=corpus,
        corpora=list(view.snapshot.corpora),
        found=found,
        most=SOURCES,
        link_of=lambda bar: call.link(
            "/documents", critic=critic, corpus=corpus, low=bar.low, high=bar.high
        ),
    )


def _found(view: SnapshotView, critic: str, corpus: str) -> dict[str, Any]:
    table, values = view.listing(ComparedCritics(critic)), {"corpus": corpus}
    scored = f"{table} AS listing WHERE status = 'ok' AND score IS NOT NULL"
    if corpus:
        scored += " AND corpus = $corpus"
    given = values if corpus else None
    whole = view.ask(
        f"SELECT count(*) AS n, avg(score) AS mean, stddev_pop(score) AS deviation, "
        f"quantile_cont(score, {list(_QUANTILES)}) AS quantiles, "
        f"count(DISTINCT source) AS sources FROM {scored}",
        given,
    )[0]
    steps = view.ask(
        "WITH steps AS (SELECT source, round(least(greatest(score, 0), 1) * 10)::INTEGER AS step, "
        f"count(*) AS n, sum(score) AS total FROM {scored} GROUP BY ALL), "
        "largest AS (SELECT source FROM steps GROUP BY source ORDER BY sum(n) DESC, source "
        f"LIMIT {SOURCES}) "
        "SELECT CASE WHEN largest.source IS NULL THEN NULL ELSE steps.source END AS source, step, "
        "sum(n)::BIGINT AS n, sum(total) AS total FROM steps LEFT JOIN largest "
        "ON steps.source = largest.source GROUP BY ALL",
        given,
    )
    sources = [_source(name, rows) for name, rows in rows_by(steps, "source").items()]
    sources.sort(key=lambda source: (source["name"] is None, -source["n"], source["name"]))
    return {
        **whole,
        "quantiles": list(zip(_QUANTILES, whole["quantiles"] or [], strict=False)),
        "bars": bars(histogram(steps)),
        "by_source": sources,
    }


def _source(name: str | None, rows: Any) -> dict[str, Any]:
    n = sum(row["n"] for row in rows)
    mean = sum(row["total"] for row in rows) / n
    return {"name": name, "n": n, "mean": mean, "bars": bars(histogram(rows))}
