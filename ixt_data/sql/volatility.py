"""A check that a statement gives the same rows each time: no clock, no random numbers."""

import re
from collections.abc import Container, Mapping
from functools import cache
from typing import Any

from ixt_data.sql.connections import Connection
from ixt_data.sql.read_only import objects

_FUNCTIONS = "SELECT function_name, stability, macro_definition FROM duckdb_functions()"
# DuckDB calls these consistent, or has them as names without parentheses.
_OTHERS = (
    *("current_time", "current_timestamp", "current_localtime", "current_localtimestamp"),
    *("localtime", "localtimestamp", "reservoir_quantile"),
)
_CALLS = re.compile(r"(?:\w+(?=\()|\bcurrent_(?:date|time|timestamp)\b)")


def find_volatile(
    connection: Connection, tree: Mapping[str, Any], columns: Container[str]
) -> str | None:
    """Return the first part of a statement whose value may change between two runs, else None.

    Args:
        connection: a connection whose functions the statement may call.
        tree: output of DuckDB's `json_serialize_sql` for the statement.
        columns: names of columns in lower case; `current_date` may be one of them.
    """
    volatile = volatile_functions(connection)
    for item in objects(tree):
        if item.get("sample"):
            return "a random sample (TABLESAMPLE, USING SAMPLE)"
        if item.get("class") == "FUNCTION":
            name = str(item["function_name"]).lower()
            # age(x) is the time from x until today.
            if name in volatile or (name == "age" and len(item["arguments"]) == 1):
                return f"{name}()"
        if item.get("class") == "COLUMN_REF" and len(item["column_names"]) == 1:
            name = item["column_names"][0].lower()
            if name in volatile and name not in columns:
                return str(name)
    return None


def volatile_functions(connection: Connection) -> frozenset[str]:
    """Return the names of DuckDB's functions and macros that may change between two runs."""
    return _with_macros(frozenset(connection.execute(_FUNCTIONS).fetchall()))


@cache
def _with_macros(functions: frozenset[tuple[str, str | None, str | None]]) -> frozenset[str]:
    names = {name for name, stability, _ in functions if stability not in (None, "CONSISTENT")}
    names.update(_OTHERS)
    # It gives no value at all.
    names.discard("error")
    macros = {name: set(_CALLS.findall(body.lower())) for name, _, body in functions if body}
    while found := {name for name in macros.keys() - names if macros[name] & names}:
        names |= found
    return frozenset(names)
