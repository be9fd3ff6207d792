"""Columns that are computed from a store's content and written into its rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ixt_data.sql.parquet_scan import read_parquet
from ixt_data.sql.views import quote_name


@dataclass(frozen=True, slots=True)
class DerivedColumns:
    """Columns to add to rows, or to replace.

    Attributes:
        columns: their DuckDB types by name.
        values: a Parquet file with these columns and the keys, at most one row per key.
        keys: columns that match a value with its row.
        only: SQL predicate over the columns of `values`; other rows are ignored.
    """

    columns: Mapping[str, str]
    values: Path
    keys: tuple[str, ...]
    only: str = "true"

    def add_to(self, rows: str, schema: Mapping[str, str]) -> str:
        """Return a SELECT of the rows with these columns, NULL without a value."""
        unchanged = [f"r.{quote_name(name)}" for name in schema if name not in self.columns]
        added = [f"v.{quote_name(name)}" for name in self.columns]
        on = " AND ".join(f"r.{quote_name(key)} = v.{quote_name(key)}" for key in self.keys)
        values = f"SELECT * FROM {read_parquet([str(self.values)])} WHERE {self.only}"
        return (
            f"SELECT {', '.join(unchanged + added)} FROM ({rows}) AS r "
            f"LEFT JOIN ({values}) AS v ON {on}"
        )
