"""A check of the parse tree of a user's predicate: whether it is certainly safe and fast.

Most predicates are: they compare columns with constants. A safe predicate runs in the server over
the cached listing of documents; any other predicate runs in a separate process (`query_pool`).
"""

from collections.abc import Collection
from typing import Any

import orjson

from ixt_inspector.web.snapshot_cache import SnapshotView

_CLASSES = frozenset({"BETWEEN", "CASE", "COMPARISON", "CONJUNCTION", "CONSTANT", "OPERATOR"})
_FUNCTIONS = frozenset(
    {
        *("+", "-", "*", "/", "//", "%", "abs", "round", "floor", "ceil", "ln", "log10", "sqrt"),
        *("greatest", "least", "isnan", "lower", "upper", "trim", "length", "len", "left", "right"),
        *("~~", "!~~", "~~*", "!~~*", "contains", "starts_with", "prefix", "suffix", "ends_with"),
        *("regexp_matches", "regexp_full_match", "list_contains", "list_has", "array_contains"),
        *("list_has_any", "list_has_all", "list_value"),
    }
)
"""Functions whose result is never much larger than their arguments."""
_TYPES = frozenset({"BOOLEAN", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR"})


def is_safe_predicate(view: SnapshotView, where: str, columns: Collection[str]) -> bool:
    """Return whether a predicate uses only these columns, constants and safe functions."""
    given, reference = (
        orjson.loads(
            view.query("SELECT json_serialize_sql($sql) AS tree", {"sql": _statement(text)})[0][
                "tree"
            ]
        )
        for text in (where, "true")
    )
    if given.get("error") or len(given["statements"]) != 1:
        return False
    node, expected = given["statements"][0]["node"], reference["statements"][0]["node"]
    predicate = node.pop("where_clause", None)
    expected.pop("where_clause")
    # A predicate may close the bracket around it and continue with another clause.
    same_statement = _without_locations(node) == _without_locations(expected)
    return same_statement and _is_safe(predicate, columns)


def _statement(where: str) -> str:
    return f"SELECT 1 FROM listing WHERE (\n{where}\n)"


def _is_safe(expression: Any, columns: Collection[str]) -> bool:
    if isinstance(expression, list):
        return all(_is_safe(item, columns) for item in expression)
    if not isinstance(expression, dict):
        return True
    match expression.get("class"):
        case "COLUMN_REF":
            names = expression["column_names"]
            return len(names) == 1 and names[0].lower() in columns
        case "FUNCTION":
            return expression["function_name"].lower() in _FUNCTIONS and _is_safe(
                expression["arguments"], columns
            )
        case "CAST":
            return expression["type_expr"].get("type_name") in _TYPES and _is_safe(
                expression["child"], columns
            )
        case None:
            return all(_is_safe(item, columns) for item in expression.values())
        case kind:
            return kind in _CLASSES and all(_is_safe(item, columns) for item in expression.values())


def _without_locations(value: Any) -> Any:
    """Return a parse tree without the positions of its nodes in the text."""
    if isinstance(value, list):
        return [_without_locations(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        k: _without_locations(v) for k, v in value.items() if not k.startswith("query_location")
    }
