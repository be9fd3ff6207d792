"""The table of documents: what is filtered, how it is sorted, and which page of it, as SQL.

Paging is by key: a page begins after the last row of the one before, by sort value, doc_id and
corpus. So page 20,000 costs what page 1 costs, and rows that are added shift nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from ixt_data.errors import QueryError
from ixt_data.log import Snapshot
from ixt_data.records import parse_id
from ixt_data.sql import critiques_query

ROWS = 50
NO_CRITIQUE = "none"
"""As a status: documents that the critic has not read."""
SORTS = {
    "score": "score",
    "length": "n_chars",
    "thinking": "n_thinking_tokens",
    "expected": "expected",
    "entropy": "entropy",
    "spans": "n_spans",
    "difference": "difference",
    "distance": "abs(difference)",
    "id": "NULL::INTEGER",
}
_SAID = 240
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


TAME_COLUMNS = frozenset({*_DOCUMENT, *_CRITIQUE})
"""ComparedCritics of a listing that mean what they mean in a mix."""


@dataclass(frozen=True, slots=True)
class ComparedCritics:
    """Whose critiques stand beside the documents: one critic's, and another's to compare with."""

    critic: str | None
    against: str | None = None


@dataclass(frozen=True, slots=True)
class RowKey:
    """A row's place in the order."""

    value: float | None
    doc_id: str
    corpus: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `str` wrote.

        Raises:
            QueryError: it is none.
        """
        value, _, rest = text.partition(",")
        doc_id, _, corpus = rest.partition(",")
        try:
            return cls(float(value) if value else None, str(UUID(bytes=parse_id(doc_id))), corpus)
        except ValueError:
            raise QueryError(f"{text!r} is no place in the table; go to its first page") from None

    def __str__(self) -> str:
        return f"{'' if self.value is None else self.value},{self.doc_id},{self.corpus}"


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents, in which order.

    Attributes:
        columns: whose critiques.
        equal: values by column: corpus, source, status.
        low, high: bounds of the score, both included.
        flag: one that the critique has.
        text: words in the critique, in capitals or not.
        where: a predicate as in a mix, over all columns of documents and critiques.
        sort: one of `SORTS`.
        up: lowest first.
    """

    columns: ComparedCritics
    equal: tuple[tuple[str, str], ...] = ()
    low: float | None = None
    high: float | None = None
    flag: str = ""
    text: str = ""
    where: str = ""
    sort: str = "score"
    up: bool = False

    def conditions(self, snapshot: Snapshot) -> tuple[list[str], dict[str, Any]]:
        """Conditions on a listing, and their parameters."""
        found: list[str] = []
        values: dict[str, Any] = {}
        for name, value in self.equal:
            if name == "status" and value == NO_CRITIQUE:
                found.append("status IS NULL")
            else:
                found.append(f"{name} = ${name}")
                values[name] = value
        for name, sign, bound in (("low", ">=", self.low), ("high", "<=", self.high)):
            if bound is not None:
                found.append(f"score {sign} ${name}")
                values[name] = bound
        if self.flag:
            found.append("list_contains(flags, $flag)")
            values["flag"] = self.flag
        if self.text and self.columns.critic is not None:
            by = critiques_query(snapshot, self.columns.critic)
            found.append(
                f"doc_id IN (SELECT doc_id FROM ({by}) WHERE contains(lower(critique), $text))"
            )
            values["text"] = self.text.lower()
        if self.where:
            found.append(f"(\n{self.where}\n)")
        if self.sort in ("difference", "distance"):
            found.append("difference IS NOT NULL")
        return found, values


@dataclass(frozen=True, slots=True)
class TableQuery:
    """A statement with its parameters."""

    sql: str
    values: Mapping[str, Any]


def with_predicate(snapshot: Snapshot, filtered: DocumentFilter) -> str:
    """FROM clause: what is not kept, with the filter's own predicate over all columns."""
    return f"({kept(snapshot, filtered.columns)} WHERE (\n{filtered.where}\n))"


def page(
    snapshot: Snapshot,
    listing: str,
    filtered: DocumentFilter,
    key: RowKey | None,
    *,
    back: bool,
    rows: int,
) -> TableQuery:
    """The rows after a key, or before it (then the nearest first), and one more if there is one."""
    found, values = filtered.conditions(snapshot)
    if key is not None:
        beyond, more = _beyond(filtered, key, back=back)
        found.append(beyond)
        values |= more
    value, tie = SORTS[filtered.sort], "DESC" if back else "ASC"
    up, nulls = filtered.up is not back, "FIRST" if back else "LAST"
    order = f"{value} {'ASC' if up else 'DESC'} NULLS {nulls}, doc_id {tie}, corpus {tie}"
    chosen = f"FROM {listing} AS listing WHERE {_all(found)} ORDER BY {order} LIMIT {rows + 1}"
    if not listing.isidentifier():
        return TableQuery(f"SELECT *, {value} AS sorted {chosen}", values)
    # Only the rows that are shown are read whole: a quarter of the time.
    return TableQuery(
        f"SELECT *, {value} AS sorted FROM {listing} WHERE rowid IN (SELECT rowid {chosen}) "
        f"ORDER BY {order}",
        values,
    )


def page_apart(
    snapshot: Snapshot,
    listing: str,
    filtered: DocumentFilter,
    key: RowKey | None,
    *,
    back: bool,
    rows: int,
) -> TableQuery:
    """As `page`, of what is not kept: only `doc_id`, `corpus`, `sorted`, and of how many, `n`."""
    found, values = filtered.conditions(snapshot)
    beyond, more = _beyond(filtered, key, back=back, value="sorted") if key else ("true", {})
    tie, nulls = ("DESC", "FIRST") if back else ("ASC", "LAST")
    direction = "ASC" if filtered.up is not back else "DESC"
    # To join is what takes time: once, for the page and for the count.
    return TableQuery(
        f"WITH found AS MATERIALIZED (SELECT doc_id, corpus, {SORTS[filtered.sort]} AS sorted "
        f"FROM {listing} AS listing WHERE {_all(found)}) "
        f"SELECT *, (SELECT count(*) FROM found) AS n FROM found WHERE {beyond} "
        f"ORDER BY sorted {direction} NULLS {nulls}, doc_id {tie}, corpus {tie} LIMIT {rows + 1}",
        {**values, **more},
    )


def rows_of(listing: str, ids: Sequence[str]) -> TableQuery:
    """The rows of some documents, in no order."""
    return TableQuery(
        f"SELECT * FROM {listing} AS listing WHERE doc_id IN (SELECT unnest($ids::UUID[]))",
        {"ids": list(ids)},
    )


def value_of(listing: str, filtered: DocumentFilter, doc_id: str, corpus: str) -> TableQuery:
    """The place of one document: `doc_id`, `corpus`, `sorted`."""
    return TableQuery(
        f"SELECT doc_id, corpus, {SORTS[filtered.sort]} AS sorted FROM {listing} AS listing "
        "WHERE doc_id = $id::UUID AND corpus = $corpus",
        {"id": doc_id, "corpus": corpus},
    )


def count(snapshot: Snapshot, listing: str, filtered: DocumentFilter) -> TableQuery:
    """How many documents the filter finds: `n`."""
    found, values = filtered.conditions(snapshot)
    return TableQuery(f"SELECT count(*) AS n FROM {listing} AS listing WHERE {_all(found)}", values)


def rank(snapshot: Snapshot, listing: str, filtered: DocumentFilter, key: RowKey) -> TableQuery:
    """How many documents stand before a key: `n`."""
    found, values = filtered.conditions(snapshot)
    beyond, more = _beyond(filtered, key, back=True)
    where = _all([*found, beyond])
    sql = f"SELECT count(*) AS n FROM {listing} AS listing WHERE {where}"
    return TableQuery(sql, {**values, **more})


def key_of(row: Mapping[str, Any]) -> RowKey:
    """The place of a row of `page`."""
    return RowKey(row["sorted"], str(row["doc_id"]), row["corpus"])


def kept(snapshot: Snapshot, columns: ComparedCritics) -> str:
    """SELECT: every document with what the table shows of its critiques."""
    chosen = ["documents.doc_id", *_DOCUMENT]
    joins = ["documents"]
    if columns.critic is None:
        chosen += [f"NULL::{kind} AS {name}" for name, kind in _CRITIQUE.items()]
        chosen.append("NULL::VARCHAR AS said")
    else:
        by = critiques_query(snapshot, columns.critic)
        joins.append(f"LEFT JOIN ({by}) AS critiques USING (doc_id)")
        chosen += [*(f"critiques.{name}" for name in _CRITIQUE), _said("critiques.critique", "")]
    if columns.against is not None:
        by = critiques_query(snapshot, columns.against)
        joins.append(
            "LEFT JOIN (SELECT doc_id, status AS other_status, score AS other_score, critique AS "
            f"other_critique FROM ({by})) AS other USING (doc_id)"
        )
        chosen += ["other_status", "other_score", _said("other_critique", "other_")]
        chosen.append("critiques.score - other_score AS difference")
    else:
        chosen.append("NULL::DOUBLE AS difference")
    return f"SELECT {', '.join(chosen)} FROM {' '.join(joins)}"


def first_order(columns: ComparedCritics) -> str:
    """The order in which a listing is kept: that of the page which is opened first."""
    value = SORTS["score" if columns.against is None else "distance"]
    return f"ORDER BY {value} DESC NULLS LAST, doc_id, corpus"


def _said(column: str, prefix: str) -> str:
    return f"left({column}, {_SAID}) AS {prefix}said"


def _beyond(
    filtered: DocumentFilter, key: RowKey, *, back: bool, value: str = ""
) -> tuple[str, dict[str, Any]]:
    """The condition of being after a key (before it, with `back`); no value comes last."""
    value = value or SORTS[filtered.sort]
    values: dict[str, Any] = {"key_id": key.doc_id, "key_corpus": key.corpus}
    tie = f"(doc_id, corpus) {'<' if back else '>'} ($key_id::UUID, $key_corpus)"
    if key.value is None:
        here = f"({value}) IS NULL AND {tie}"
        return (f"(({value}) IS NOT NULL OR ({here}))" if back else f"({here})"), values
    sign = ">" if filtered.up is not back else "<"
    found = f"({value}) {sign} $key_value OR (({value}) = $key_value AND {tie})"
    if not back:
        found += f" OR ({value}) IS NULL"
    return f"({found})", {**values, "key_value": key.value}


def _all(conditions: list[str]) -> str:
    return " AND ".join(conditions) or "true"
