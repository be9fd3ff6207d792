"""The table of documents: filtered, sorted, a page at a time."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.responses import Response

from ixt_data.errors import QueryError
from ixt_data.model import OK
from ixt_tools.inspector.web import listing
from ixt_tools.inspector.web.call import Call
from ixt_tools.inspector.web.listing import NO_CRITIQUE, ROWS, Columns, Filter, Key, Question
from ixt_tools.inspector.web.views import View
from ixt_tools.inspector.web.workers import Statement

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
WHERE_SECONDS = 10
"""That a predicate of a user's own may take for a page, and as many to count."""
_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class Rows:
    """One page of a table.

    Attributes:
        rows: the documents.
        total: that the filter finds.
        first: how many stand before them; None where counting that would take too long.
        before, after: keys of the neighbouring pages, None where there is none.
    """

    rows: list[dict[str, Any]]
    total: int
    first: int | None
    before: Key | None
    after: Key | None


def show(call: Call) -> Response:
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
        none=NO_CRITIQUE,
    )


def filter_of(call: Call) -> Filter:
    """What the address asks for.

    Raises:
        QueryError: a value in it is none.
    """
    critics = call.view.critics
    critic = call.choice("critic", critics, critics[0] if critics else "") or None
    equal = [(name, call.get(name)) for name in ("corpus", "source", "status") if call.get(name)]
    sort = call.choice("sort", SORTS, "score" if critic else "length")
    return Filter(
        Columns(critic),
        tuple(equal),
        call.number("low"),
        call.number("high"),
        call.get("flag"),
        call.get("text"),
        call.get("where"),
        sort,
        call.choice("order", ("up", "down"), "down") == "up",
    )


def fetch(call: Call, filtered: Filter) -> Rows:
    """The page of the table that the address asks for.

    Raises:
        QueryError: the filter's own predicate is refused.
    """
    view, ask = call.view, partial(answer, call, filtered)
    own, table = listing.without_where(filtered), _table(view, filtered)
    page = partial(listing.page, view.snapshot, table, own, rows=ROWS)
    key, back = _key(call)
    rows = ask(page(key, back=back))
    if back and len(rows) <= ROWS:
        # The first page, whole: what is before the key may be less.
        key, back = None, False
        rows = ask(page(None, back=False))
    more, rows = len(rows) > ROWS, rows[:ROWS]
    if back:
        rows.reverse()
    counted = replace(filtered, sort="score", up=False)
    if filtered.sort in ("difference", "distance"):
        counted = replace(filtered, sort="distance", up=False)
    count = listing.count(view.snapshot, table, own)
    total = view.memo.get(("count", counted), lambda: ask(count)[0]["n"])
    first: int | None = 0
    if rows and key is not None:
        ranked = listing.rank(view.snapshot, table, own, listing.key_of(rows[0]))
        first = None if filtered.where else ask(ranked)[0]["n"]
    has_after = bool(rows) and (more or back)
    return Rows(
        rows,
        total,
        first,
        listing.key_of(rows[0]) if rows and key is not None else None,
        listing.key_of(rows[-1]) if has_after else None,
    )


def neighbours(call: Call, filtered: Filter, doc_id: str, corpus: str) -> tuple[Any, Any]:
    """The documents before and after one in the table, None where there is none."""
    view = call.view
    if filtered.where:
        return None, None
    table = _table(view, filtered)
    here = Filter(filtered.columns, (("corpus", corpus),), sort=filtered.sort, up=filtered.up)
    # The row itself tells the value that it is sorted by.
    value = listing.SORTS[filtered.sort]
    found = answer(
        call,
        here,
        Question(
            f"SELECT doc_id, corpus, {value} AS sorted FROM {table} AS listing "
            "WHERE doc_id = $id::UUID AND corpus = $corpus",
            {"id": doc_id, "corpus": corpus},
        ),
    )
    if not found:
        return None, None
    key = listing.key_of(found[0])
    page = partial(listing.page, view.snapshot, table, filtered, key, rows=1)
    sides = (answer(call, filtered, page(back=back))[:1] for back in (True, False))
    before, after = (rows[0] if rows else None for rows in sides)
    return before, after


def answer(call: Call, filtered: Filter, question: Question) -> list[dict[str, Any]]:
    """Rows of ours; those with a predicate that a user has typed come from another process."""
    if not filtered.where:
        return call.view.ask(question.sql, dict(question.values))
    statement = Statement(
        question.sql, call.view.version, ROWS + 1, question.values, seconds=WHERE_SECONDS
    )
    return call.inspector.workers.run(statement, _WAIT).records()


def offered(view: View, columns: Columns) -> dict[str, list[Any]]:
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


def _table(view: View, filtered: Filter) -> str:
    if filtered.where:
        return listing.source(view.snapshot, filtered)
    return view.listing(filtered.columns)


def _key(call: Call) -> tuple[Key | None, bool]:
    if before := call.get("before"):
        return Key.parse(before), True
    after = call.get("after")
    return (Key.parse(after) if after else None), False
