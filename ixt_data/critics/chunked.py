"""Critics over parts of documents: each part is judged separately, then the critiques are combined.

Parts are the chunks of a long document or the assistant's turns of a conversation. Any critic can
judge them. A document still has one critique:

- Its score, sub-scores and expected score are means over the judged parts: chunks weighted by their
  characters, turns equally. `lowest` is the lowest score of a part, `chunks` or `turns` their
  number. `coverage` is the judged share, where it is below 1.
- Its text is the critique of the part with the score closest to the mean.
- Each part is a span: its offsets, `chunk` or `turn`, its critique as the comment, and its score.
  A failed part is a span `failed` with the reason, and the document has the flag `failed_parts`.
  Where less than half was judged, the document has failed.

A killed worker loses the parts of those documents that still miss some.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any, Literal

from ixt_data.conversation import (
    Conversation,
    ConversationExcerpt,
    build_excerpt,
    parse_conversation,
)
from ixt_data.critics.base import Critic
from ixt_data.errors import CriticError
from ixt_data.records import ID_BYTES, OK, VERDICTS, Critique, Document, Span

VERSION = 1
"""Part of the critic's id; raise it when documents are divided or shown differently."""

MIN_JUDGED_SHARE = 0.5
"""Share of a document that must be judged; below it, the document has failed."""

BREAK_FRACTION = 5
"""A chunk ends at a line break or a space, if one is in its last fifth."""

FAILED, FAILED_PARTS, NOT_LOCATED = "failed", "failed_parts", "quote_not_found"

OffsetMapping = Callable[[int, int], tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """Division of documents into parts.

    Attributes:
        by: `chunk`; `turn`; or `conversation` for one part per conversation, in a readable form.
        chars: maximum of characters per chunk.
        tokens: tokens per chunk, as the document's average, by the judge's tokenizer.

    Raises:
        CriticError: a chunk has no size or two, or the size is below 1.
    """

    by: Literal["chunk", "turn", "conversation"]
    chars: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        sizes = [size for size in (self.chars, self.tokens) if size is not None]
        if len(sizes) != (self.by == "chunk") or any(size < 1 for size in sizes):
            raise CriticError(
                f"by={self.by!r} with chars={self.chars} and tokens={self.tokens}: a chunk needs "
                "one size of 1 or more, in characters or tokens; turns and conversations need none"
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a document.

    Attributes:
        text: the text for the judge.
        to_document: maps offsets in `text` to offsets in the document, None where there are none.
        span: offsets in the document; None if the part is the whole document.
        weight: in means.
    """

    text: str
    to_document: OffsetMapping
    span: tuple[int, int] | None = None
    weight: float = 1.0


_WeightedCritiques = Sequence[tuple[float, Critique]]
"""Critiques of parts with the weights of the parts."""


@dataclass(slots=True)
class _ChunkedDocument:
    document: Document
    parts: list[Chunk]
    critiques: dict[int, Critique] = field(default_factory=dict)


class ChunkedCritic:
    """A critic that judges parts of documents with another critic.

    Args:
        inner: judges the parts.
        parts: division of documents.

    Raises:
        CriticError: chunks are counted in tokens, and the inner critic cannot count tokens.
    """

    def __init__(self, inner: Critic, parts: ChunkOptions) -> None:
        self.inner, self.parts = inner, parts
        self.name = inner.name
        if parts.tokens is not None and not callable(getattr(inner, "count_tokens", None)):
            raise CriticError(f"the critic {inner.name} cannot count tokens: give --chunk-chars")

    def __getattr__(self, name: str) -> Any:
        # Optional members of a critic: usage, statuses, journaled, connect, close.
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def config(self) -> dict[str, Any]:
        """See `Critic.config`."""
        return {**self.inner.config(), "parts": {**asdict(self.parts), "version": VERSION}}

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield the critique of a document once all of its parts are judged; see `Critic.run`."""
        return judge_parts(documents, self._divide, self.inner.run, self.parts.by)

    def _divide(self, document: Document) -> list[Chunk]:
        if self.parts.by == "chunk":
            return self._chunks(document.text)
        conversation = parse_conversation(document.text)
        if conversation is None:
            return [Chunk(document.text, lambda start, end: (start, end))]
        mark = document.doc_id.hex()[-8:]
        if self.parts.by == "conversation":
            view = build_excerpt(conversation, mark)
            return [Chunk(view.text, view.stored)]
        return [
            _turn_chunk(conversation, build_excerpt(conversation, mark, turn), turn)
            for turn in conversation.turns
        ]

    def _chunks(self, text: str) -> list[Chunk]:
        return chunks_of(text, self.parts.chars or self._chunk_chars(text))

    def _chunk_chars(self, text: str) -> int:
        """Return the characters of a chunk of `tokens` tokens, by this text's average."""
        size = self.parts.tokens or 1
        # No tokenizer makes more tokens than bytes.
        if len(text.encode()) <= size:
            return max(1, len(text))
        tokens: int = self.inner.count_tokens(text)  # type: ignore[attr-defined]
        return max(1, len(text) * size // max(1, tokens))


def judge_parts(
    documents: Iterable[Document],
    divide: Callable[[Document], list[Chunk] | None],
    judge: Callable[[Iterable[Document]], Iterator[Critique]],
    by: str,
    flag: str | None = None,
) -> Iterator[Critique]:
    """Yield the critique of a document once all of its parts are judged.

    Args:
        documents: read lazily.
        divide: returns the parts of a document; None leaves it whole, as any other document.
        judge: see `Critic.run`; it gets the parts as documents.
        by: name of a part.
        flag: added to the critique of each document with parts.
    """
    open_chunks: dict[bytes, tuple[_ChunkedDocument, int]] = {}

    def parts() -> Iterator[Document]:
        for document in documents:
            if (divided := divide(document)) is None:
                yield document
                continue
            one = _ChunkedDocument(document, divided)
            for number, part in enumerate(one.parts):
                doc_id = _chunk_id(document.doc_id, number)
                open_chunks[doc_id] = one, number
                yield replace(document, doc_id=doc_id, text=part.text)

    results = judge(parts())
    try:
        for critique in results:
            if critique.doc_id not in open_chunks:
                yield critique
                continue
            one, number = open_chunks.pop(critique.doc_id)
            one.critiques[number] = critique
            if len(one.critiques) == len(one.parts):
                yield _combine(one, by, flag)
    finally:
        if callable(close := getattr(results, "close", None)):
            close()


def _combine(one: _ChunkedDocument, by: str, flag: str | None) -> Critique:
    """Return the critique of a document from the critiques of its parts."""
    pairs = [(part, one.critiques[i]) for i, part in enumerate(one.parts)]
    doc_id = one.document.doc_id
    spans, has_lost_quotes = _collect_spans(pairs, by)
    flags = {flag for _, critique in pairs for flag in critique.flags}
    flags |= {NOT_LOCATED} if has_lost_quotes else set()
    flags |= {flag} if flag is not None else set()
    if one.parts[0].span is None:
        return replace(one.critiques[0], doc_id=doc_id, spans=spans, flags=tuple(sorted(flags)))
    good = [(part.weight, critique) for part, critique in pairs if critique.status == OK]
    bad = [critique for _, critique in pairs if critique.status != OK]
    flags |= {FAILED_PARTS} if bad else set()
    share = sum(weight for weight, _ in good) / sum(part.weight for part in one.parts)
    common: dict[str, Any] = {
        "flags": tuple(sorted(flags)),
        "attempts": max(critique.attempts for _, critique in pairs),
    }
    if share < MIN_JUDGED_SHARE:
        first = f"the first: {bad[0].error or bad[0].status}"
        error = f"{len(bad)} of {len(pairs)} {by}s failed; {first}"
        return Critique(doc_id, bad[0].status, error=error, **common)
    score = _mean(good, lambda critique: critique.score)
    tokens = [c.n_thinking_tokens for _, c in pairs if c.n_thinking_tokens is not None]
    return Critique(
        doc_id,
        critique=_closest_to([critique for _, critique in good], score).critique,
        score=score,
        scores=_scores(good, by, len(pairs), share),
        spans=spans,
        thinking=_join_thinking([critique.thinking for _, critique in pairs], by),
        n_thinking_tokens=sum(tokens) if tokens else None,
        expected=_mean(good, lambda critique: critique.expected),
        entropy=_mean(good, lambda critique: critique.entropy),
        **common,
    )


def _scores(good: _WeightedCritiques, by: str, parts: int, share: float) -> dict[str, float]:
    def named(name: str) -> Callable[[Critique], float | None]:
        return lambda critique: critique.scores.get(name)

    names = dict.fromkeys(name for _, critique in good for name in critique.scores)
    scores = {name: _mean(good, named(name)) for name in names}
    # The judge may have read only excerpts of a part.
    read = share * (_mean(good, lambda critique: critique.scores.get("coverage", 1.0)) or 0.0)
    lowest = [critique.score for _, critique in good if critique.score is not None]
    scores |= {f"{by}s": float(parts), "lowest": min(lowest, default=None)}
    scores["coverage"] = None if read == 1 else read
    return {name: value for name, value in scores.items() if value is not None}


def chunks_of(text: str, size: int) -> list[Chunk]:
    """Return chunks of at most `size` characters; those of white space only are left out."""
    ranges = [(a, b) for a, b in chunk_offsets(text, size) if not text[a:b].isspace()]
    ranges = ranges or [(0, len(text))]
    return [Chunk(text[a:b], _shift_by(a), (a, b), b - a) for a, b in ranges]


def chunk_offsets(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield the offsets of chunks of at most `size` characters; together they are the text."""
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            low = end - size // BREAK_FRACTION
            position = max(text.rfind("\n", low, end), 0) or max(text.rfind(" ", low, end), 0)
            end = position + 1 if position else end
        yield start, end
        start = end


def _shift_by(offset: int) -> OffsetMapping:
    return lambda start, end: (start + offset, end + offset)


def _turn_chunk(conversation: Conversation, view: ConversationExcerpt, turn: int) -> Chunk:
    return Chunk(view.text, view.stored, conversation.span(turn))


def _chunk_id(doc_id: bytes, number: int) -> bytes:
    return hashlib.blake2b(doc_id + number.to_bytes(8, "little"), digest_size=ID_BYTES).digest()


def _collect_spans(
    pairs: Iterable[tuple[Chunk, Critique]], by: str
) -> tuple[tuple[Span, ...], bool]:
    """Return the spans of parts and passages, outer ones first, and whether a quote was lost."""
    spans, has_lost_quotes = [], False
    for part, critique in pairs:
        if part.span is not None and critique.status == OK:
            spans.append(Span(*part.span, by, "", critique.critique, critique.score))
        elif part.span is not None:
            spans.append(Span(*part.span, FAILED, "", f"{critique.status}: {critique.error}"))
        for span in critique.spans:
            offsets = part.to_document(span.start, span.end)
            if offsets is None:
                # The range of a part of a view has no counterpart in the document.
                has_lost_quotes |= span.verdict in VERDICTS
            else:
                spans.append(replace(span, start=offsets[0], end=offsets[1]))
    return tuple(sorted(spans, key=lambda span: (span.start, -span.end))), has_lost_quotes


def _closest_to(critiques: Sequence[Critique], score: float | None) -> Critique:
    scored = [critique for critique in critiques if critique.score is not None]
    if score is None or not scored:
        return critiques[0]
    return min(scored, key=lambda critique: abs((critique.score or 0.0) - score))


def _mean(critiques: _WeightedCritiques, value: Callable[[Critique], float | None]) -> float | None:
    """Return the weighted mean of the known values, None if no value is known."""
    known = [(weight, number) for weight, one in critiques if (number := value(one)) is not None]
    if not known:
        return None
    return fmean([number for _, number in known], [weight for weight, _ in known])


def _join_thinking(thoughts: Sequence[str | None], by: str) -> str | None:
    if len(thoughts) == 1:
        return thoughts[0]
    parts = [f"=== {by} {i} ===\n{thought}" for i, thought in enumerate(thoughts, 1) if thought]
    return "\n\n".join(parts) or None
