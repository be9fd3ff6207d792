"""The page of the table of documents: filtered, sorted, one page at a time."""

from typing import Any

from starlette.responses import Response

from ixt_data.errors import QueryError
from ixt_data.records import OK
from ixt_data.store import find_snippets
from ixt_inspector.web.access import is_cross_site
from ixt_inspector.web.documents_table import DocumentsPage, DocumentsTable
from ixt_inspector.web.listing import NO_CRITIQUE, ComparedCritics, DocumentFilter, RowKey
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.selecting import selection_state
from ixt_inspector.web.snapshot_cache import SnapshotView
from ixt_inspector.web.text import marked_segments

SORTS = {
    "score": "score",
    "length": "length",
    "thinking": "thinking tokens",
    "expected": "expected score",
    "entropy": "entropy of the score",
    "spans": "number of spans",
    "id": "document id",
    "relevance": "relevance",
}
FILTERS = ("corpus", "source", "status", "flag", "low", "high", "text", "where", "find")
TABLE_PARAMETERS = ("critic", "sort", "order", *FILTERS)
"""Parameters in the link to a document: its page links to the neighbours in the same table."""
MAX_SUGGESTIONS = 200
"""Sources and flags that the form suggests: the most frequent ones."""


def show(request: PageRequest) -> Response:
    """Return the page."""
    filtered = parse_filter(request)
    page, error = None, None
    # A link on another site only fills in the form.
    is_held = bool(request.get("where")) and is_cross_site(request.http_request.headers)
    try:
        page = fetch_page(request, filtered) if not is_held else None
    except QueryError as problem:
        # The page shows the error with the form, where the user can correct the filter.
        error = str(problem)
    table = {name: request.get(name) for name in TABLE_PARAMETERS}
    return request.page(
        "documents.html",
        "Documents",
        page=page,
        error=error,
        is_held=is_held,
        link_of=lambda row: {**table, "in_": row["corpus"]},
        filtered=filtered,
        critic=filtered.columns.critic,
        critics=request.view.critics,
        form_values=form_values(request.view, filtered.columns),
        sorts=SORTS,
        active=[name for name in FILTERS if request.get(name)],
        unread=NO_CRITIQUE,
        excerpts=_excerpts(request, page),
        selection=selection_state(request, filtered) if page is not None else None,
    )


def parse_filter(request: PageRequest) -> DocumentFilter:
    """Return the filter of an address.

    Raises:
        QueryError: a value in the address is not valid.
    """
    critics = request.view.critics
    critic = request.choice("critic", critics, critics[0] if critics else "") or None
    equal = [
        (name, request.get(name)) for name in ("corpus", "source", "status") if request.get(name)
    ]
    sort = request.choice("sort", SORTS, _default_sort(request, critic))
    if sort == "relevance" and not request.get("find"):
        sort = _default_sort(request, critic)
    return DocumentFilter(
        ComparedCritics(critic),
        tuple(equal),
        request.number("low"),
        request.number("high"),
        request.get("flag"),
        request.get("text"),
        request.get("where"),
        request.get("find"),
        sort,
        request.choice("order", ("up", "down"), "down") == "up",
    )


def _default_sort(request: PageRequest, critic: str | None) -> str:
    return "relevance" if request.get("find") else "score" if critic else "length"


def _excerpts(request: PageRequest, page: DocumentsPage | None) -> dict[str, Any]:
    """Return the field and the marked excerpt of each row that a search found, by doc_id."""
    words = request.get("find")
    if not words or page is None:
        return {}
    ids = [str(row["doc_id"]) for row in page.rows]
    store, snapshot = request.inspector.views.store, request.view.snapshot
    found = find_snippets(store, snapshot, words, ids)
    return {
        doc_id: (field, marked_segments(snippet.text, snippet.marks))
        for doc_id, (field, snippet) in found.items()
    }


def fetch_page(request: PageRequest, filtered: DocumentFilter) -> DocumentsPage:
    """Return the page of the table at an address.

    Raises:
        QueryError: DuckDB refuses the user's predicate.
    """
    before, after = request.get("before"), request.get("after")
    key = before or after
    return DocumentsTable(request, filtered).page(
        RowKey.parse(key) if key else None, is_backward=bool(before)
    )


def form_values(view: SnapshotView, columns: ComparedCritics) -> dict[str, list[Any]]:
    """Return the values that a form suggests: corpora, frequent sources, statuses and flags."""

    def compute() -> dict[str, list[Any]]:
        listing = view.listing(columns)

        def most_frequent(value: str, source: str) -> list[Any]:
            sql = (
                f"SELECT {value} AS value, count(*) AS n FROM {source} GROUP BY 1 "
                f"ORDER BY n DESC, value LIMIT {MAX_SUGGESTIONS}"
            )
            return [row["value"] for row in view.query(sql) if row["value"] is not None]

        statuses = most_frequent("status", f"{listing.source} AS listing")
        return {
            "corpus": list(view.snapshot.corpora),
            "source": most_frequent("source", f"{listing.source} AS listing"),
            "status": sorted(statuses, key=lambda status: (status != OK, status)),
            "flag": most_frequent(
                "flag", f"(SELECT unnest(flags) AS flag FROM {listing.source} AS listing)"
            ),
        }

    return view.cache.get(("form values", columns), compute)
