"""SQL that reads Parquet files by their exact paths: DuckDB derives nothing from a path."""

import re
from collections.abc import Iterable

from ixt_data.sql.joins import sql_literal

# `key=value` folders of a path would replace the columns of that name in every row.
_OPTIONS = (
    "hive_partitioning = false, union_by_name = false, filename = false, "
    "file_row_number = false, binary_as_string = false"
)


def read_parquet(paths: Iterable[str]) -> str:
    """Return a call of DuckDB's `read_parquet` for these files."""
    return f"read_parquet({sql_list(map(escape_glob, paths))}, {_OPTIONS})"


def escape_glob(path: str) -> str:
    """Return the pattern that matches only this path; DuckDB expands `*`, `?` and `[`."""
    return re.sub(r"[*?[]", r"[\g<0>]", path)


def sql_list(values: Iterable[str]) -> str:
    """Return strings as a SQL list literal."""
    return f"[{', '.join(map(sql_literal, values))}]"
