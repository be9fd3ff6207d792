"""Finds the passage that a judge quotes: to the letter, else by a stated tolerance.

Tolerance: white space of any kind and length is equal, as are upper and lower case, straight and
typographic quotation marks, hyphens and dashes; an ellipsis in the quote stands for up to 200
characters. A quote with fewer than 4 letters or digits is found only to the letter. Of a quote with
an ellipsis the first 1,000 places of its beginning are tried.
"""

import re
from collections.abc import Sequence
from itertools import islice

LEAST = 4
GAP = 200
PLACES = 1000
_SAME = (("'", "'’‘‚`´"), ('"', '"“”„«»'), ("-", "-‐‑‒–—−"))
_CLASS = {char: f"[{re.escape(chars)}]" for _, chars in _SAME for char in chars}
_ELLIPSIS = re.compile(r"\s*(?:\.\.\.|…|\[\.\.\.\]|\[…\])\s*")


def locate(text: str, quote: str) -> tuple[int, int] | None:
    """Character offsets of the first place where a quote stands in a text, None if nowhere."""
    if not quote.strip():
        return None
    if (start := text.find(quote)) >= 0:
        return start, start + len(quote)
    if sum(char.isalnum() for char in quote) < LEAST:
        return None
    # Dots may be the text's own.
    if (whole := re.search(_pattern(quote), text, re.IGNORECASE)) is not None:
        return whole.span()
    if _ELLIPSIS.search(quote) is None:
        return None
    first, *others = [_pattern(part) for part in _ELLIPSIS.split(quote.strip()) if part]
    # One pattern for all parts would go back and forth without end in a text that repeats itself.
    following = [re.compile(rf"[\s\S]{{0,{GAP}}}?{part}", re.IGNORECASE) for part in others]
    places = re.finditer(first, text, re.IGNORECASE)
    for found in islice(places, PLACES if others else 1):
        if (end := _end(text, found.end(), following)) is not None:
            return found.start(), end
    return None


def _end(text: str, at: int, parts: Sequence[re.Pattern[str]]) -> int | None:
    """Where the last of some parts ends that follow one another, None if one does not."""
    for part in parts:
        if (found := part.match(text, at)) is None:
            return None
        at = found.end()
    return at


def _pattern(part: str) -> str:
    return r"\s+".join("".join(_CLASS.get(c, re.escape(c)) for c in word) for word in part.split())
