"""The page that compares two critics: their agreement, and the largest differences.

Definitions as in `ixt_data.analysis`, over scores rounded to hundredths: one grouped query of the
snapshot returns these.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from starlette.responses import Response

from ixt_data.critics import TOP
from ixt_inspector.web.charts import STEPS, shade_level
from ixt_inspector.web.documents import fetch_page, form_values, parse_filter
from ixt_inspector.web.listing import ListingColumns
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.snapshot_cache import SnapshotView

MAX_SOURCES = 20
SORTS = {"distance": "largest distance", "difference": "difference"}


def show(request: PageRequest) -> Response:
    """Return the page."""
    view = request.view
    names = view.critics
    if len(names) < 2:
        return request.page("critics.html", "Critics", critics=names, page=None)
    first = request.choice("critic", names, view.default_critic or names[0])
    second = request.choice("against", names, next(name for name in names if name != first))
    columns = view.columns(first, second)
    sort = request.choice("order_by", SORTS, "distance")
    filtered = replace(
        parse_filter(request),
        columns=columns,
        sort=sort,
        is_ascending=request.get("order") == "up",
        where="",
    )
    agreement = view.cache.get(("agreement", columns), lambda: _agreement(view, columns))
    return request.page(
        "critics.html",
        f"{first} and {second}",
        critics=names,
        columns=columns,
        page=fetch_page(request, filtered),
        agreement=agreement,
        sort=sort,
        sorts=SORTS,
        form_values=form_values(view, columns),
        steps=STEPS,
        filtered=filtered,
    )


def _agreement(view: SnapshotView, columns: ListingColumns) -> dict[str, Any]:
    """Return statistics over all documents that both have scored, and by source."""
    listing = view.listing(columns)
    both = (
        f"{listing.source} AS listing WHERE status = 'ok' AND other_status = 'ok' "
        "AND difference IS NOT NULL"
    )
    cells = view.query(
        "SELECT round(score, 2) AS a, round(other_score, 2) AS b, count(*) AS n "
        f"FROM {both} GROUP BY ALL"
    )
    sources = view.query(
        "SELECT source, count(*) AS n, avg(difference) AS mean, avg(abs(difference)) AS distance "
        f"FROM {both} GROUP BY source ORDER BY n DESC, source LIMIT {MAX_SOURCES}"
    )
    table: Counter[tuple[int, int]] = Counter()
    for cell in cells:
        table[round(cell["a"] * 10), round(cell["b"] * 10)] += cell["n"]
    largest = max(table.values(), default=0)
    shaded = [[(table[a, b], shade_level(table[a, b], largest)) for b in STEPS] for a in STEPS]
    return {**_statistics(cells), "table": shaded, "sources": sources}


def _statistics(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    a, b, n = (np.array([cell[name] for cell in cells], np.float64) for name in "abn")
    total = n.sum()
    if not total:
        return {"n": 0}
    x, y = np.round(a * TOP), np.round(b * TOP)
    spread = _variance(x, n) + _variance(y, n) + (_mean(x, n) - _mean(y, n)) ** 2
    return {
        "n": int(total),
        "mean": _mean(a - b, n),
        "distance": _mean(abs(a - b), n),
        "exact": _mean((x == y).astype(float), n),
        "kappa": float(1 - _mean((x - y) ** 2, n) / spread) if spread else None,
        "spearman": _correlation(_ranks(a, n), _ranks(b, n), n),
    }


def _ranks(values: Any, n: Any) -> Any:
    """Return ranks of values with `n` documents each; equal values share their mean rank."""
    _, which = np.unique(values, return_inverse=True)
    sizes = np.bincount(which, weights=n)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[which]


def _correlation(a: Any, b: Any, n: Any) -> float | None:
    spread = (_variance(a, n) * _variance(b, n)) ** 0.5
    return float((_mean(a * b, n) - _mean(a, n) * _mean(b, n)) / spread) if spread else None


def _mean(values: Any, n: Any) -> float:
    return float(values @ n / n.sum())


def _variance(values: Any, n: Any) -> float:
    return _mean((values - _mean(values, n)) ** 2, n)
