"""Search for quotes: exact first, else with the stated tolerance."""

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixt_data.critics.vllm.quote_matching import MAX_ELLIPSIS_CHARS, locate

TEXT = "He said: “It’s  2 – 3,\nno more”. Then he left.\nIt's said he said it again."


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("he said", "he said"),
        ("He said", "He said"),
        ('"It\'s 2 - 3, no more"', "“It’s  2 – 3,\nno more”"),
        ("IT’S SAID HE", "It's said he"),
        ("He said: … he left.", "He said: “It’s  2 – 3,\nno more”. Then he left."),
        ("  Then   he\tleft.  ", "Then he left."),
        (".", "."),
        ("then", "Then"),
    ],
)
def test_locate_finds_a_quote(quote: str, found: str) -> None:
    place = locate(TEXT, quote)
    assert place is not None
    assert TEXT[slice(*place)] == found


@pytest.mark.parametrize("quote", ["", "  ", "he sang", "HE", "left … said: “It’s", "He again"])
def test_locate_returns_none_without_a_match(quote: str) -> None:
    assert locate(TEXT, quote) is None


def test_locate_limits_an_ellipsis() -> None:
    assert locate("begin" + "x" * MAX_ELLIPSIS_CHARS + "end", "begin...end") is not None
    assert locate("begin" + "x" * (MAX_ELLIPSIS_CHARS + 1) + "end", "begin...end") is None


def test_locate_matches_dots_of_the_text() -> None:
    assert locate("aaaaaaaaaaa...aaaaaa", "AAAAAA...") == (5, 14)


def test_locate_with_many_ellipses_is_fast() -> None:
    start = time.monotonic()
    assert locate("ab cd " * 20_000, " ... ".join(["ab"] * 12) + " ... nowhere") is None
    assert time.monotonic() - start < 5
    assert locate("ab cd " * 20_000 + "end", "ab ... cd ... ab") == (0, 8)


def plain(text: str) -> str:
    return " ".join(text.split()).lower()


@settings(deadline=None)
@given(st.text(alphabet="abcdef .,'\"-\n", min_size=20, max_size=200), st.data())
def test_locate_finds_an_inexact_quote(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 10))
    quote = text[start : start + data.draw(st.integers(5, 60))].strip()
    if sum(map(str.isalnum, quote)) < 4:
        return
    dice = random.Random(data.draw(st.integers()))
    swaps = {"'": "’", '"': "”", "-": "—"}
    worse = "".join(swaps.get(c, c) if dice.random() < 0.5 else c for c in quote)
    worse = re.sub(r"\s+", lambda _: dice.choice((" ", "\n", "  ")), worse)
    if dice.random() < 0.3:
        worse = worse.upper()
    place = locate(text, worse)
    assert place is not None
    # Perhaps an earlier one, but the same in all that counts.
    assert plain(text[slice(*place)]) == plain(quote)
