"""A predicate or an order of a user is one fragment, and cannot leave its place."""

import pytest

from ixt_data.errors import QueryError
from ixt_data.sql.expressions import check_order, parenthesize


@pytest.mark.parametrize(
    "predicate",
    [
        "n = 1",
        "n = 1 -- a comment",
        "a = '] OR [' AND b IN (SELECT max(n) FROM documents)",
        "list_contains([1, 2], n)",
        "(a OR b) AND NOT (c)",
    ],
)
def test_one_expression_is_put_in_parentheses(predicate: str) -> None:
    assert parenthesize(predicate) == f"(\n{predicate}\n)"


@pytest.mark.parametrize(
    "predicate",
    [
        "n = 1) OR (1 = 1",
        "1], [2",
        "1] || [2",
        "a, b",
        "x FOR x IN [1]",
        "1] FROM documents WHERE [1",
        "1] ORDER BY [1",
        "n = 1; SELECT 1",
        "n = 1 LIMIT 1",
        "a AS b",
        "true) UNION SELECT (1",
        "",
        " ",
        5,
    ],
)
def test_text_that_is_not_one_expression_is_refused(predicate: str) -> None:
    with pytest.raises(QueryError):
        parenthesize(predicate)


def test_order_is_expressions_with_directions() -> None:
    for order in ("score DESC", "score DESC NULLS LAST, abs(n)", "n -- a comment"):
        assert check_order(order) == order
    for order in ("n OFFSET 2", "n LIMIT 1 --", "1; SELECT 2", "", ["n"], 5):
        with pytest.raises(QueryError):
            check_order(order)  # type: ignore[arg-type]
