"""Tokens of texts, with case, composition and combining marks."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_data.search.tokens import FoldedOffsets, fold, tokenize

LETTERS = "aB\u00df\u0130\u03a3\u03c2e\u0301\u0307\u1100\u1161\u11a8 _-中か\u3099क\u093f.\u212a"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Ab c_d 中文", ["ab", "c", "d", "中", "文"]),
        ("ΟΔΥΣΣΕΥΣ οδυσσευς", ["οδυσσευσ"] * 2),
        ("Cafe\u0301 CAFÉ", ["café"] * 2),
        ("का कि", ["का", "कि"]),
        ("❤\ufe0f x\u0301 \u0301y", ["x\u0301", "y"]),
        ("นี่a", ["นี่", "a"]),
        ("x" * 70_000 + " y", ["x" * 10_000, "y"]),
    ],
)
def test_tokens_keep_marks(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text(st.sampled_from(LETTERS)))
def test_tokens_do_not_depend_on_composition(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert tokenize(unicodedata.normalize(form, text)) == tokenize(text)
    folded = fold(text)
    offsets = FoldedOffsets(text, folded)
    for number, character in enumerate(folded):
        start, end = offsets.original(number, number + 1)
        assert character in fold(text[start:end])
