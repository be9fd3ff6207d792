"""Texts of others: hostile characters made visible, and spans marked in them."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from ixt_data.records import Span

PARTS = ("chunk", "turn", "failed")
"""Verdicts of spans that say where a part of a document is, judged on its own."""
_PLAIN = re.compile(r"[\t\n\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class TextSegment:
    """A stretch of a text: shown as it is, as the name of a character, and with a span around it.

    Attributes:
        text: of the document; the name of a character that must not have its effect.
        span: number of the innermost span around it, from 1; 0 for none.
        hidden: whether it is such a name.
        first: whether the span begins here.
    """

    text: str
    span: int = 0
    hidden: bool = False
    first: bool = False


def visible(text: str) -> str:
    """A text in which control and direction characters stand as their code points."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(named(piece) if hides else piece for piece, hides in _runs(text))


def named(character: str) -> str:
    """The code point of a character."""
    return f"⟨U+{ord(character):04X}⟩"


def is_hidden(character: str) -> bool:
    """Whether a character has an effect that is not seen: control, direction, private, lone."""
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co")


def pieces(text: str, spans: Iterable[Span], length: int) -> Iterator[TextSegment]:
    """The first `length` characters of a text, cut at spans and at hidden characters.

    Where spans overlap, a stretch belongs to the one that began last. Offsets out of range are cut.
    """
    text = text[:length]
    known = [
        (max(0, span.start), min(len(text), span.end), number)
        for number, span in enumerate(spans, 1)
        if span.verdict not in PARTS
    ]
    borders = sorted({0, len(text), *(b for a, b, _ in known), *(a for a, b, _ in known)})
    begun: set[int] = set()
    for start, end in pairwise(borders):
        if not 0 <= start < end <= len(text):
            continue
        around = [(a, number) for a, b, number in known if a <= start and end <= b]
        number = max(around)[1] if around else 0
        for part, hides in _runs(text[start:end]):
            first = number not in begun and number > 0
            begun.add(number)
            yield TextSegment(named(part) if hides else part, number, hides, first)


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """Stretches without hidden characters, and each of those on its own."""
    text = text.replace("\r\n", "\n")
    start = 0
    for match in re.finditer(r"[^\t\n\x20-\x7e]", text):
        if is_hidden(match[0]):
            if start < match.start():
                yield text[start : match.start()], False
            yield match[0], True
            start = match.end()
    if start < len(text):
        yield text[start:], False
