"""The columns that the user gave documents: how a table sorts, counts and filters by them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ixt_data.errors import QueryError
from ixt_data.sql import DOCUMENTS, quote_name, sql_literal
from ixt_inspector.web.text import list_names, shorten

OWN = "column."
"""Start of the name of a user's column in `sort` and `show` of an address."""
MAX_FACETS = 16
"""Columns of the user whose values are counted."""
MAX_VALUES = 50
"""Values of such a column; a column with more is not counted."""
_SAMPLE_ROWS = 50_000
_MAX_VALUE_CHARS = 60
SORT_CHARS = 200
"""Characters of a text that a table is sorted by."""
_NUMBERS = frozenset(
    {
        *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"),
        *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
    }
)
_TIMES = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"})
_COUNTED = (_NUMBERS - {"FLOAT", "DOUBLE"}) | {"VARCHAR", "BOOLEAN"}

Query = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class FacetColumn:
    """A column of the user with few values.

    Attributes:
        name: name of the column.
        values: all its values as text, in alphabetical order.
    """

    name: str
    values: tuple[str, ...]

    @property
    def column(self) -> str:
        """Return the quoted name of the column in a listing."""
        return quote_name(f"is.{self.name}")

    def select(self) -> str:
        """Return its expression over `documents`: one or two bytes per document."""
        values = ", ".join(map(sql_literal, self.values))
        text = f"documents.{quote_name(self.name)}::VARCHAR"
        return f"TRY_CAST({text} AS ENUM ({values})) AS {self.column}"


@dataclass(frozen=True, slots=True)
class SortColumn:
    """A column of the user that a table is sorted by; `own` in a listing.

    Attributes:
        name: name of the column.
        type: its DuckDB type.
    """

    name: str
    type: str

    @property
    def is_number(self) -> bool:
        """Return whether it is sorted as a number; all else is sorted as text."""
        return is_number(self.type) or self.type in _TIMES or self.type == "BOOLEAN"

    def select(self) -> str:
        """Return its expression over `documents`: a finite DOUBLE, or the start of a text."""
        name = f"documents.{quote_name(self.name)}"
        if self.type in _TIMES:
            return f"epoch_us({name}::TIMESTAMP)::DOUBLE AS own"
        if self.is_number:
            value = f"{name}::DOUBLE"
            return f"CASE WHEN isfinite({value}) THEN {value} END AS own"
        return f"left({name}::VARCHAR, {SORT_CHARS}) AS own"


def is_number(kind: str) -> bool:
    """Return whether a DuckDB type is a number."""
    return kind in _NUMBERS or kind.startswith("DECIMAL")


def own_column(columns: Mapping[str, str], name: str) -> SortColumn:
    """Return a column of the user by its name.

    Raises:
        QueryError: the documents have no such column.
    """
    if name not in columns:
        raise QueryError(
            f"documents have no column {shorten(name)!r} of yours; columns: {list_names(columns)}"
        )
    return SortColumn(name, columns[name])


def own_types(types: Mapping[str, str]) -> dict[str, str]:
    """Return the user's columns among the columns of documents."""
    return {name: kind for name, kind in types.items() if name not in DOCUMENTS}


def find_facets(query: Query, columns: Mapping[str, str]) -> tuple[FacetColumn, ...]:
    """Return the columns of the user that have few values.

    A sample finds the candidates, so that long texts are not read. Of the rest all values are
    counted.
    """
    candidates = [name for name, kind in columns.items() if kind in _COUNTED]
    few = _few_values(
        query, candidates, f"(SELECT * FROM documents LIMIT {_SAMPLE_ROWS}) AS documents"
    )
    few = _few_values(query, few, "documents")[:MAX_FACETS]
    facets = []
    for name in few:
        value = f"{quote_name(name)}::VARCHAR"
        rows = query(
            f"SELECT DISTINCT {value} AS value FROM documents WHERE {value} IS NOT NULL "
            f"ORDER BY 1 LIMIT {MAX_VALUES + 1}"
        )
        values = tuple(row["value"] for row in rows)
        # SQL has no literal with a NUL character.
        if 1 <= len(values) <= MAX_VALUES and "\0" not in "".join(values):
            facets.append(FacetColumn(name, values))
    return tuple(facets)


def _few_values(query: Query, names: list[str], source: str) -> list[str]:
    """Return the columns with few and short values, by an estimate."""
    if not names:
        return []
    counts = ", ".join(
        f"[approx_count_distinct({quote_name(name)}), "
        f"coalesce(max(length({quote_name(name)}::VARCHAR)), 0)]"
        for name in names
    )
    (row,) = query(f"SELECT [{counts}] AS counts FROM {source}")
    # An estimate is a few percent off.
    return [
        name
        for name, (values, length) in zip(names, row["counts"], strict=True)
        if values <= 1.2 * MAX_VALUES and length <= _MAX_VALUE_CHARS
    ]
