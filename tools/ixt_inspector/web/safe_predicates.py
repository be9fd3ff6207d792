"""Whether a predicate that a user has typed is sure to be harmless and quick, by its tree.

Most are: comparisons of columns with constants. They may run beside everything else, over what is
kept of the documents; all others run in a process of their own (see `workers`).
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
"""Functions whose result is never much larger than what they are given."""
_TYPES = frozenset({"BOOLEAN", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR"})


def is_tame(view: SnapshotView, where: str, columns: Collection[str]) -> bool:
    """Whether a predicate uses nothing but these columns, constants and harmless functions."""
    given, plain = (
        orjson.loads(
            view.ask("SELECT json_serialize_sql($sql) AS tree", {"sql": _around(text)})[0]["tree"]
        )
        for text in (where, "true")
    )
    if given.get("error") or len(given["statements"]) != 1:
        return False
    node, expected = given["statements"][0]["node"], plain["statements"][0]["node"]
    predicate = node.pop("where_clause", None)
    expected.pop("where_clause")
    # It may close our bracket, and go on with something else.
    return _placeless(node) == _placeless(expected) and _is_tame(predicate, columns)


def _around(where: str) -> str:
    return f"SELECT 1 FROM listing WHERE (\n{where}\n)"


def _is_tame(expression: Any, columns: Collection[str]) -> bool:
    if isinstance(expression, list):
        return all(_is_tame(item, columns) for item in expression)
    if not isinstance(expression, dict):
        return True
    match expression.get("class"):
        case "COLUMN_REF":
            names = expression["column_names"]
            return len(names) == 1 and names[0].lower() in columns
        case "FUNCTION":
            return expression["function_name"].lower() in _FUNCTIONS and _is_tame(
                expression["arguments"], columns
            )
        case "CAST":
            return expression["type_expr"].get("type_name") in _TYPES and _is_tame(
                expression["child"], columns
            )
        case None:
            return all(_is_tame(item, columns) for item in expression.values())
        case kind:
            return kind in _CLASSES and all(_is_tame(item, columns) for item in expression.values())


def _placeless(value: Any) -> Any:
    """A tree without the places of its parts in the text."""
    if isinstance(value, list):
        return [_placeless(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k: _placeless(v) for k, v in value.items() if not k.startswith("query_location")}
