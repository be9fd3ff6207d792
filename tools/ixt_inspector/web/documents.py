"""The page of the table of documents: filtered, sorted, one page at a time."""

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from ixt_data.errors import ConfigError, CorruptError, QueryError, StoreError
from ixt_data.records import OK
from ixt_data.store import find_snippets
from ixt_inspector.web.access import is_cross_site
from ixt_inspector.web.document_columns import OWN, own_column
from ixt_inspector.web.documents_table import DocumentsPage, DocumentsTable
from ixt_inspector.web.facets import NO_TEXT, NO_VALUE, Facet
from ixt_inspector.web.listing import NO_CRITIQUE, DocumentFilter, ListingColumns, RowKey
from ixt_inspector.web.request import PageRequest, templates
from ixt_inspector.web.selecting import save_filter, selection_state
from ixt_inspector.web.snapshot_cache import SnapshotView
from ixt_inspector.web.table_columns import add_values, all_columns, shown_columns
from ixt_inspector.web.text import marked_segments

SORTS = {
    "score": "score",
    "length": "length",
    "thinking": "thinking tokens",
    "expected": "expected score",
    "entropy": "entropy of the score",
    "spans": "number of spans",
    "bytes": "bytes",
    "corpus": "corpus",
    "source": "source",
    "stage": "stage",
    "status": "status",
    "id": "document id",
    "relevance": "relevance",
}
FILTERS = ("corpus", "source", "status", "flag", "low", "high", "text", "where", "find")
OWN_FILTERS = ("is.", "no.")
"""Starts of the names of filters by columns of the user: by a value, or by its absence."""
_TABLE_PARAMETERS = ("critic", "sort", "order", "show", *FILTERS)
MAX_SUGGESTIONS = 200
"""Sources and flags that the form suggests: the most frequent ones."""


def show(request: PageRequest) -> Response:
    """Return the page."""
    return _page(request)


def save(request: PageRequest) -> Response:
    """Save the filter of the form as a selection, and open the page that lists selections.

    A form that is not valid is shown again, with the error.
    """
    try:
        return save_filter(request)
    except (ConfigError, StoreError, QueryError) as error:
        if request.inspector.reviewers is None or request.at or isinstance(error, CorruptError):
            raise
        request.path = "/documents"
        return _page(request, str(error))


def _page(request: PageRequest, form_error: str = "") -> Response:
    """Return the page, with the error of a form that was not saved."""
    filtered = parse_filter(request)
    columns = shown_columns(request, filtered.sort)
    page, error, facets = None, None, None
    # A link on another site only fills in the form.
    is_held = bool(request.get("where")) and is_cross_site(request.http_request.headers)
    try:
        if not is_held:
            page = fetch_page(request, filtered)
            facets = _facets(request, filtered)
    except QueryError as problem:
        # The page shows the error with the form, where the user can correct the filter.
        error = str(problem)
    table = table_parameters(request)
    own = [*request.starting("is."), *request.starting("no.")]
    return request.page(
        "documents.html",
        "Documents",
        400 if form_error else 200,
        page=page,
        rows=add_values(request, page.rows, columns) if page is not None else [],
        columns=columns,
        has_score=any(column.key == "score" for column in columns),
        formats=templates().filters,
        all_columns=all_columns(request.view),
        facets=facets,
        error=error,
        is_held=is_held,
        link_of=lambda row: {**table, "in_": row["corpus"]},
        filtered=filtered,
        critic=filtered.columns.critic,
        critics=request.view.critics,
        form_values=form_values(request.view, filtered.columns),
        sorts=SORTS,
        own_columns=request.view.own_columns,
        sort_name=SORTS.get(filtered.sort) or filtered.sort.removeprefix(OWN),
        active=[*(name for name in FILTERS if request.get(name)), *own],
        unread=NO_CRITIQUE,
        excerpts=_excerpts(request, page),
        selection=selection_state(request, filtered) if page is not None else None,
        form_error=form_error,
    )


def parse_filter(request: PageRequest) -> DocumentFilter:
    """Return the filter of an address.

    Raises:
        QueryError: a value in the address is not valid.
    """
    view = request.view
    critic = request.choice("critic", view.critics, view.default_critic or "") or None
    equal = [
        (name, request.get(name)) for name in ("corpus", "source", "status") if request.get(name)
    ]
    default = _default_sort(request, critic)
    own_sort = request.get("sort") if request.get("sort").startswith(OWN) else ""
    sort = own_sort or request.choice("sort", SORTS, default)
    if sort == "relevance" and not request.get("find"):
        sort = default
    own_equal: dict[str, str | None] = {**request.starting("is.")}
    for name in request.starting("no."):
        missing = request.choice(f"no.{name}", (NO_VALUE, NO_TEXT), NO_VALUE)
        own_equal[name] = "" if missing == NO_TEXT else None
    for name in own_equal:
        own_column(view.own_columns, name)
    return DocumentFilter(
        view.columns(critic, own=own_sort.removeprefix(OWN) if own_sort else None),
        tuple(equal),
        request.number("low"),
        request.number("high"),
        request.get("flag"),
        request.get("text"),
        request.get("where"),
        request.get("find"),
        sort,
        request.choice("order", ("up", "down"), "down") == "up",
        tuple(own_equal.items()),
    )


def table_parameters(request: PageRequest) -> dict[str, Any]:
    """Return the parameters of a table: a document links to the neighbours in the same table."""
    return {
        name: value
        for name, value in request.query.items()
        if name in _TABLE_PARAMETERS or name.startswith(OWN_FILTERS)
    }


def _facets(request: PageRequest, filtered: DocumentFilter) -> list[Facet] | None:
    """Return the counts of values by column; None where they take too long."""
    try:
        return DocumentsTable(request, filtered).facets()
    except QueryError:
        return None


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


def form_values(view: SnapshotView, columns: ListingColumns) -> dict[str, list[Any]]:
    """Return the values that a form suggests: corpora, frequent sources, statuses and flags."""
    columns = replace(columns, own=None)

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
