"""Records that the packages exchange: document, critique, span, and their ids."""

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Stage = Literal["pretrain", "midtrain", "sft"]
STAGES: tuple[Stage, ...] = ("pretrain", "midtrain", "sft")

OK = "ok"
ID_BYTES = 16


def document_id(text: str) -> bytes:
    """Return the 16-byte id of a document: BLAKE2b of its UTF-8 text."""
    return encoded_id(text.encode())


def encoded_id(text: bytes) -> bytes:
    """Return `document_id` of a text that is already encoded as UTF-8."""
    return hashlib.blake2b(text, digest_size=ID_BYTES).digest()


def content_id(content: Any) -> str:
    """Return 12 hex digits of BLAKE2b over canonical JSON: the ids of critics and rubrics."""
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=6).hexdigest()


def format_id(doc_id: bytes) -> str:
    """Format a doc_id as SQL and the command line show it: the text form of a UUID."""
    return str(uuid.UUID(bytes=doc_id))


def parse_id(text: str) -> bytes:
    """Parse a doc_id from 32 hexadecimal digits, with or without dashes.

    Raises:
        ValueError: `text` is not 32 hexadecimal digits.
    """
    return uuid.UUID(text).bytes


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.

    Attributes:
        doc_id: 16 bytes, see `document_id`.
        text: the complete text.
        source: origin of the document: a field of the input, else the name of the input file.
        source_id: the user's own id, else a position in the input.
        metadata: the user's other fields, by column name.

    Examples:
        >>> from ixt_data.records import document_id
        >>> document = Document(document_id("A fox."), "A fox.", source="web", source_id="a-1")
        >>> len(document.doc_id), document.source_id
        (16, 'a-1')
    """

    doc_id: bytes
    text: str
    source: str = ""
    source_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


VERDICTS = ("right", "wrong")
"""Verdicts on a passage of a text."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the document that a critic judged.

    Attributes:
        start: offset of the first character, in Unicode code points of the text.
        end: offset after the last character.
        verdict: `right`, `wrong`, or another verdict of the rubric; `chunk`, `turn` or `failed` if
            the critic judged a part of the document separately.
        tag: a short complaint from the rubric's list, or an empty string.
        comment: free text; for a part of the document, its critique.
        score: 0 to 1 for a part that was judged separately; None for a passage.

    Examples:
        >>> Span(0, 5, "wrong", tag="sum").to_json()
        [0, 5, 'wrong', 'sum', '']
    """

    start: int
    end: int
    verdict: str
    tag: str = ""
    comment: str = ""
    score: float | None = None

    def to_json(self) -> list[Any]:
        """Return the list that shards store, which `Span(*span)` parses; omit a score of None."""
        fields = [self.start, self.end, self.verdict, self.tag, self.comment]
        return fields if self.score is None else [*fields, self.score]


@dataclass(frozen=True, slots=True)
class Critique:
    """One critic's output on one document.

    Attributes:
        doc_id: id of the document, 16 bytes.
        status: `ok`, or the kind of failure; the fields below may be empty unless it is `ok`.
        critique: the critique as text.
        score: 0 to 1, higher is better; None if the critic gives no score.
        scores: raw sub-scores by dimension, on the critic's own scales.
        spans: judged stretches, in document order.
        flags: short machine-readable labels.
        thinking: the critic's reasoning trace; None if it emits none.
        n_thinking_tokens: length of `thinking` in the judge's tokens.
        expected: expected score under the judge's own distribution, 0 to 1.
        entropy: entropy of that distribution, in nats.
        error: message of a failure.
        attempts: number of attempts.

    Examples:
        >>> Critique(b"0" * 16, critique="Clear.", score=0.9).status
        'ok'
    """

    doc_id: bytes
    status: str = OK
    critique: str = ""
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    flags: tuple[str, ...] = ()
    thinking: str | None = None
    n_thinking_tokens: int | None = None
    expected: float | None = None
    entropy: float | None = None
    error: str | None = None
    attempts: int = 1


_JSON_TYPES = (bool, list, dict)


def as_text(value: Any) -> str:
    """Convert a metadata value to text: strings are unchanged, lists and objects become JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, tuple):
        # orjson calls its `default` for a named tuple, again and again.
        value = list(value)
    if isinstance(value, _JSON_TYPES):
        try:
            return orjson.dumps(value, default=as_text, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:
            # orjson writes no integer of more than 64 bits.
            return json.dumps(value, default=as_text, ensure_ascii=False)
    return str(value)


ProgressCallback = Callable[[int, int], None]
"""Function that is called with two counts while work proceeds.

`ingest` and `adopt`: bytes read, and new documents. `verify`: bytes checked, and all bytes.
Exports: samples scanned, and documents matched. Elsewhere: items completed, and all items.
"""
