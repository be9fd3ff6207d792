"""Checks of SQL fragments of a user, before they become parts of a statement of ours."""

from functools import cache
from threading import Lock
from typing import Any

import duckdb
import orjson

from ixt_data.errors import QueryError

_LOCK = Lock()


def parenthesize(predicate: str) -> str:
    """Return a predicate in parentheses, after a check that it is one complete expression.

    A text such as `a) OR (b` would close the parentheses, and escape the conditions beside it.

    Raises:
        QueryError: the text is empty, or is not one expression.
    """
    if not isinstance(predicate, str) or not predicate.strip():
        raise QueryError(f"where {predicate!r} is empty; write SQL such as score >= 0.8")
    # A text that closes parentheses does not parse in brackets; one that closes brackets shows.
    node = _parse(f"SELECT [\n{predicate}\n]", f"where {predicate!r}")
    (first, *more) = node["select_list"]
    is_list = first.get("function_name") == "list_value" and len(first["arguments"]) == 1
    is_bare = node["from_table"]["type"] == "EMPTY" and not node["modifiers"]
    if more or not is_list or not is_bare or node["where_clause"]:
        raise QueryError(f"where {predicate!r} is refused: it is not one expression")
    return f"(\n{predicate}\n)"


def check_order(order: str) -> str:
    """Return the text of an ORDER BY, after a check that it is nothing more.

    Raises:
        QueryError: it is not a list of expressions with ASC or DESC.
    """
    if not isinstance(order, str) or not order.strip():
        raise QueryError(f"order {order!r} is empty; write SQL such as score DESC")
    modifiers = _parse(f"SELECT 1 ORDER BY\n{order}\n", f"order {order!r}")["modifiers"]
    if [one["type"] for one in modifiers] != ["ORDER_MODIFIER"]:
        raise QueryError(
            f"order {order!r} is refused: it contains more than expressions with ASC or DESC"
        )
    return order


def _parse(statement: str, what: str) -> Any:
    """Return the tree of the only SELECT of a statement; `what` is named in an error."""
    with _LOCK:
        ((found,),) = _parser().execute("SELECT json_serialize_sql(?)", [statement]).fetchall()
    tree = orjson.loads(found)
    if tree["error"]:
        raise QueryError(f"{what} is refused: {tree['error_message']}")
    (only, *more) = tree["statements"]
    if more or only["node"]["type"] != "SELECT_NODE":
        raise QueryError(f"{what} is refused: it is not one expression")
    return only["node"]


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """Return a connection that only parses: it runs no statement of a user."""
    return duckdb.connect(":memory:")
