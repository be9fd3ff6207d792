"""Whether a SQL statement only reads, by its tree: DuckDB calls some SELECT that also write.

Below WITH, DuckDB (2.0) takes INSERT, UPDATE, DELETE, TRUNCATE and COPY TO, and this writes to any
file that the connection may read. Some table functions run text as SQL, log to files, or take
addresses in memory. So what is not known to read is refused.
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
        *("icu_calendar_names", "pg_timezone_names"),
    }
)
"""Those that a query may call; none of them reads a file or changes anything."""


def find_write(tree: Mapping[str, Any]) -> str:
    """What in a statement is not known to read, empty if nothing is.

    Args:
        tree: what `json_serialize_sql` makes of the statement.
    """
    if tree.get("error"):
        return f"what cannot be checked ({tree.get('error_message', 'no reason given')})"
    for item in _objects(tree):
        kind = item.get("type")
        if not isinstance(kind, str):
            continue
        if kind.endswith("_NODE") and kind not in _NODES:
            # COPY_QUERY_NODE and its like.
            return kind.removesuffix("_NODE").removesuffix("_QUERY") + " inside of a SELECT"
        if kind == "TABLE_FUNCTION":
            name = str(item["function"].get("function_name", ""))
            if name.lower() not in TABLE_FUNCTIONS:
                return f"the table function {name} (range, unnest, json_each and their like are)"
    return ""


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack += item.values()
        elif isinstance(item, list):
            stack += item
