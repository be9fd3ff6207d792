"""Texts for a reader."""

import pytest

from ixt_data.console import format_count


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 documents"), (1, "1 document"), (2, "2 documents"), (1200, "1,200 documents")],
)
def test_count_has_the_noun_in_its_number(number: int, text: str) -> None:
    assert format_count(number, "document") == text
