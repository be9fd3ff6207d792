"""SQL of the table of documents: filters, order and pages.

Paging is by key: a page starts after the last row of the previous page, by sort value, doc_id and
corpus. Page 20,000 costs as much as page 1, and added rows do not shift a page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from ixt_data.errors import QueryError
from ixt_data.log import Snapshot
from ixt_data.records import parse_id
from ixt_data.sql import critiques_query, parenthesize, quote_name, sql_literal
from ixt_inspector.web.document_columns import OWN, SORT_CHARS, FacetColumn, SortColumn

ROWS = 50
NO_CRITIQUE = "none"
"""Filter value for documents without a critique."""
SORTS = {
    "score": "score",
    "length": "n_chars",
    "thinking": "n_thinking_tokens",
    "expected": "expected",
    "entropy": "entropy",
    "spans": "n_spans",
    "bytes": "n_bytes",
    "corpus": "corpus",
    "source": f"left(source, {SORT_CHARS})",
    "stage": "stage",
    "status": "status",
    "difference": "difference",
    "distance": "abs(difference)",
    "id": "NULL::INTEGER",
    "relevance": "relevance",
}
_EXCERPT_CHARS = 240
_TEXT = "'"
"""Start of a text in the key of a row."""
_DOCUMENT = ("corpus", "stage", "source", "source_id", "n_chars", "n_bytes")
_CRITIQUE = {
    "status": "VARCHAR",
    "score": "DOUBLE",
    "expected": "DOUBLE",
    "entropy": "DOUBLE",
    "n_thinking_tokens": "BIGINT",
    "flags": "VARCHAR[]",
    "n_spans": "INTEGER",
}


SAFE_COLUMNS = frozenset({*_DOCUMENT, *_CRITIQUE})
"""Columns of a listing that have the same meaning in a mix."""


@dataclass(frozen=True, slots=True)
class ListingColumns:
    """The columns of a listing, in addition to those that every listing has.

    Attributes:
        critic: critic whose critiques the table shows.
        against: a second critic to compare with.
        facets: columns of the user whose values are counted.
        own: column of the user that the table is sorted by.
    """

    critic: str | None
    against: str | None = None
    facets: tuple[FacetColumn, ...] = ()
    own: SortColumn | None = None


@dataclass(frozen=True, slots=True)
class RowKey:
    """The position of a row in the order."""

    value: float | str | None
    doc_id: str
    corpus: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a key that `str` wrote.

        Raises:
            QueryError: the text is not a key.
        """
        try:
            value, doc_id, corpus = text.rsplit(",", 2)
            number = float(value) if value and not value.startswith(_TEXT) else None
            sort_value = value.removeprefix(_TEXT) if value.startswith(_TEXT) else number
            return cls(sort_value, str(UUID(bytes=parse_id(doc_id))), corpus)
        except ValueError:
            raise QueryError(f"{text!r} is not a table position; open the first page") from None

    def __str__(self) -> str:
        mark = _TEXT if isinstance(self.value, str) else ""
        return f"{mark}{'' if self.value is None else self.value},{self.doc_id},{self.corpus}"


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """A filter and an order of documents.

    Attributes:
        columns: critics whose critiques are shown.
        equal: values by column: corpus, source, status.
        low: lowest score, included.
        high: highest score, included.
        flag: flag that the critique has.
        text: text that the critique contains; case is ignored.
        where: predicate as in a mix, over all columns of documents and critiques.
        find: words in the text, the critiques or the thinking.
        sort: a key of `SORTS`, or `column.NAME` of `columns.own`.
        is_ascending: whether the lowest value comes first.
        own_equal: values by column of the user, as text; None for documents without a value.
    """

    columns: ListingColumns
    equal: tuple[tuple[str, str], ...] = ()
    low: float | None = None
    high: float | None = None
    flag: str = ""
    text: str = ""
    where: str = ""
    find: str = ""
    sort: str = "score"
    is_ascending: bool = False
    own_equal: tuple[tuple[str, str | None], ...] = ()

    @property
    def sort_value(self) -> str:
        """Return the SQL of the value that the table is sorted by."""
        return "own" if self.sort.startswith(OWN) else SORTS[self.sort]

    def chosen(self) -> dict[str, tuple[str, str | None]]:
        """Return the condition and the value of each chosen value, by name of its parameter.

        The condition contains the parameter, except where the value is None.
        """
        chosen: dict[str, tuple[str, str | None]] = {}
        for name, value in self.equal:
            is_missing = name == "status" and value == NO_CRITIQUE
            condition = "status IS NULL" if is_missing else f"{name} = ${name}"
            chosen[name] = condition, None if is_missing else value
        if self.flag:
            chosen["flag"] = "list_contains(flags, $flag)", self.flag
        counted = {facet.name: facet.column for facet in self.columns.facets}
        for number, (name, own_value) in enumerate(self.own_equal):
            parameter = f"own_{number}"
            matches = "{} IS NULL" if own_value is None else f"{{}}::VARCHAR = ${parameter}"
            if name in counted:
                condition = matches.format(counted[name])
            else:
                rows = f"SELECT doc_id, corpus FROM documents WHERE {matches}"
                condition = f"(doc_id, corpus) IN ({rows.format(quote_name(name))})"
            chosen[parameter] = condition, own_value
        return chosen

    def conditions(self, snapshot: Snapshot) -> tuple[list[str], dict[str, Any]]:
        """Return conditions on a listing, and their parameters."""
        conditions: list[str] = []
        values: dict[str, Any] = {}
        for name, (condition, chosen) in self.chosen().items():
            conditions.append(condition)
            if chosen is not None:
                values[name] = chosen
        for name, sign, bound in (("low", ">=", self.low), ("high", "<=", self.high)):
            if bound is not None:
                conditions.append(f"score {sign} ${name}")
                values[name] = bound
        if self.text and self.columns.critic is not None:
            by = critiques_query(snapshot, self.columns.critic)
            conditions.append(
                f"doc_id IN (SELECT doc_id FROM ({by}) WHERE contains(lower(critique), $text))"
            )
            values["text"] = self.text.lower()
        if self.where:
            conditions.append(parenthesize(self.where))
        if self.sort in ("difference", "distance"):
            conditions.append("difference IS NOT NULL")
        return conditions, values


@dataclass(frozen=True, slots=True)
class TableQuery:
    """A query with its parameters."""

    sql: str
    values: Mapping[str, Any]


def with_predicate(snapshot: Snapshot, filtered: DocumentFilter) -> str:
    """Return a FROM clause: an uncached listing with the user's predicate over all columns."""
    return f"({listing_query(snapshot, filtered.columns)} WHERE {parenthesize(filtered.where)})"


def with_own(listing: str, own: SortColumn) -> str:
    """Return a SELECT of a listing with a column of the user to sort by."""
    return f"SELECT listing.*, {own.select()} FROM {listing} AS listing " + (
        "JOIN documents USING (doc_id, corpus)"
    )


def with_words(listing: str, words: str) -> str:
    """Return a FROM clause: the documents of a listing that match a search, with `relevance`."""
    found = f"SELECT doc_id, max(relevance) AS relevance FROM search({sql_literal(words)})"
    return (
        f"(SELECT listing.*, found.relevance FROM {listing} AS listing "
        f"JOIN ({found} GROUP BY doc_id) AS found USING (doc_id))"
    )


def page_query(
    snapshot: Snapshot,
    listing: str,
    filtered: DocumentFilter,
    key: RowKey | None,
    *,
    is_backward: bool,
    rows: int,
) -> TableQuery:
    """Return a page after a key, or before it in reverse order, and one more row if one exists."""
    conditions, values = filtered.conditions(snapshot)
    if key is not None:
        after_key, key_values = _after_key(filtered, key, is_backward=is_backward)
        conditions.append(after_key)
        values |= key_values
    value, tie = filtered.sort_value, "DESC" if is_backward else "ASC"
    is_ascending, nulls = (
        filtered.is_ascending is not is_backward,
        "FIRST" if is_backward else "LAST",
    )
    order = f"{value} {'ASC' if is_ascending else 'DESC'} NULLS {nulls}, doc_id {tie}, corpus {tie}"
    chosen = f"FROM {listing} AS listing WHERE {_conjunction(conditions)} "
    chosen += f"ORDER BY {order} LIMIT {rows + 1}"
    if not listing.isidentifier():
        return TableQuery(f"SELECT *, {value} AS sorted {chosen}", values)
    # Reading all columns of only the shown rows takes a quarter of the time.
    return TableQuery(
        f"SELECT *, {value} AS sorted FROM {listing} WHERE rowid IN (SELECT rowid {chosen}) "
        f"ORDER BY {order}",
        values,
    )


def isolated_page_query(
    snapshot: Snapshot,
    listing: str,
    filtered: DocumentFilter,
    key: RowKey | None,
    *,
    is_backward: bool,
    rows: int,
) -> TableQuery:
    """Return a page of an uncached listing: `doc_id`, `corpus`, `sorted`, and the total `n`."""
    conditions, values = filtered.conditions(snapshot)
    after_key, key_values = (
        _after_key(filtered, key, is_backward=is_backward, value="sorted") if key else ("true", {})
    )
    tie, nulls = ("DESC", "FIRST") if is_backward else ("ASC", "LAST")
    direction = "ASC" if filtered.is_ascending is not is_backward else "DESC"
    # The join dominates the time, so it runs once for the page and the count.
    return TableQuery(
        f"WITH found AS MATERIALIZED (SELECT doc_id, corpus, {filtered.sort_value} AS sorted "
        f"FROM {listing} AS listing WHERE {_conjunction(conditions)}) "
        f"SELECT *, (SELECT count(*) FROM found) AS n FROM found WHERE {after_key} "
        f"ORDER BY sorted {direction} NULLS {nulls}, doc_id {tie}, corpus {tie} LIMIT {rows + 1}",
        {**values, **key_values},
    )


def rows_query(listing: str, ids: Sequence[str]) -> TableQuery:
    """Return the rows of some documents, in any order."""
    return TableQuery(
        f"SELECT * FROM {listing} AS listing WHERE doc_id IN (SELECT unnest($ids::UUID[]))",
        {"ids": list(ids)},
    )


def position_query(listing: str, filtered: DocumentFilter, doc_id: str, corpus: str) -> TableQuery:
    """Return the position of one document: `doc_id`, `corpus`, `sorted`."""
    return TableQuery(
        f"SELECT doc_id, corpus, {filtered.sort_value} AS sorted FROM {listing} AS listing "
        "WHERE doc_id = $id::UUID AND corpus = $corpus",
        {"id": doc_id, "corpus": corpus},
    )


def count_query(snapshot: Snapshot, listing: str, filtered: DocumentFilter) -> TableQuery:
    """Return the number of documents that match the filter: `n`."""
    conditions, values = filtered.conditions(snapshot)
    return TableQuery(
        f"SELECT count(*) AS n FROM {listing} AS listing WHERE {_conjunction(conditions)}", values
    )


def rank_query(
    snapshot: Snapshot, listing: str, filtered: DocumentFilter, key: RowKey
) -> TableQuery:
    """Return the number of documents before a key: `n`."""
    conditions, values = filtered.conditions(snapshot)
    after_key, key_values = _after_key(filtered, key, is_backward=True)
    where = _conjunction([*conditions, after_key])
    sql = f"SELECT count(*) AS n FROM {listing} AS listing WHERE {where}"
    return TableQuery(sql, {**values, **key_values})


def row_key(row: Mapping[str, Any]) -> RowKey:
    """Return the key of a row of `page_query`."""
    return RowKey(row["sorted"], str(row["doc_id"]), row["corpus"])


def listing_query(snapshot: Snapshot, columns: ListingColumns) -> str:
    """Return a SELECT of all documents with the columns of critiques that the table shows."""
    chosen = ["documents.doc_id", *_DOCUMENT, *(facet.select() for facet in columns.facets)]
    chosen += [columns.own.select()] if columns.own is not None else []
    joins = ["documents"]
    if columns.critic is None:
        chosen += [f"NULL::{kind} AS {name}" for name, kind in _CRITIQUE.items()]
        chosen.append("NULL::VARCHAR AS excerpt")
    else:
        by = critiques_query(snapshot, columns.critic)
        joins.append(f"LEFT JOIN ({by}) AS critiques USING (doc_id)")
        chosen += [*(f"critiques.{name}" for name in _CRITIQUE), _excerpt("critiques.critique", "")]
    if columns.against is not None:
        by = critiques_query(snapshot, columns.against)
        joins.append(
            "LEFT JOIN (SELECT doc_id, status AS other_status, score AS other_score, critique AS "
            f"other_critique FROM ({by})) AS other USING (doc_id)"
        )
        chosen += ["other_status", "other_score", _excerpt("other_critique", "other_")]
        chosen.append("critiques.score - other_score AS difference")
    else:
        chosen.append("NULL::DOUBLE AS difference")
    return f"SELECT {', '.join(chosen)} FROM {' '.join(joins)}"


def listing_order(columns: ListingColumns) -> str:
    """Return the order of a cached listing: that of the default page."""
    value = SORTS["score" if columns.against is None else "distance"]
    return f"ORDER BY {value} DESC NULLS LAST, doc_id, corpus"


def _excerpt(column: str, prefix: str) -> str:
    # An ellipsis where the text is cut.
    cut = f"CASE WHEN length({column}) > {_EXCERPT_CHARS} THEN '…' ELSE '' END"
    return f"left({column}, {_EXCERPT_CHARS}) || {cut} AS {prefix}excerpt"


def _after_key(
    filtered: DocumentFilter, key: RowKey, *, is_backward: bool, value: str = ""
) -> tuple[str, dict[str, Any]]:
    """Return the condition for rows after a key, or before it; rows without a value are last."""
    value = value or filtered.sort_value
    values: dict[str, Any] = {"key_id": key.doc_id, "key_corpus": key.corpus}
    tie = f"(doc_id, corpus) {'<' if is_backward else '>'} ($key_id::UUID, $key_corpus)"
    if key.value is None:
        here = f"({value}) IS NULL AND {tie}"
        return (f"(({value}) IS NOT NULL OR ({here}))" if is_backward else f"({here})"), values
    sign = ">" if filtered.is_ascending is not is_backward else "<"
    condition = f"({value}) {sign} $key_value OR (({value}) = $key_value AND {tie})"
    if not is_backward:
        condition += f" OR ({value}) IS NULL"
    return f"({condition})", {**values, "key_value": key.value}


def _conjunction(conditions: list[str]) -> str:
    return " AND ".join(conditions) or "true"
