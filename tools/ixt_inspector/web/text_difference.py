"""The difference of two texts by words, within a bounded time."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

MAX_CHARS = 200_000
"""Characters of each text that are compared."""
MAX_PAIRS = 1_000_000
"""Pairs of equal words, the cost of a comparison: about half a second."""
# A character of Chinese, Japanese or Korean; a word; a sign.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]\s*|\w+\s*|[^\w\s]\s*|\s+")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*\s*|[.!?\n]+\s*")


@dataclass(frozen=True, slots=True)
class DifferencePart:
    """A stretch of one text, and whether the other one does not have it."""

    text: str
    is_changed: bool


@dataclass
class TextDifference:
    """The parts of two texts.

    Attributes:
        before: parts of the first text.
        after: parts of the second text.
        is_cut: whether a text is longer than what was compared.
        is_coarse: whether some changes are marked by sentences, because words took too long.
    """

    before: list[DifferencePart] = field(default_factory=list)
    after: list[DifferencePart] = field(default_factory=list)
    is_cut: bool = False
    is_coarse: bool = False

    @property
    def is_same(self) -> bool:
        """Return whether nothing differs, except for spaces."""
        return not any(part.is_changed for part in (*self.before, *self.after))


def compare_texts(before: str, after: str) -> TextDifference:
    """Return which words of two texts differ; spaces between words are ignored.

    Long texts are compared by sentences first, and then by words where sentences differ.
    """
    found = TextDifference(is_cut=max(len(before), len(after)) > MAX_CHARS)
    one, other = before[:MAX_CHARS], after[:MAX_CHARS]
    words = _WORD.findall(one), _WORD.findall(other)
    if _cost(*words) <= MAX_PAIRS:
        _add_blocks(found, *words, _add_changed)
        return found
    budget = MAX_PAIRS

    def add_sentences(found: TextDifference, one: Sequence[str], other: Sequence[str]) -> None:
        nonlocal budget
        words = _WORD.findall("".join(one)), _WORD.findall("".join(other))
        cost = _cost(*words)
        if cost > budget:
            found.is_coarse = found.is_coarse or bool(one and other)
            _add_changed(found, one, other)
            return
        budget -= cost
        _add_blocks(found, *words, _add_changed)

    _add_blocks(found, _SENTENCE.findall(one), _SENTENCE.findall(other), add_sentences)
    return found


Add = Callable[[TextDifference, Sequence[str], Sequence[str]], None]


def _add_blocks(
    found: TextDifference, one: Sequence[str], other: Sequence[str], add_changed: Add
) -> None:
    """Add equal and changed blocks of two lists of words or sentences."""
    keys = [word.strip() for word in one], [word.strip() for word in other]
    start = 0
    while start < min(len(one), len(other)) and keys[0][start] == keys[1][start]:
        start += 1
    ends = len(one), len(other)
    while min(ends) > start and keys[0][ends[0] - 1] == keys[1][ends[1] - 1]:
        ends = ends[0] - 1, ends[1] - 1
    middle = keys[0][start : ends[0]], keys[1][start : ends[1]]
    # Frequent sentences are ignored where there are too many pairs.
    matcher = SequenceMatcher(None, *middle, autojunk=_cost(*middle) > MAX_PAIRS)
    _add_same(found, one[:start], other[:start])
    for kind, *places in matcher.get_opcodes():
        i, j, k, m = (start + place for place in places)
        parts = one[i:j], other[k:m]
        (_add_same if kind == "equal" else add_changed)(found, *parts)
    _add_same(found, one[ends[0] :], other[ends[1] :])


def _add_same(found: TextDifference, one: Sequence[str], other: Sequence[str]) -> None:
    _add(found.before, one, is_changed=False)
    _add(found.after, other, is_changed=False)


def _add_changed(found: TextDifference, one: Sequence[str], other: Sequence[str]) -> None:
    _add(found.before, one, is_changed=True)
    _add(found.after, other, is_changed=True)


def _add(parts: list[DifferencePart], words: Sequence[str], *, is_changed: bool) -> None:
    text = "".join(words)
    if parts and parts[-1].is_changed is is_changed:
        text = parts.pop().text + text
    if text:
        parts.append(DifferencePart(text, is_changed))


def _cost(one: Sequence[str], other: Sequence[str]) -> int:
    counts = Counter(word.strip() for word in one), Counter(word.strip() for word in other)
    return sum(n * counts[1][word] for word, n in counts[0].items())
