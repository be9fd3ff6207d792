"""One person's label of a document, and the checks of its values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ixt_data.errors import StoreError
from ixt_data.records import VERDICTS, Span

MAX_REVIEWER_CHARS = 100
_DOC_ID = re.compile(r"[0-9a-fA-F]{8}(-?)([0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Label:
    """One person's judgement of a document.

    Attributes:
        doc_id: the document, as text.
        by: name of the person.
        score: 0 to 1; None for a critique without a score.
        critique: free text.
        spans: judged stretches of the text.
        flags: short labels.
        place: file and line that it is from, for messages; empty if it is from none.
    """

    doc_id: str
    by: str
    score: float | None = None
    critique: str = ""
    spans: Sequence[Span] = ()
    flags: Sequence[str] = ()
    place: str = field(default="", compare=False)

    def check(self) -> None:
        """Check types and values, except what depends on the text of the document.

        Raises:
            StoreError: a value is missing or not valid; the message names the place and the key.
        """
        for name, check in _CHECKS.items():
            if problem := check(getattr(self, name)):
                raise self.error(f"{name}{problem}")
        if self.score is None and not (self.critique.strip() or self.spans or self.flags):
            raise self.error("a label needs a score, a critique, a span or a flag")

    def error(self, message: str, kind: type[StoreError] = StoreError) -> StoreError:
        """Return an error whose message starts with the place of this label."""
        return kind(f"{self.place}: {message}" if self.place else message)

    @property
    def document(self) -> UUID:
        """The id of the document."""
        return UUID(self.doc_id)


def _doc_id_problem(value: Any) -> str:
    if isinstance(value, str) and _DOC_ID.fullmatch(value):
        return ""
    return f": {value!r} is not a whole doc_id of 32 hexadecimal digits, as text"


def _by_problem(value: Any) -> str:
    is_name = isinstance(value, str) and value.strip() and value.isprintable()
    if is_name and len(value) <= MAX_REVIEWER_CHARS:
        return ""
    return f": {value!r} is not a name of 1 to {MAX_REVIEWER_CHARS} characters"


def _score_problem(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f": {value!r} is not a number"
    return "" if 0 <= value <= 1 else f": {value} is not between 0 and 1"


def _text_problem(value: Any) -> str:
    if not isinstance(value, str):
        return f": {value!r} is not a text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return f": {value!r} has half of a surrogate pair"
    return ""


def _flags_problem(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return f": {value!r} is not a list of texts"
    for number, flag in enumerate(value):
        if problem := _text_problem(flag):
            return f"[{number}]{problem}"
        if not flag.strip() or flag.splitlines() != [flag]:
            return f"[{number}]: {flag!r} is empty, or has several lines"
        if flag in value[:number]:
            return f"[{number}]: {flag!r} occurs twice"
    return ""


def _spans_problem(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return f": {value!r} is not a list of spans"
    for number, span in enumerate(value):
        problem = _span_problem(span) if isinstance(span, Span) else f": {span!r} is not a span"
        if problem:
            return f"[{number}]{problem}"
    return ""


def _span_problem(span: Span) -> str:
    for name in ("start", "end"):
        offset: object = getattr(span, name)
        if isinstance(offset, bool) or not isinstance(offset, int):
            return f".{name}: {offset!r} is not a whole number"
    if not 0 <= span.start < span.end:
        return f": {span.start}:{span.end} is empty or negative"
    if span.verdict not in VERDICTS:
        return f".verdict: {span.verdict!r}; valid: {', '.join(VERDICTS)}"
    for name in ("tag", "comment"):
        if problem := _text_problem(getattr(span, name)):
            return f".{name}{problem}"
    return "" if span.score is None else ".score: a span of a label has none"


_CHECKS = {
    "doc_id": _doc_id_problem,
    "by": _by_problem,
    "score": _score_problem,
    "critique": _text_problem,
    "spans": _spans_problem,
    "flags": _flags_problem,
}
