"""Finds the passage that a judge quotes: to the letter, else by a stated tolerance.

Tolerance: white space of any kind and length is equal, as are upper and lower case, straight and
typographic quotation marks, hyphens and dashes; an ellipsis in the quote stands for up to 200
characters. A quote with fewer than 4 letters or digits is found only to the letter.
"""

import re

LEAST = 4
GAP = 200
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
    found = re.search(_pattern(quote), text, re.IGNORECASE)
    return found and found.span()


def _pattern(quote: str) -> str:
    parts = [part for part in _ELLIPSIS.split(quote.strip()) if part]
    return rf"[\s\S]{{0,{GAP}}}?".join(
        r"\s+".join("".join(_CLASS.get(c, re.escape(c)) for c in word) for word in part.split())
        for part in parts
    )
