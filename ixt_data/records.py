"""The records that travel between the parts: document, critique, span, and their ids."""

import hashlib
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
    """The 16-byte id of a document: BLAKE2b of its UTF-8 text."""
    return encoded_id(text.encode())


def encoded_id(text: bytes) -> bytes:
    """`document_id` of a text that is encoded already."""
    return hashlib.blake2b(text, digest_size=ID_BYTES).digest()


def content_id(content: Any) -> str:
    """12 hex digits of BLAKE2b over the canonical JSON of `content`: ids of critics and rubrics."""
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=6).hexdigest()


def format_id(doc_id: bytes) -> str:
    """A doc_id as SQL and the command line show it: the text form of a UUID."""
    return str(uuid.UUID(bytes=doc_id))


def parse_id(text: str) -> bytes:
    """The doc_id that `text` names, with or without dashes.

    Raises:
        ValueError: `text` is not 32 hexadecimal digits.
    """
    return uuid.UUID(text).bytes


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.

    Attributes:
        doc_id: 16 bytes, see `document_id`.
        text: the whole text.
        source: where it is from: a field of the input, else the input file's name.
        source_id: the user's own id, else a place inside the input.
        metadata: the user's other fields, by column name.
    """

    doc_id: bytes
    text: str
    source: str = ""
    source_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the document that a critic judged.

    Attributes:
        start: first character offset.
        end: offset after the last character.
        verdict: `right`, `wrong`, or another word of the rubric; `chunk`, `turn` or `failed` where
            a part of the document was judged on its own.
        tag: a short complaint from the rubric's list, empty where there is none.
        comment: free text; the critique of a part.
        score: of a part, 0 to 1; None for a mere passage.
    """

    start: int
    end: int
    verdict: str
    tag: str = ""
    comment: str = ""
    score: float | None = None

    def to_json(self) -> list[Any]:
        """As shards hold it: `Span(*span)` reads it; the score only where there is one."""
        fields = [self.start, self.end, self.verdict, self.tag, self.comment]
        return fields if self.score is None else [*fields, self.score]


@dataclass(frozen=True, slots=True)
class Critique:
    """One critic's output on one document.

    Attributes:
        doc_id: the document, 16 bytes.
        status: `ok`, or the failure class; everything below may be empty unless `ok`.
        critique: the critique in words.
        score: 0 to 1, higher is better; None where there is none.
        scores: raw sub-scores by dimension, on the critic's own scales.
        spans: judged stretches, in document order.
        flags: short machine-readable marks.
        thinking: the critic's reasoning, None where it does not think aloud.
        n_thinking_tokens: length of `thinking` in the judge's tokens.
        expected: expected score under the judge's own distribution, 0 to 1.
        entropy: entropy of that distribution, in nats.
        error: what happened, for a failure.
        attempts: how often it was tried.
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


_JSON_TYPES = (bool, list, tuple, dict)


def as_text(value: Any) -> str:
    """A metadata value as text: strings as they are, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, _JSON_TYPES):
        return orjson.dumps(value, default=as_text, option=orjson.OPT_NON_STR_KEYS).decode()
    return str(value)


ProgressCallback = Callable[[int, int], None]
"""Called as work proceeds with two counts: what is done, and a total or a second count.

Bytes and documents for `ingest` and `adopt`; bytes checked and bytes in all for `verify`; samples
scanned and documents matched for exports; items done and items in all elsewhere.
"""
