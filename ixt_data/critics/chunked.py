"""Critics over parts of documents: each part is judged on its own, a document by all of its parts.

Parts are the chunks of a long document or the assistant's turns of a conversation. Any critic can
judge them. A document has one critique as always:

- its score, sub-scores and expected score are means over the parts that were judged, chunks by
  their characters, turns alike; `lowest` is the lowest score of a part, `chunks` or `turns` their
  number, and `coverage` the share that was judged, where that is not all;
- its words are those of the part whose score is nearest to the mean;
- each part is a span: its offsets, `chunk` or `turn`, its critique as the comment, and its score.
  One that failed is a span `failed` with the reason, and the document is flagged `failed_parts`;
  where less than half could be judged, the document has failed.

A killed worker loses the parts of those documents whose parts have not all been judged.
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
from ixt_data.records import ID_BYTES, OK, Critique, Document, Span

VERSION = 1
"""Part of the critic's id: raised when documents are divided, or shown, in another way."""

LEAST = 0.5
"""Share of a document that must have been judged."""

SLACK = 5
"""A chunk ends at a line or a word, if there is one in its last fifth."""

FAILED, FAILED_PARTS, NOT_LOCATED = "failed", "failed_parts", "quote_not_found"

Locate = Callable[[int, int], tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How documents are divided.

    Attributes:
        by: `chunk`, `turn`, or `conversation`: conversations whole, but shown readably.
        chars: of a chunk, at most.
        tokens: of a chunk, on the document's average, by the judge's tokenizer.
    """

    by: Literal["chunk", "turn", "conversation"]
    chars: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        sizes = [size for size in (self.chars, self.tokens) if size is not None]
        if len(sizes) != (self.by == "chunk") or any(size < 1 for size in sizes):
            raise CriticError("a chunk has a size of 1 or more, in characters or in tokens")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is judged on its own.

    Attributes:
        text: what the judge reads.
        place: offsets in the document for offsets in `text`, None if there are none.
        span: offsets in the document; None: this is the document itself.
        weight: in means.
    """

    text: str
    place: Locate
    span: tuple[int, int] | None = None
    weight: float = 1.0


_Judged = Sequence[tuple[float, Critique]]
"""Critiques of parts, with the weights of the parts."""


@dataclass(slots=True)
class _ChunkedDocument:
    document: Document
    parts: list[Chunk]
    critiques: dict[int, Critique] = field(default_factory=dict)


class ChunkedCritic:
    """A critic that judges parts by another critic.

    Args:
        inner: who judges them.
        parts: how documents are divided.

    Raises:
        CriticError: the critic has no tokenizer, and chunks are to be counted in tokens.
    """

    def __init__(self, inner: Critic, parts: ChunkOptions) -> None:
        self.inner, self.parts = inner, parts
        self.name = inner.name
        if parts.tokens is not None and not callable(getattr(inner, "count_tokens", None)):
            raise CriticError(f"the critic {inner.name} counts no tokens: give --chunk-chars")

    def __getattr__(self, name: str) -> Any:
        # What else a critic may have: spent, statuses, journaled, connect, close.
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def config(self) -> dict[str, Any]:
        """See `Critic.config`."""
        return {**self.inner.config(), "parts": {**asdict(self.parts), "version": VERSION}}

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """See `Critic.run`: a document as soon as all of its parts are judged."""
        begun: dict[bytes, tuple[_ChunkedDocument, int]] = {}

        def parts() -> Iterator[Document]:
            for document in documents:
                one = _ChunkedDocument(document, self._divide(document))
                for number, part in enumerate(one.parts):
                    doc_id = _part_id(document.doc_id, number)
                    begun[doc_id] = one, number
                    yield replace(document, doc_id=doc_id, text=part.text)

        answers = self.inner.run(parts())
        try:
            for critique in answers:
                if critique.doc_id not in begun:
                    raise CriticError(f"critic {self.name} answered for a part it was not given")
                one, number = begun.pop(critique.doc_id)
                one.critiques[number] = critique
                if len(one.critiques) == len(one.parts):
                    yield self._whole(one)
        finally:
            if callable(close := getattr(answers, "close", None)):
                close()

    def _divide(self, document: Document) -> list[Chunk]:
        if self.parts.by == "chunk":
            return self._chunks(document.text)
        conversation = parse_conversation(document.text)
        if conversation is None:
            return [Chunk(document.text, lambda start, end: (start, end))]
        mark = document.doc_id.hex()[-8:]
        if self.parts.by == "conversation":
            whole = build_excerpt(conversation, mark)
            return [Chunk(whole.text, whole.stored)]
        return [
            _turn(conversation, build_excerpt(conversation, mark, turn), turn)
            for turn in conversation.turns
        ]

    def _chunks(self, text: str) -> list[Chunk]:
        size = self.parts.chars or self._chars_of(text)
        found = [(a, b) for a, b in cut(text, size) if not text[a:b].isspace()]
        return [Chunk(text[a:b], _after(a), (a, b), b - a) for a, b in found or [(0, len(text))]]

    def _chars_of(self, text: str) -> int:
        """Characters of a chunk of so many tokens, on the average of this text."""
        size = self.parts.tokens or 1
        # No tokenizer makes more tokens than bytes.
        if len(text.encode()) <= size:
            return max(1, len(text))
        tokens: int = self.inner.count_tokens(text)  # type: ignore[attr-defined]
        return max(1, len(text) * size // max(1, tokens))

    def _whole(self, one: _ChunkedDocument) -> Critique:
        """The critique of a document from those of its parts."""
        pairs = [(part, one.critiques[i]) for i, part in enumerate(one.parts)]
        doc_id, by = one.document.doc_id, self.parts.by
        spans, lost = _spans(pairs, by)
        flags = {flag for _, critique in pairs for flag in critique.flags}
        flags |= {NOT_LOCATED} if lost else set()
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
        if share < LEAST:
            first = f"the first: {bad[0].error or bad[0].status}"
            error = f"{len(bad)} of {len(pairs)} {by}s failed; {first}"
            return Critique(doc_id, bad[0].status, error=error, **common)
        score = _mean(good, lambda critique: critique.score)
        tokens = [c.n_thinking_tokens for _, c in pairs if c.n_thinking_tokens is not None]
        return Critique(
            doc_id,
            critique=_nearest([critique for _, critique in good], score).critique,
            score=score,
            scores=_scores(good, by, len(pairs), share),
            spans=spans,
            thinking=_joined([critique.thinking for _, critique in pairs], by),
            n_thinking_tokens=sum(tokens) if tokens else None,
            expected=_mean(good, lambda critique: critique.expected),
            entropy=_mean(good, lambda critique: critique.entropy),
            **common,
        )


def _scores(good: _Judged, by: str, parts: int, share: float) -> dict[str, float]:
    def named(name: str) -> Callable[[Critique], float | None]:
        return lambda critique: critique.scores.get(name)

    names = dict.fromkeys(name for _, critique in good for name in critique.scores)
    scores = {name: _mean(good, named(name)) for name in names}
    # A part may have been read in excerpts.
    coverage = share * (_mean(good, lambda critique: critique.scores.get("coverage", 1.0)) or 0.0)
    lowest = [critique.score for _, critique in good if critique.score is not None]
    scores |= {f"{by}s": float(parts), "lowest": min(lowest, default=None)}
    scores["coverage"] = None if coverage == 1 else coverage
    return {name: value for name, value in scores.items() if value is not None}


def cut(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Offsets of chunks of at most `size` characters: all of the text, in order."""
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            least = end - size // SLACK
            found = max(text.rfind("\n", least, end), 0) or max(text.rfind(" ", least, end), 0)
            end = found + 1 if found else end
        yield start, end
        start = end


def _after(offset: int) -> Locate:
    return lambda start, end: (start + offset, end + offset)


def _turn(conversation: Conversation, view: ConversationExcerpt, turn: int) -> Chunk:
    return Chunk(view.text, view.stored, conversation.span(turn))


def _part_id(doc_id: bytes, number: int) -> bytes:
    return hashlib.blake2b(doc_id + number.to_bytes(8, "little"), digest_size=ID_BYTES).digest()


def _spans(pairs: Iterable[tuple[Chunk, Critique]], by: str) -> tuple[tuple[Span, ...], bool]:
    """The parts, and the passages in them, the outer ones first; and whether one has no place."""
    spans, lost = [], False
    for part, critique in pairs:
        if part.span is not None and critique.status == OK:
            spans.append(Span(*part.span, by, "", critique.critique, critique.score))
        elif part.span is not None:
            spans.append(Span(*part.span, FAILED, "", f"{critique.status}: {critique.error}"))
        for span in critique.spans:
            place = part.place(span.start, span.end)
            if place is None:
                lost = True
            else:
                spans.append(replace(span, start=place[0], end=place[1]))
    return tuple(sorted(spans, key=lambda span: (span.start, -span.end))), lost


def _nearest(critiques: Sequence[Critique], score: float | None) -> Critique:
    scored = [critique for critique in critiques if critique.score is not None]
    if score is None or not scored:
        return critiques[0]
    return min(scored, key=lambda critique: abs((critique.score or 0.0) - score))


def _mean(judged: _Judged, value: Callable[[Critique], float | None]) -> float | None:
    """The weighted mean of what there is, None if there is nothing."""
    known = [(weight, found) for weight, one in judged if (found := value(one)) is not None]
    if not known:
        return None
    return fmean([found for _, found in known], [weight for weight, _ in known])


def _joined(thoughts: Sequence[str | None], by: str) -> str | None:
    if len(thoughts) == 1:
        return thoughts[0]
    parts = [f"=== {by} {i} ===\n{said}" for i, said in enumerate(thoughts, 1) if said]
    return "\n\n".join(parts) or None
