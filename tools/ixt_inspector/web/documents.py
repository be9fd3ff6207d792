"""The table of documents: filtered, sorted, a page at a time."""

from typing import Any

from starlette.responses import Response

from ixt_data.errors import QueryError
from ixt_data.records import OK
from ixt_inspector.web.documents_table import DocumentsPage, DocumentsTable
from ixt_inspector.web.listing import NO_CRITIQUE, ComparedCritics, DocumentFilter, RowKey
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.snapshot_cache import SnapshotView

SORTS = {
    "score": "score",
    "length": "length",
    "thinking": "thinking tokens",
    "expected": "expected score",
    "entropy": "entropy of the score",
    "spans": "number of spans",
    "id": "document id",
}
FILTERS = ("corpus", "source", "status", "flag", "low", "high", "text", "where")
KEPT = ("critic", "sort", "order", *FILTERS)
"""What a link to a document takes along, so that it can lead to its neighbours."""
SUGGESTED = 200
"""Sources and flags that are offered: the most frequent ones."""


def show(call: PageRequest) -> Response:
    """The page."""
    filtered = filter_of(call)
    found, error = None, None
    try:
        found = fetch(call, filtered)
    except QueryError as problem:
        # Beside the form, so that what was typed can be mended.
        error = str(problem)
    table = {name: call.get(name) for name in KEPT}
    return call.page(
        "documents.html",
        "Documents",
        found=found,
        error=error,
        link_of=lambda row: {**table, "in_": row["corpus"]},
        filtered=filtered,
        critic=filtered.columns.critic,
        critics=call.view.critics,
        offered=offered(call.view, filtered.columns),
        sorts=SORTS,
        active=[name for name in FILTERS if call.get(name)],
        unread=NO_CRITIQUE,
    )


def filter_of(call: PageRequest) -> DocumentFilter:
    """What the address asks for.

    Raises:
        QueryError: a value in it is none.
    """
    critics = call.view.critics
    critic = call.choice("critic", critics, critics[0] if critics else "") or None
    equal = [(name, call.get(name)) for name in ("corpus", "source", "status") if call.get(name)]
    sort = call.choice("sort", SORTS, "score" if critic else "length")
    return DocumentFilter(
        ComparedCritics(critic),
        tuple(equal),
        call.number("low"),
        call.number("high"),
        call.get("flag"),
        call.get("text"),
        call.get("where"),
        sort,
        call.choice("order", ("up", "down"), "down") == "up",
    )


def fetch(call: PageRequest, filtered: DocumentFilter) -> DocumentsPage:
    """The page of the table that the address asks for.

    Raises:
        QueryError: the filter's own predicate is refused.
    """
    before, after = call.get("before"), call.get("after")
    place = before or after
    return DocumentsTable(call, filtered).page(
        RowKey.parse(place) if place else None, back=bool(before)
    )


def offered(view: SnapshotView, columns: ComparedCritics) -> dict[str, list[Any]]:
    """Values that a form offers: corpora, and the most frequent sources, statuses and flags."""

    def ask() -> dict[str, list[Any]]:
        table = view.listing(columns)

        def most(value: str, source: str) -> list[Any]:
            sql = (
                f"SELECT {value} AS value, count(*) AS n FROM {source} GROUP BY 1 "
                f"ORDER BY n DESC, value LIMIT {SUGGESTED}"
            )
            return [row["value"] for row in view.ask(sql) if row["value"] is not None]

        statuses = most("status", f"{table} AS listing")
        return {
            "corpus": list(view.snapshot.corpora),
            "source": most("source", f"{table} AS listing"),
            "status": sorted(statuses, key=lambda status: (status != OK, status)),
            "flag": most("flag", f"(SELECT unnest(flags) AS flag FROM {table} AS listing)"),
        }

    return view.memo.get(("offered", columns), ask)
