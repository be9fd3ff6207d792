"""The tokenizer of searches, the same for an index and for a scan.

A text is folded: NFC, then case folding, then NFC again, because a folded character may be
decomposed. A token is a run of letters and digits with their combining marks. A character of a
script without spaces is a token of its own.
"""

import re
import unicodedata
from functools import cache

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # Kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
"""Character class of scripts without spaces between words."""
LETTER = rf"[^\W_{UNSPACED}]"
"""Regular expression of a letter or digit of a script with spaces."""
MAX_TOKEN_CHARS = 10_000
"""A longer token counts as its start: tantivy drops tokens of more than 65,530 bytes."""
_ABOVE_LATIN = re.compile("[\u0300-\U0010ffff]")
_ASCII = re.compile(r"[a-z0-9]+")
_UNMARKED = re.compile(rf"[{UNSPACED}]|{LETTER}+")
_BLOCKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))
"""All combining marks of Unicode are here."""
_JAMO = "\u1160-\u11ff"
"""Vowels and final consonants of Hangul, which NFC composes with the character before."""


def fold(text: str) -> str:
    """Return a text in which equal letters are equal characters, whatever their case."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFC", text).casefold()
    return unicodedata.normalize("NFC", folded)


def split_folded(folded: str) -> list[str]:
    """Return the tokens of a folded text."""
    tokens = _tokens(folded).findall(folded)
    if len(folded) > MAX_TOKEN_CHARS:
        return [token[:MAX_TOKEN_CHARS] for token in tokens]
    return tokens


def tokenize(text: str) -> list[str]:
    """Return the tokens of a text."""
    return split_folded(fold(text))


def has_marks(folded: str) -> bool:
    """Return whether a folded text has combining marks."""
    if folded.isascii():
        return False
    first = _ABOVE_LATIN.search(folded)
    return first is not None and _mark().search(folded, first.start()) is not None


@cache
def mark_class() -> str:
    """Return the ranges of a character class of all combining marks."""
    marks = [chr(n) for block in _BLOCKS for n in block if _is_mark(n)]
    starts = [mark for mark in marks if not _is_mark(ord(mark) - 1)]
    ends = [mark for mark in marks if not _is_mark(ord(mark) + 1)]
    return "".join(f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _is_mark(number: int) -> bool:
    return unicodedata.category(chr(number)).startswith("M")


@cache
def _mark() -> re.Pattern[str]:
    return re.compile(f"[{mark_class()}]")


@cache
def _marked() -> re.Pattern[str]:
    mark = f"[{mark_class()}]"
    return re.compile(rf"(?!{mark})[{UNSPACED}]{mark}*|{LETTER}+(?:{mark}+{LETTER}*)*")


def _tokens(folded: str) -> re.Pattern[str]:
    """Return the pattern of tokens; without marks in the text, a faster one."""
    if folded.isascii():
        return _ASCII
    return _marked() if has_marks(folded) else _UNMARKED


@cache
def _cluster() -> re.Pattern[str]:
    following = f"[{mark_class()}{_JAMO}]"
    return re.compile(rf"[\x00-\x7f]+(?!{following})|.{following}*", re.DOTALL)


class FoldedOffsets:
    """Offsets of a folded text as offsets of the text."""

    def __init__(self, text: str, folded: str) -> None:
        """Compare a text with itself after `fold`."""
        self._starts: list[int] | None = None
        self._ends: list[int] = []
        if text.isascii() or (len(text) == len(folded) and text.casefold() == folded):
            return
        self._starts = []
        for match in _cluster().finditer(text):
            start, end = match.span()
            if match[0].isascii():
                self._starts.extend(range(start, end))
                self._ends.extend(range(start + 1, end + 1))
            else:
                size = len(fold(match[0]))
                self._starts += [start] * size
                self._ends += [end] * size

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return start and end in the text of a stretch that is not empty."""
        if self._starts is None:
            return start, end
        return self._starts[start], self._ends[end - 1]
