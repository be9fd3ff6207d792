"""Critiques that say nothing: without words, repeating themselves, or repeating the rubric.

A weak judge obeys the schema and writes ", " or the rubric's own statements. Such a text would be
trained on, so it is a failure, not a critique.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

_WORD = re.compile(r"[^\W\d_]+")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
MIN_LETTERS, MIN_WIDE_LETTERS = 8, 4
"""Letters of a critique at least; fewer in scripts whose letters are syllables or words."""

MAX_REPEATED, MAX_COPIED = 0.5, 0.6
"""Largest share of the critique's phrases that repeat earlier ones, or stand in the rubric."""

_PHRASE, _LONG_PHRASE = 3, 5
_MIN_PHRASES = 8


def find_degeneracy(critique: str, rubric_text: str) -> str | None:
    """Return why a critique says nothing, or None.

    Args:
        critique: the judge's text.
        rubric_text: the rubric's message to the judge.
    """
    letters = sum(map(len, _WORD.findall(critique)))
    wide = len(_WIDE.findall(critique))
    tokens = [token for token in critique.split() if _WORD.search(token)]
    if wide < MIN_WIDE_LETTERS and (letters < MIN_LETTERS or len(tokens) < 2):
        return "the critique has no sentence"
    words = _words(critique)
    phrases = list(_phrases(words, _PHRASE))
    if len(phrases) >= _MIN_PHRASES:
        repeated = 1 - len(Counter(phrases)) / len(phrases)
        if repeated > MAX_REPEATED:
            return f"{repeated:.0%} of the critique repeats itself"
    long_phrases = list(_phrases(words, _LONG_PHRASE))
    if long_phrases:
        known = _rubric_phrases(rubric_text)
        copied = sum(phrase in known for phrase in long_phrases) / len(long_phrases)
        if copied > MAX_COPIED:
            return f"{copied:.0%} of the critique are the rubric's own words"
    return None


def _words(text: str) -> list[str]:
    text = text.lower()
    # A script without spaces has one word per letter.
    return [w for word in _WORD.findall(text) for w in (word if _WIDE.search(word) else [word])]


def _phrases(words: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(size)), strict=False)


@lru_cache(maxsize=8)
def _rubric_phrases(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_phrases(_words(text), _LONG_PHRASE))
