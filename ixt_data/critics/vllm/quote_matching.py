"""Search for the passage that a judge quotes: exactly first, then with a stated tolerance.

The tolerance: white space of any kind and length is equal, as are upper and lower case, straight
and typographic quotation marks, hyphens and dashes. An ellipsis in the quote matches up to 200
characters. A quote with fewer than 4 letters or digits must match exactly. For a quote with an
ellipsis, the first 1,000 matches of its start are tried.
"""

import re
from collections.abc import Sequence
from itertools import islice

MIN_LETTERS = 4
MAX_ELLIPSIS_CHARS = 200
MAX_STARTS = 1000
_SAME = (("'", "'’‘‚`´"), ('"', '"“”„«»'), ("-", "-‐‑‒–—−"))
_CLASS = {char: f"[{re.escape(chars)}]" for _, chars in _SAME for char in chars}
_ELLIPSIS = re.compile(r"\s*(?:\.\.\.|…|\[\.\.\.\]|\[…\])\s*")


def locate(text: str, quote: str) -> tuple[int, int] | None:
    """Return the character offsets [start, end) of a quote's first match in a text, or None.

    Args:
        text: the document.
        quote: the judge's copy of a passage.
    """
    if not quote.strip():
        return None
    if (start := text.find(quote)) >= 0:
        return start, start + len(quote)
    if sum(char.isalnum() for char in quote) < MIN_LETTERS:
        return None
    # The dots may occur in the text itself.
    if (complete := re.search(_pattern(quote), text, re.IGNORECASE)) is not None:
        return complete.span()
    if _ELLIPSIS.search(quote) is None:
        return None
    first, *others = [_pattern(part) for part in _ELLIPSIS.split(quote.strip()) if part]
    # One pattern for all parts backtracks for minutes in a text that repeats itself.
    following = [
        re.compile(rf"[\s\S]{{0,{MAX_ELLIPSIS_CHARS}}}?{part}", re.IGNORECASE) for part in others
    ]
    starts = re.finditer(first, text, re.IGNORECASE)
    for match in islice(starts, MAX_STARTS if others else 1):
        if (end := _find_end(text, match.end(), following)) is not None:
            return match.start(), end
    return None


def _find_end(text: str, offset: int, parts: Sequence[re.Pattern[str]]) -> int | None:
    """Return the end of the last of some consecutive parts, None if one does not match."""
    for part in parts:
        if (match := part.match(text, offset)) is None:
            return None
        offset = match.end()
    return offset


def _pattern(part: str) -> str:
    return r"\s+".join("".join(_CLASS.get(c, re.escape(c)) for c in word) for word in part.split())
