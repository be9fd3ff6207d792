"""Columns that are derived from what a store holds, and written into its rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ixt_data.sql.joins import sql_literal
from ixt_data.sql.views import quote_name


@dataclass(frozen=True, slots=True)
class DerivedColumns:
    """Columns to add to rows, or to write anew.

    Attributes:
        columns: their DuckDB types by name.
        values: a Parquet file with them and with the keys, at most one row for each key.
        keys: columns that tell which row a value belongs to.
        only: SQL predicate over the values' columns: which of them count.
    """

    columns: Mapping[str, str]
    values: Path
    keys: tuple[str, ...]
    only: str = "true"

    def onto(self, rows: str, schema: Mapping[str, str]) -> str:
        """SELECT: the rows with the columns, NULL where there is no value."""
        kept = [f"r.{quote_name(name)}" for name in schema if name not in self.columns]
        added = [f"v.{quote_name(name)}" for name in self.columns]
        on = " AND ".join(f"r.{quote_name(key)} = v.{quote_name(key)}" for key in self.keys)
        values = f"SELECT * FROM read_parquet({sql_literal(str(self.values))}) WHERE {self.only}"
        return (
            f"SELECT {', '.join(kept + added)} FROM ({rows}) AS r LEFT JOIN ({values}) AS v ON {on}"
        )
