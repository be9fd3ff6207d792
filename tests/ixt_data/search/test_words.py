"""The words of a search: parsing, matching and snippets."""

import pytest

from ixt_data.errors import QueryError
from ixt_data.search import SearchWords


@pytest.mark.parametrize(
    ("words", "text", "is_match"),
    [
        ("fox", "The Fox jumps", True),
        ("fox", "foxes", False),
        ("fox dog", "a dog, a fox", True),
        ("fox dog", "a fox", False),
        ('"brown fox"', "brown,\nFOX!", True),
        ('"brown fox"', "fox brown", False),
        ("jum*", "it jumped", True),
        ('"fox jum*"', "a fox jumped", True),
        ('"fox jum"*', "a fox jumped", True),
        ('"fox jum*"', "jumped a fox", False),
        ("fox -dog", "a fox", True),
        ("fox -dog", "a fox, a dog", False),
        ('fox -"big dog"', "a fox, a small dog", True),
        ("don't", "I don't", True),
        ("café", "ein CAFÉ", True),
        ("cafe", "ein Café", False),
        ("中文", "这是中文字", True),
        ("中字", "这是中文字", False),
        ("ภาษา", "นี่คือภาษาไทย", True),
        ("snake_case", "a snake_case name", True),
        ("f(x)", "def f(x):", True),
        ("οδυσσευς", "ο ΟΔΥΣΣΕΥΣ", True),
        ("istanbul", "İstanbul", False),
        ("İstanbul", "i\u0307stanbul", True),
        ("STRASSE", "die Straße", True),
        ("कि", "का", False),
        ("कि", "कि", True),
        ("कि*", "किताब", True),
        ("cafe", "cafe\u0301", False),
        ("café", "ein cafe\u0301!", True),
        ("fox", "a fox中文", True),
        ("fox", "❤️fox", True),
        ('"love fox"', "love ❤️ fox", True),
        ("が", "か\u3099", True),
        ("か", "か\u3099", False),
        ("각", "\u1100\u1161\u11a8", True),
    ],
)
def test_words_match_a_text(words: str, text: str, is_match: bool) -> None:
    parsed = SearchWords.parse(words)
    assert parsed.matches(text) is is_match
    if is_match:
        assert parsed.find(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "nothing to search for"),
        ("  ", "nothing to search for"),
        ("-fox", "nothing to search for"),
        ("++", "no letter or digit"),
        ('""', "no letter or digit"),
        ('a "fox', "a quote is open"),
        ("f*", "at least 2 letters"),
        ("word " * 51, "at most 50 words"),
    ],
)
def test_words_without_a_meaning_are_refused(words: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        SearchWords.parse(words)


def test_snippet_has_the_densest_matches_marked() -> None:
    text = "One fox. " + "Nothing here. " * 40 + "A fox\n\n met a fox and  a fox. " + "End. " * 80
    snippet = SearchWords.parse("fox").snippet(text)
    assert [snippet.text[a:b] for a, b in snippet.marks] == ["fox", "fox", "fox"]
    assert "A fox met a fox and a fox." in snippet.text
    assert snippet.text.startswith("…")
    assert snippet.text.endswith("…")
    assert len(snippet.text) <= 163


def test_snippet_of_a_short_text_is_the_text() -> None:
    snippet = SearchWords.parse("fox").snippet("A fox.")
    assert snippet.text == "A fox."
    assert snippet.marks == ((2, 5),)


def test_overlapping_matches_are_one() -> None:
    text = "the brown fox jumps"
    assert SearchWords.parse('"brown fox" fox "fox jumps"').find(text) == [(4, 19)]


@pytest.mark.parametrize(
    ("words", "text", "marked"),
    [
        ("strasse", "ß die Straße!", "Straße"),
        ("café", "cafe cafe\u0301 x", "cafe\u0301"),
        ("istanbul", "İ Istanbul", "Istanbul"),
        ("각", "ß \u1100\u1161\u11a8.", "\u1100\u1161\u11a8"),
        ("fox", "ß" * 9 + " Fox", "Fox"),
    ],
)
def test_matches_have_offsets_of_the_text(words: str, text: str, marked: str) -> None:
    ((start, end),) = SearchWords.parse(words).find(text)
    assert text[start:end] == marked
