"""Predicates that run in the server."""

import pytest

from ixt_inspector.web.listing import SAFE_COLUMNS
from ixt_inspector.web.request import Inspector
from ixt_inspector.web.safe_predicates import is_safe_predicate


@pytest.mark.parametrize(
    ("where", "is_safe"),
    [
        ("score > 0.5 AND source LIKE 'site%' AND NOT (n_chars BETWEEN 3 AND 5)", True),
        ("flags[1] = 'short' OR list_contains(flags, 'long')", True),
        ("score::INT = 1 OR status IS NULL OR corpus IN ('a', 'b')", True),
        ("CASE WHEN score > 1 THEN 1 ELSE 2 END = 2 -- )", True),
        ("lang = 'de'", False),
        ("len(range(0, 10)) > 1", False),
        ("repeat(source, 100000) = 'x'", False),
        ("score IN (SELECT 1)", False),
        ("score::INT[] IS NULL", False),
        ("list_transform(flags, lambda x: x || x) IS NULL", False),
        ("row_number() OVER () > 1", False),
        ("true) ORDER BY (len(range(0, 9))", False),
        ("true) GROUP BY (1", False),
        ("true) LIMIT (len(range(0, 9))", False),
        ("true) USING SAMPLE (5", False),
        ("true) UNION SELECT 1 WHERE (true", False),
        ("true); SELECT (1", False),
        ("score > $x", False),
        ("score >", False),
    ],
)
def test_predicate_is_safe_only_if_certain(inspector: Inspector, where: str, is_safe: bool) -> None:
    assert is_safe_predicate(inspector.views.latest(), where, SAFE_COLUMNS) is is_safe
