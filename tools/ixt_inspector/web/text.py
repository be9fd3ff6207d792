"""Untrusted text: hidden characters shown as code points, and spans marked."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ixt_data.records import Span

PART_VERDICTS = ("chunk", "turn", "failed")
"""Verdicts of spans that bound a part of a document which the critic judged separately."""
MAX_NAMES = 30
MAX_NAME_CHARS = 60
"""Names in a message, and characters of each."""
_PLAIN = re.compile(r"[\t\n\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class TextSegment:
    """A segment of a text inside one span, or the name of one hidden character.

    Attributes:
        text: text of the document, or the code point of the hidden character.
        span: number of the innermost span around it, from 1; 0 outside spans.
        is_hidden: whether the segment is the name of a hidden character.
        is_first: whether the span starts here.
        is_found: whether words of a search are here.
        kind: kind of code, such as `keyword`; empty in other texts.
    """

    text: str
    span: int = 0
    is_hidden: bool = False
    is_first: bool = False
    is_found: bool = False
    kind: str = ""


def list_names(names: Iterable[str]) -> str:
    """Return names for a message: the first ones, each cut where it is long; `none` without any."""
    whole = list(names)
    shown = [shorten(name) for name in whole[:MAX_NAMES]]
    more = len(whole) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")


def shorten(name: str) -> str:
    """Return a name for a message, cut where it is long."""
    return name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}…"


def make_visible(text: str) -> str:
    """Return a text with its control and direction characters replaced by their code points."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(code_point(run) if hidden else run for run, hidden in _runs(text))


def code_point(character: str) -> str:
    """Return the code point of a character, such as `⟨U+202E⟩`."""
    return f"⟨U+{ord(character):04X}⟩"


def is_hidden(character: str) -> bool:
    """Return whether a character is invisible: control, format, private use, or a surrogate."""
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co")


def text_segments(
    text: str,
    spans: Iterable[Span],
    length: int,
    found: Sequence[tuple[int, int]] = (),
    tokens: Sequence[tuple[int, int, str]] = (),
) -> Iterator[TextSegment]:
    """Yield the first `length` characters of a text, split at spans and at hidden characters.

    Where spans overlap, a segment belongs to the span that starts last. Offsets out of range are
    clipped.
    """
    text = text[:length]
    clipped = [
        (max(0, span.start), min(len(text), span.end), number)
        for number, span in enumerate(spans, 1)
        if span.verdict not in PART_VERDICTS
    ]
    borders = sorted(
        {0, len(text)}
        | {min(border, len(text)) for match in found for border in match}
        | {border for start, end, _ in clipped for border in (start, end)}
        | {border for start, end, _ in tokens for border in (start, end)}
    )
    found_starts, token_starts = [start for start, _ in found], [start for start, _, _ in tokens]
    started: set[int] = set()
    for start, end in pairwise(borders):
        if not 0 <= start < end <= len(text):
            continue
        around = [(a, number) for a, b, number in clipped if a <= start and end <= b]
        number = max(around)[1] if around else 0
        before = bisect_right(found_starts, start) - 1
        is_found = before >= 0 and end <= found[before][1]
        inside = bisect_right(token_starts, start) - 1
        kind = tokens[inside][2] if inside >= 0 and end <= tokens[inside][1] else ""
        for run, hidden in _runs(text[start:end]):
            first = number not in started and number > 0
            started.add(number)
            shown = code_point(run) if hidden else run
            yield TextSegment(shown, number, hidden, first, is_found, kind)


def marked_segments(text: str, marks: Iterable[tuple[int, int]]) -> list[tuple[str, bool]]:
    """Return a text in parts, each with whether it is marked."""
    parts, position = [], 0
    for start, end in marks:
        parts += [(text[position:start], False), (text[start:end], True)]
        position = end
    return [part for part in [*parts, (text[position:], False)] if part[0]]


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """Yield runs without hidden characters, and each hidden character."""
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
