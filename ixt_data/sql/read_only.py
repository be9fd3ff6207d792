"""A check of a statement's parse tree: DuckDB classifies some statements that write as SELECT.

Below WITH, DuckDB 2.0 accepts INSERT, UPDATE, DELETE, TRUNCATE and COPY TO, which write to any file
that the connection may read. Some table functions run text as SQL, log to files, or accept memory
addresses. The check refuses every node and function that is not known to be read-only.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
TABLE_FUNCTIONS = frozenset(
    {
        *("range", "generate_series", "unnest", "repeat", "repeat_row"),
        *("json_each", "json_tree", "histogram", "histogram_values"),
        *("duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_schemas"),
        *("duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views", "pragma_table_info"),
        *("icu_calendar_names", "pg_timezone_names", "search"),
    }
)
"""Table functions that a query may call. None of them reads a file or changes anything."""


def find_write(tree: Mapping[str, Any]) -> str:
    """Return the first part of a statement that is not known to be read-only, else "".

    Args:
        tree: output of DuckDB's `json_serialize_sql` for the statement.
    """
    if tree.get("error"):
        return f"an uncheckable statement ({tree.get('error_message', 'no reason given')})"
    for item in objects(tree):
        kind = item.get("type")
        if not isinstance(kind, str):
            continue
        if kind.endswith("_NODE") and kind not in _NODES:
            # For example COPY_QUERY_NODE.
            return kind.removesuffix("_NODE").removesuffix("_QUERY") + " inside of a SELECT"
        if kind == "TABLE_FUNCTION":
            name = str(item["function"].get("function_name", ""))
            if name.lower() not in TABLE_FUNCTIONS:
                return f"the table function {name} (valid: range, unnest, json_each and others)"
    return ""


def objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all objects in a parse tree."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack += item.values()
        elif isinstance(item, list):
            stack += item
