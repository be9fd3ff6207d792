"""The counts of values by column, over the documents that a filter keeps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ixt_data.log import Snapshot
from ixt_inspector.web.listing import NO_CRITIQUE, DocumentFilter, TableQuery

SHOWN_VALUES = 12
"""Values that a page shows per column, the most frequent ones."""
NO_VALUE, NO_TEXT = "value", "text"
"""Values of `no.COLUMN` in an address: documents without a value, or with an empty text."""
_COUNTED = {"corpus": "corpus", "source": "source", "status": "status", "flag": "unnest(flags)"}


@dataclass(frozen=True, slots=True)
class FacetValue:
    """One value of a column.

    Attributes:
        text: the value, None for documents without one.
        n: number of documents, None if it is not among the most frequent values.
        is_chosen: whether the filter requires it.
        changes: parameters of the address that choose it, or drop it if it is chosen.
    """

    text: str | None
    n: int | None
    is_chosen: bool
    changes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Facet:
    """A column with its most frequent values, and the number of further ones."""

    title: str
    values: tuple[FacetValue, ...]
    more: int


def facets_query(snapshot: Snapshot, listing: str, filtered: DocumentFilter) -> TableQuery:
    """Return counts: `facet` (a number), `value`, `n`, and the number `groups`.

    The counts of a column ignore the value that is chosen in it, so the others can be chosen.
    """
    unchosen = replace(filtered, equal=(), flag="", own_equal=(), sort="id")
    conditions, values = unchosen.conditions(snapshot)
    columns = _columns(filtered)
    tests = []
    for number, (parameter, (condition, value)) in enumerate(filtered.chosen().items()):
        tests.append((f"test_{number}", condition, _column_of(filtered, parameter)))
        values |= {} if value is None else {parameter: value}
    selected = [*("corpus", "source", "status", "flags")]
    selected += [facet.column for facet in filtered.columns.facets]
    selected += [f"{condition} AS {name}" for name, condition, _ in tests]
    found = (
        f"SELECT {', '.join(selected)} FROM {listing} AS listing "
        f"WHERE {' AND '.join(conditions) or 'true'}"
    )
    counts = []
    for number, (name, value) in enumerate(columns.items()):
        # NULL: neither true nor false.
        passed = [f"coalesce({test}, false)" for test, _, tested in tests if tested != name]
        counts.append(
            f"(SELECT {number} AS facet, {value}::VARCHAR AS value, count(*) AS n, "
            f"count(*) OVER () AS groups FROM found WHERE {' AND '.join(passed) or 'true'} "
            f"GROUP BY 2 ORDER BY n DESC, value LIMIT {SHOWN_VALUES})"
        )
    return TableQuery(f"WITH found AS MATERIALIZED ({found}) {' UNION ALL '.join(counts)}", values)


def max_rows(filtered: DocumentFilter) -> int:
    """Return the largest number of rows of `facets_query`."""
    return SHOWN_VALUES * len(_columns(filtered))


def facet_counts(filtered: DocumentFilter, rows: Iterable[Mapping[str, Any]]) -> list[Facet]:
    """Return the columns that distinguish documents, with their counts."""
    names = list(_columns(filtered))
    by_facet: list[list[Mapping[str, Any]]] = [[] for _ in names]
    for row in rows:
        by_facet[row["facet"]].append(row)
    found = [_facet(filtered, name, by_facet[number]) for number, name in enumerate(names)]
    return [facet for facet in found if facet is not None]


def _facet(filtered: DocumentFilter, name: str, rows: Sequence[Mapping[str, Any]]) -> Facet | None:
    is_own = name not in _COUNTED
    chosen: Any = ...
    for column, value in (*filtered.equal, ("flag", filtered.flag or ...)):
        if column == name:
            chosen = None if (column, value) == ("status", NO_CRITIQUE) else value
    for column, own_value in filtered.own_equal if is_own else ():
        if column == name.removeprefix("is."):
            chosen = own_value
    counts = {row["value"]: row["n"] for row in rows if row["value"] is not None or _has_none(name)}
    if chosen is not ... and chosen not in counts:
        counts = {chosen: None, **counts}
    if chosen is ... and len(counts) < 2:
        return None
    groups = rows[0]["groups"] if rows else 0
    values = []
    for value, n in counts.items():
        is_chosen = chosen is not ... and value == chosen
        changes = _changes(name, value)
        if is_chosen:
            changes = dict.fromkeys(changes, "")
        values.append(FacetValue(value, n, is_chosen, {**changes, "after": "", "before": ""}))
    return Facet(name.removeprefix("is."), tuple(values), max(0, groups - len(rows)))


def _has_none(name: str) -> bool:
    return name == "status" or name.startswith("is.")


def _changes(name: str, value: str | None) -> dict[str, str]:
    """Return the parameters that choose a value."""
    if name == "status" and value is None:
        return {name: NO_CRITIQUE}
    if name.startswith("is."):
        missing = NO_VALUE if value is None else NO_TEXT if not value else ""
        return {name: value or "", f"no.{name.removeprefix('is.')}": missing}
    return {name: value or ""}


def _columns(filtered: DocumentFilter) -> dict[str, str]:
    """Return the SQL of each counted column, by the name of its parameter."""
    own = {f"is.{facet.name}": facet.column for facet in filtered.columns.facets}
    return {**_COUNTED, **own}


def _column_of(filtered: DocumentFilter, parameter: str) -> str:
    """Return the counted column that a parameter of SQL chooses a value of."""
    _, _, number = parameter.partition("own_")
    return f"is.{filtered.own_equal[int(number)][0]}" if number else parameter
