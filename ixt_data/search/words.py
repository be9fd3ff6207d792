"""The words of a search: parsed once, found in a text by a regular expression.

`fox` is a word, `"brown fox"` a phrase, `fo*` a prefix, `"brown fo*"` a phrase with a prefix, and
`-fox` excludes. All words must be in the text. Case is ignored, accents are not. A character of a
script without spaces, such as Chinese or Thai, is a word, so a run of them is a phrase. `tokens`
defines what a word is.
"""

import itertools
import re
from dataclasses import dataclass, field
from functools import cached_property

from ixt_data.errors import QueryError
from ixt_data.search.tokens import (
    LETTER,
    UNSPACED,
    FoldedOffsets,
    fold,
    has_marks,
    mark_class,
    split_folded,
    tokenize,
)

MIN_PREFIX_CHARS = 2
"""A shorter prefix matches too many words to be of use."""
MAX_WORDS = 50
SNIPPET_CHARS = 160
_UNSPACED = re.compile(f"[{UNSPACED}]")
_PART = re.compile(r'(?P<minus>-)?(?:"(?P<phrase>[^"]*)"(?P<after>\*)?|(?P<word>[^\s"]+))')


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a search.

    Attributes:
        words: a word, or the words of a phrase, folded.
        is_prefix: whether the last word is the start of a word.
        is_excluded: whether texts with it do not match.
    """

    words: tuple[str, ...]
    is_prefix: bool = False
    is_excluded: bool = False

    @property
    def pattern(self) -> str:
        """The regular expression that finds it in a folded text; exact in one without marks."""
        mark = f"[{mark_class()}]"
        first, last = self.words[0], self.words[-1]
        parts = [re.escape(first)]
        if not _UNSPACED.match(first):
            # The boundary before the word follows it: a pattern that starts with text is faster.
            parts += [rf"(?<!{LETTER}{parts[0]})(?<!{LETTER}{mark}{parts[0]})"]
        for before, word in zip(self.words, self.words[1:], strict=False):
            # Characters of Chinese follow each other without a space.
            is_unspaced = _UNSPACED.match(before) or _UNSPACED.match(word)
            parts += [f"(?!{mark})", r"[\W_]*" if is_unspaced else r"[\W_]+", re.escape(word)]
        if self.is_prefix:
            parts.append(f"{mark}*" if _UNSPACED.match(last) else rf"(?:{LETTER}|{mark})*")
        else:
            parts.append(f"(?!{mark})" if _UNSPACED.match(last) else rf"(?!{LETTER}|{mark})")
        return "".join(parts)

    @property
    def joined(self) -> str:
        """The stretch of tokens, joined by spaces, that a text with it has."""
        return f" {' '.join(self.words)}{'' if self.is_prefix else ' '}"


@dataclass(frozen=True, slots=True)
class Snippet:
    """An excerpt of a text.

    Attributes:
        text: the excerpt, with an ellipsis where it is cut; white space is one space.
        marks: start and end of each match, in characters of `text`.
    """

    text: str
    marks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SearchWords:
    """A parsed search.

    Attributes:
        text: as the user wrote it.
        clauses: its parts.
    """

    text: str
    clauses: tuple[Clause, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "SearchWords":
        """Parse a search.

        Raises:
            QueryError: it has no word that a text could have, or an open quote.
        """
        if text.count('"') % 2:
            raise QueryError(f'{text}: a quote is open. A phrase is "in quotes"')
        clauses = []
        for part in _PART.finditer(text):
            given = part["phrase"] if part["phrase"] is not None else part["word"]
            words = tuple(tokenize(given))
            if not words:
                raise QueryError(f"{part[0]}: has no letter or digit to search for")
            is_prefix = given.endswith("*") or part["after"] is not None
            if is_prefix and len(words[-1]) < MIN_PREFIX_CHARS and not _UNSPACED.match(words[-1]):
                raise QueryError(
                    f"{part[0]}: a prefix has at least {MIN_PREFIX_CHARS} letters before the *"
                )
            clauses.append(Clause(words, is_prefix, part["minus"] is not None))
        if not any(not clause.is_excluded for clause in clauses):
            raise QueryError(
                'nothing to search for. Write words, "a phrase", a prefix* or -without'
            )
        if sum(len(clause.words) for clause in clauses) > MAX_WORDS:
            raise QueryError(f"a search has at most {MAX_WORDS} words")
        return cls(text, tuple(clauses))

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], bool]]:
        return [(re.compile(clause.pattern), clause.is_excluded) for clause in self.clauses]

    @cached_property
    def _needed(self) -> list[str]:
        return [word for one in self.clauses if not one.is_excluded for word in one.words]

    def matches(self, text: str) -> bool:
        """Return whether a text matches, exactly as in an index."""
        folded = fold(text)
        if not all(word in folded for word in self._needed):
            return False
        if has_marks(folded):
            joined = f" {' '.join(split_folded(folded))} "
            return all((one.joined in joined) is not one.is_excluded for one in self.clauses)
        return all(
            (pattern.search(folded) is None) is is_excluded
            for pattern, is_excluded in self._patterns
        )

    def find(self, text: str, limit: int = 10_000) -> list[tuple[int, int]]:
        """Return start and end of each match in a text, in order and without overlaps."""
        folded = fold(text)
        offsets = FoldedOffsets(text, folded)
        found: list[tuple[int, int]] = []
        for pattern, is_excluded in self._patterns:
            if not is_excluded:
                for match in itertools.islice(pattern.finditer(folded), limit):
                    found.append(offsets.original(*match.span()))
        merged: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def snippet(self, text: str, chars: int = SNIPPET_CHARS) -> Snippet:
        """Return the excerpt of a text with the most matches, the first of those."""
        found = self.find(text, 1000)
        best, most = 0, 0
        last = 0
        for first, (start, _) in enumerate(found):
            last = max(last, first)
            while last < len(found) and found[last][1] <= start + chars * 3 // 4:
                last += 1
            if last - first > most:
                best, most = start, last - first
        begin = _word_start(text, max(0, best - chars // 4), best) if best > chars // 4 else 0
        end = _word_end(text, begin + chars)
        return _excerpt(text, begin, end, found)


def _word_start(text: str, position: int, limit: int) -> int:
    """Return the start of the next word, at most `limit`."""
    space = text.find(" ", position, limit)
    return position if space < 0 else space + 1


def _word_end(text: str, position: int) -> int:
    """Return the end of the word before a position, if one ends near."""
    if position >= len(text):
        return len(text)
    space = text.rfind(" ", position - 20, position)
    return position if space < 0 else space


def _excerpt(text: str, begin: int, end: int, found: list[tuple[int, int]]) -> Snippet:
    pieces, marks, length = ["…" if begin else ""], list[tuple[int, int]](), int(begin > 0)
    position = begin

    def add(until: int) -> None:
        nonlocal position, length
        piece = re.sub(r"\s+", " ", text[position:until])
        pieces.append(piece)
        length += len(piece)
        position = until

    for start, stop in found:
        if begin <= start and stop <= end:
            add(start)
            marked = length
            add(stop)
            marks.append((marked, length))
    add(end)
    pieces.append("…" if end < len(text) else "")
    return Snippet("".join(pieces), tuple(marks))
