"""The content of a report: plain records, which JSON can store."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from ixt_data.records import Span

MAX_SAMPLE_CHARS = 900
MAX_SAMPLE_LINES = 20


@dataclass(frozen=True, slots=True)
class Histogram:
    """Documents of a corpus by score to the nearest tenth, from 0 to 1."""

    corpus: str
    critic: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Rows of formatted cells; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    highlight: str = ""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """A SQL query and its result."""

    question: str
    sql: str
    result: ReportTable


@dataclass(frozen=True, slots=True)
class MixPlanSummary:
    """One mix file and its plan.

    Attributes:
        name: name of the mix in the report.
        yaml: text of the file.
        rows: name, documents, tokens, weight and epochs of each selection, formatted.
        documents: number of different documents.
        digest: digest of the plan.
    """

    name: str
    yaml: str
    rows: tuple[tuple[str, ...], ...]
    documents: int
    digest: str


@dataclass(frozen=True, slots=True)
class Arm:
    """One train run of a comparison: accuracy by step, and its last value."""

    name: str
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]
    final: float
    documents: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Loss:
    """Held-out loss in nats per token, of one score bucket under one feedback."""

    bucket: str
    feedback: str
    loss: float


@dataclass(frozen=True, slots=True)
class SampleSegment:
    """A segment of a sample's text; `verdict` is empty outside spans."""

    text: str
    verdict: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """An excerpt of a document, with its critique."""

    corpus: str
    source: str
    doc_id: str
    score: float | None
    critique: str
    segments: tuple[SampleSegment, ...]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The content of the page."""

    title: str
    snapshot: int
    documents: int
    seed: int
    seconds: float
    effect: str
    histograms: tuple[Histogram, ...]
    queries: tuple[ReportQuery, ...]
    mixes: tuple[MixPlanSummary, ...]
    arms: tuple[Arm, ...]
    losses: tuple[Loss, ...]
    loss_note: str
    samples: tuple[Sample, ...]
    facts: tuple[tuple[str, str], ...]
    repeat: tuple[str, ...] = field(default_factory=tuple)


def replace_hidden(text: str) -> str:
    """Return a text with U+FFFD for each control and direction character."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if character not in "\n\t" and unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"}
        else character
        for character in text.replace("\r\n", "\n")
    )


def shown_length(text: str) -> int:
    """Return the number of characters of a text that the report shows."""
    lines = text.split("\n", MAX_SAMPLE_LINES)
    rest_chars = len(lines[-1]) + 1 if len(lines) > MAX_SAMPLE_LINES else 0
    return min(MAX_SAMPLE_CHARS, len(text) - rest_chars)


def sample_segments(text: str, spans: Iterable[Span]) -> tuple[SampleSegment, ...]:
    """Split the shown part of a text at the borders of its spans.

    Spans that overlap an earlier one or end outside the shown part are clipped.
    """
    segments: list[SampleSegment] = []
    at, end = 0, shown_length(text)
    for span in sorted(spans, key=lambda span: span.start):
        start, stop = max(span.start, at), min(span.end, end)
        if start >= stop:
            continue
        if start > at:
            segments.append(SampleSegment(text[at:start]))
        segments.append(SampleSegment(text[start:stop], span.verdict, span.tag))
        at = stop
    if at < end:
        segments.append(SampleSegment(text[at:end]))
    return tuple(segments)
