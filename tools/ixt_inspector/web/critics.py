"""Two critics side by side: how far they agree, and the documents that part them most.

Definitions as in `ixt_data.analysis`; here over scores rounded to a hundredth, as one grouping of
the snapshot returns them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from starlette.responses import Response

from ixt_data.critics import TOP
from ixt_inspector.web.charts import STEPS, shade
from ixt_inspector.web.documents import fetch, filter_of, offered
from ixt_inspector.web.listing import ComparedCritics
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.snapshot_cache import SnapshotView

SOURCES = 20
SORTS = {"distance": "farthest apart", "difference": "difference"}


def show(call: PageRequest) -> Response:
    """The page."""
    view = call.view
    names = view.critics
    if len(names) < 2:
        return call.page("critics.html", "Critics", critics=names, found=None)
    first = call.choice("critic", names, names[0])
    second = call.choice("against", names, next(name for name in names if name != first))
    columns = ComparedCritics(first, second)
    sort = call.choice("order_by", SORTS, "distance")
    filtered = replace(
        filter_of(call), columns=columns, sort=sort, up=call.get("order") == "up", where=""
    )
    agreement = view.memo.get(("agreement", columns), lambda: _agreement(view, columns))
    return call.page(
        "critics.html",
        f"{first} and {second}",
        critics=names,
        columns=columns,
        found=fetch(call, filtered),
        agreement=agreement,
        sort=sort,
        sorts=SORTS,
        offered=offered(view, columns),
        steps=STEPS,
        filtered=filtered,
    )


def _agreement(view: SnapshotView, columns: ComparedCritics) -> dict[str, Any]:
    """Figures over all documents that both have scored, and by source."""
    both = (
        f"{view.listing(columns)} AS listing WHERE status = 'ok' AND other_status = 'ok' "
        "AND difference IS NOT NULL"
    )
    cells = view.ask(
        "SELECT round(score, 2) AS a, round(other_score, 2) AS b, count(*) AS n "
        f"FROM {both} GROUP BY ALL"
    )
    sources = view.ask(
        "SELECT source, count(*) AS n, avg(difference) AS mean, avg(abs(difference)) AS apart "
        f"FROM {both} GROUP BY source ORDER BY n DESC, source LIMIT {SOURCES}"
    )
    table: Counter[tuple[int, int]] = Counter()
    for cell in cells:
        table[round(cell["a"] * 10), round(cell["b"] * 10)] += cell["n"]
    most = max(table.values(), default=0)
    shaded = [[(table[a, b], shade(table[a, b], most)) for b in STEPS] for a in STEPS]
    return {**_figures(cells), "table": shaded, "sources": sources}


def _figures(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    a, b, n = (np.array([cell[name] for cell in cells], np.float64) for name in "abn")
    total = n.sum()
    if not total:
        return {"n": 0}
    x, y = np.round(a * TOP), np.round(b * TOP)
    spread = _variance(x, n) + _variance(y, n) + (_mean(x, n) - _mean(y, n)) ** 2
    return {
        "n": int(total),
        "mean": _mean(a - b, n),
        "apart": _mean(abs(a - b), n),
        "exact": _mean((x == y).astype(float), n),
        "kappa": float(1 - _mean((x - y) ** 2, n) / spread) if spread else None,
        "spearman": _correlation(_ranks(a, n), _ranks(b, n), n),
    }


def _ranks(values: Any, n: Any) -> Any:
    """Ranks of values that stand for `n` documents each; equal ones share their mean rank."""
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
