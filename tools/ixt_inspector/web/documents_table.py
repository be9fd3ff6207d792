"""One page of the table of documents, queried in the server or in a separate process."""

from dataclasses import dataclass, replace
from typing import Any

from ixt_inspector.web import facets, listing
from ixt_inspector.web.listing import ROWS, SAFE_COLUMNS, DocumentFilter, RowKey, TableQuery
from ixt_inspector.web.query_pool import Statement, TooManyQueries
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.safe_predicates import is_safe_predicate

MAX_SECONDS = 10
"""Time limit of a predicate that runs in a separate process."""
_WAIT_SECONDS = 2.0
"""Time that such a predicate waits for a free process."""


@dataclass(frozen=True, slots=True)
class DocumentsPage:
    """One page of the table.

    Attributes:
        rows: the documents.
        total: number of documents that match the filter.
        first: number of documents before the page; None where counting them would be slow.
        before: key of the previous page, None on the first page.
        after: key of the next page, None on the last page.
    """

    rows: list[dict[str, Any]]
    total: int
    first: int | None
    before: RowKey | None
    after: RowKey | None


class DocumentsTable:
    """The documents of a snapshot that match a filter.

    A predicate that is not known to be safe reads all columns in a separate process, which returns
    only the ids of the documents.
    """

    def __init__(self, request: PageRequest, filtered: DocumentFilter) -> None:
        self._request, self._view, self._filtered = request, request.view, filtered
        self._listing = self._view.listing(filtered.columns)
        where = filtered.where
        is_safe = not where or self._view.cache.get(
            ("safe", where), lambda: is_safe_predicate(self._view, where, SAFE_COLUMNS)
        )
        self._is_isolated = not is_safe
        self._filter, self._source = filtered, self._listing.source
        if filtered.find:
            self._source = listing.with_words(self._source, filtered.find)
        self._unfiltered = self._source
        if self._is_isolated:
            self._source = listing.with_predicate(self._view.snapshot, filtered)
            if filtered.find:
                self._source = listing.with_words(self._source, filtered.find)
            self._filter = replace(filtered, where="")

    def page(self, key: RowKey | None, *, is_backward: bool) -> DocumentsPage:
        """Return the page after a key, or before it.

        Raises:
            QueryError: DuckDB refuses the user's predicate.
        """
        rows = self._rows(key, is_backward, ROWS)
        if is_backward and len(rows) <= ROWS:
            # Fewer rows than a page may precede the key: return the complete first page.
            key, is_backward = None, False
            rows = self._rows(None, False, ROWS)
        has_more, rows = len(rows) > ROWS, rows[:ROWS]
        if is_backward:
            rows.reverse()
        has_after = bool(rows) and (has_more or is_backward)
        return DocumentsPage(
            self._complete_rows(rows) if self._is_isolated else rows,
            rows[0]["n"] if self._is_isolated and rows else self.total(),
            self._rank(rows[0]) if rows and key is not None else 0,
            listing.row_key(rows[0]) if rows and key is not None else None,
            listing.row_key(rows[-1]) if has_after else None,
        )

    def total(self) -> int:
        """Return the number of documents that match."""
        # The order does not change the count, except for differences: these need both scores.
        compares = self._filtered.sort in ("difference", "distance")
        sort = "distance" if compares else "id"
        key = replace(self._filtered, sort=sort, is_ascending=False)
        count = listing.count_query(self._view.snapshot, self._source, self._filter)
        total: int = self._view.cache.get(("count", key), lambda: self._query(count)[0]["n"])
        return total

    def facets(self) -> list[facets.Facet]:
        """Return the counts of values by column.

        Raises:
            QueryError: the predicate takes too long, or other queries are running.
        """
        key = replace(self._filtered, sort="id", is_ascending=False)
        query = facets.facets_query(self._view.snapshot, self._source, self._filter)
        rows = facets.max_rows(self._filtered)
        # A listing that is too large for the memory may take long.
        is_isolated = self._is_isolated or not self._listing.source.isidentifier()
        counts = self._view.cache.get(
            ("facets", key),
            lambda: self._query_isolated(query, rows) if is_isolated else self._query(query),
        )
        return facets.facet_counts(self._filtered, counts)

    def neighbours(self, doc_id: str, corpus: str) -> list[dict[str, Any] | None]:
        """Return the documents before and after one; None at an end, or while others query."""
        position = listing.position_query(self._unfiltered, self._filtered, doc_id, corpus)
        matches = self._view.query(position.sql, dict(position.values))
        if not matches:
            return [None, None]
        key = listing.row_key(matches[0])
        try:
            sides = [self._rows(key, is_backward, 1) for is_backward in (True, False)]
        except TooManyQueries:
            return [None, None]
        return [rows[0] if rows else None for rows in sides]

    def _rows(self, key: RowKey | None, is_backward: bool, n: int) -> list[dict[str, Any]]:
        page = listing.isolated_page_query if self._is_isolated else listing.page_query
        snapshot = self._view.snapshot
        return self._query(
            page(snapshot, self._source, self._filter, key, is_backward=is_backward, rows=n)
        )

    def _rank(self, row: dict[str, Any]) -> int | None:
        if self._is_isolated:
            return None
        key = listing.row_key(row)
        rank = listing.rank_query(self._view.snapshot, self._source, self._filter, key)
        n: int = self._query(rank)[0]["n"]
        return n

    def _complete_rows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return all columns of rows that contain only ids."""
        query = listing.rows_query(self._listing.source, [str(row["doc_id"]) for row in rows])
        complete = self._view.query(query.sql, dict(query.values))
        by_id = {(str(row["doc_id"]), row["corpus"]): row for row in complete}
        return [{**by_id[str(row["doc_id"]), row["corpus"]], **row} for row in rows]

    def _query(self, query: TableQuery) -> list[dict[str, Any]]:
        if self._is_isolated:
            return self._query_isolated(query, ROWS + 1)
        return self._view.query(query.sql, dict(query.values))

    def _query_isolated(self, query: TableQuery, rows: int) -> list[dict[str, Any]]:
        statement = Statement(
            query.sql, self._view.version, rows, query.values, seconds=MAX_SECONDS
        )
        return self._request.inspector.query_pool.run(statement, _WAIT_SECONDS).records()
