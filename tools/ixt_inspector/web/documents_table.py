"""One page of the table of documents: asked over what is kept, or apart where it must be."""

from dataclasses import dataclass, replace
from typing import Any

from ixt_inspector.web import listing
from ixt_inspector.web.listing import ROWS, TAME_COLUMNS, DocumentFilter, RowKey, TableQuery
from ixt_inspector.web.query_pool import Statement
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.safe_predicates import is_tame

SECONDS = 10
"""That a predicate which runs apart may take."""
_WAIT = 2.0
"""Seconds that it waits for its turn."""


@dataclass(frozen=True, slots=True)
class DocumentsPage:
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
    before: RowKey | None
    after: RowKey | None


class DocumentsTable:
    """The documents of a snapshot that a filter finds.

    A predicate that is not known to be harmless sees all columns, in a process of its own, and only
    tells which documents they are.
    """

    def __init__(self, call: PageRequest, filtered: DocumentFilter) -> None:
        self._call, self._view, self._filtered = call, call.view, filtered
        self._kept = self._view.listing(filtered.columns)
        where = filtered.where
        tame = not where or self._view.memo.get(
            ("tame", where), lambda: is_tame(self._view, where, TAME_COLUMNS)
        )
        self._apart = not tame
        self._own, self._from = filtered, self._kept
        if self._apart:
            self._from = listing.with_predicate(self._view.snapshot, filtered)
            self._own = replace(filtered, where="")

    def page(self, key: RowKey | None, *, back: bool) -> DocumentsPage:
        """The page after a key, or before it.

        Raises:
            QueryError: the filter's own predicate is refused.
        """
        rows = self._rows(key, back, ROWS)
        if back and len(rows) <= ROWS:
            # The first page, whole: what is before the key may be less.
            key, back = None, False
            rows = self._rows(None, False, ROWS)
        more, rows = len(rows) > ROWS, rows[:ROWS]
        if back:
            rows.reverse()
        has_after = bool(rows) and (more or back)
        return DocumentsPage(
            self._whole(rows) if self._apart else rows,
            rows[0]["n"] if self._apart and rows else self.total(),
            self._rank(rows[0]) if rows and key is not None else 0,
            listing.key_of(rows[0]) if rows and key is not None else None,
            listing.key_of(rows[-1]) if has_after else None,
        )

    def total(self) -> int:
        """How many there are."""
        # The order decides nothing, but for documents that only one of two critics has scored.
        both = self._filtered.sort in ("difference", "distance")
        key = replace(self._filtered, sort="distance" if both else "id", up=False)
        count = listing.count(self._view.snapshot, self._from, self._own)
        total: int = self._view.memo.get(("count", key), lambda: self._ask(count)[0]["n"])
        return total

    def neighbours(self, doc_id: str, corpus: str) -> list[dict[str, Any] | None]:
        """The documents before and after one, None where there is none or finding it is slow."""
        if self._apart:
            return [None, None]
        found = self._ask(listing.value_of(self._kept, self._filtered, doc_id, corpus))
        if not found:
            return [None, None]
        key = listing.key_of(found[0])
        sides = (self._rows(key, back, 1) for back in (True, False))
        return [rows[0] if rows else None for rows in sides]

    def _rows(self, key: RowKey | None, back: bool, rows: int) -> list[dict[str, Any]]:
        page = listing.page_apart if self._apart else listing.page
        return self._ask(
            page(self._view.snapshot, self._from, self._own, key, back=back, rows=rows)
        )

    def _rank(self, row: dict[str, Any]) -> int | None:
        if self._apart:
            return None
        key = listing.key_of(row)
        n: int = self._ask(listing.rank(self._view.snapshot, self._from, self._own, key))[0]["n"]
        return n

    def _whole(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """All that is shown of rows that only tell which documents they are."""
        asked = listing.rows_of(self._kept, [str(row["doc_id"]) for row in rows])
        known = self._view.ask(asked.sql, dict(asked.values))
        by_place = {(str(row["doc_id"]), row["corpus"]): row for row in known}
        return [{**by_place[str(row["doc_id"]), row["corpus"]], **row} for row in rows]

    def _ask(self, question: TableQuery) -> list[dict[str, Any]]:
        if not self._apart:
            return self._view.ask(question.sql, dict(question.values))
        statement = Statement(
            question.sql, self._view.version, ROWS + 1, question.values, seconds=SECONDS
        )
        return self._call.inspector.workers.run(statement, _WAIT).records()
