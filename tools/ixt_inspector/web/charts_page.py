"""The page of scores by any column, or by the score of another critic."""

from typing import Any

from starlette.responses import Response

from ixt_data.errors import QueryError
from ixt_inspector.web.chart_files import FORMATS, chart_file
from ixt_inspector.web.charts import LABELS
from ixt_inspector.web.listing import ListingColumns
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.score_charts import (
    MAX_BINS,
    ChartAxis,
    ScoreBin,
    axis_names,
    chart_axis,
    range_predicate,
    read_bins,
    score_chart,
    scored,
)

_BOUNDS = ("from", "to", "low", "high")


def show(request: PageRequest) -> Response:
    """Return the page, or its chart as a file."""
    view = request.view
    critic = request.choice("critic", view.critics, view.default_critic or "")
    if not critic:
        return request.page("charts.html", "Charts", critic="")
    names = axis_names(view, critic)
    x = request.choice("x", names, "length")
    corpus = request.choice("corpus", view.snapshot.corpora, "")
    axis, columns = chart_axis(view, critic, x)
    key = ("chart", critic, x, corpus)
    bins: list[ScoreBin] = view.cache.get(key, lambda: read_bins(view, axis, columns, corpus))
    n = sum(one.n for one in bins)
    spec = score_chart(axis, bins, critic) if n else None
    if kind := request.get("format"):
        request.choice("format", FORMATS, FORMATS[0])
        if spec is None:
            raise QueryError("no document has both a score and a value of this column")
        return chart_file(spec, kind, f"Score by {critic} by {axis.title}")
    return request.page(
        "charts.html",
        "Charts",
        critic=critic,
        critics=view.critics,
        names=names,
        x=x,
        corpus=corpus,
        corpora=list(view.snapshot.corpora),
        axis=axis,
        chart=spec,
        n=n,
        labels=LABELS,
        bins=[(one, _link(request, axis, one, is_last=one is bins[-1])) for one in bins],
        max_bins=MAX_BINS,
        files={kind: request.link("/charts", **_shown(request), format=kind) for kind in FORMATS},
        bounds={name: request.get(name) for name in _BOUNDS},
        selected=_selected(request, axis, columns, corpus),
    )


def _shown(request: PageRequest) -> dict[str, str]:
    return {name: request.get(name) for name in ("critic", "x", "corpus")}


def _link(request: PageRequest, axis: ChartAxis, one: ScoreBin, *, is_last: bool) -> str | None:
    """Return the address of the documents of a bin; None where no filter has exactly these."""
    table = {"critic": request.get("critic"), "corpus": request.get("corpus"), "status": "ok"}
    if axis.is_number:
        where = range_predicate(axis, one.low, one.high, is_open=not is_last)
        return request.link("/documents", **table, low=0, where=where)
    if axis.parameter.startswith("is."):
        name = axis.parameter.removeprefix("is.")
        missing = "value" if one.text is None else "text" if not one.text else ""
        table |= {axis.parameter: one.text or "", f"no.{name}": missing}
    elif axis.parameter in ("corpus", "source") and one.text:
        table[axis.parameter] = one.text
    else:
        return None
    return request.link("/documents", **table, low=0)


def _selected(
    request: PageRequest, axis: ChartAxis, columns: ListingColumns, corpus: str
) -> dict[str, Any] | None:
    """Return the documents within the bounds of the address; None without bounds."""
    bounds = {name: request.number(name) for name in _BOUNDS}
    if not axis.is_number or all(bound is None for bound in bounds.values()):
        return None
    conditions, values = scored(axis, corpus)
    places = ((axis.value, "from", "to"), ("score", "low", "high"))
    for column, *names in places:
        for name, sign in zip(names, (">=", "<="), strict=True):
            if bounds[name] is not None:
                conditions.append(f"{column} {sign} $bound_{name}")
                values[f"bound_{name}"] = bounds[name]
    listing = request.view.listing(columns)
    sql = f"SELECT count(*) AS n FROM {listing.source} AS listing WHERE {' AND '.join(conditions)}"
    (row,) = request.view.query(sql, values)
    where = range_predicate(axis, bounds["from"], bounds["to"], is_open=False)
    low = 0 if bounds["low"] is None else bounds["low"]
    table = {"critic": request.get("critic"), "corpus": corpus, "status": "ok", "where": where}
    return {
        "n": row["n"],
        "link": request.link("/documents", **table, low=low, high=bounds["high"]),
    }
