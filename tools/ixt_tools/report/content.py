"""What a report holds: plain records, so that it can be kept as JSON and rendered again."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from ixt_data.records import Span

MAX_SAMPLE_CHARS = 900
MAX_SAMPLE_LINES = 20


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many documents of a corpus have which score, in ten equal buckets of 0..1."""

    corpus: str
    critic: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Rows of cells as a person reads them; the first column is the row's name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    highlight: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A SQL statement and what it answered."""

    question: str
    sql: str
    answer: ReportTable


@dataclass(frozen=True, slots=True)
class MixPlanSummary:
    """One mix file and what it draws.

    Attributes:
        name: how the report calls the mix.
        yaml: the file's text.
        rows: per selection its name, documents, tokens, weight and epochs, for people.
        digest: of the plan.
    """

    name: str
    yaml: str
    rows: tuple[tuple[str, ...], ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Arm:
    """One train run of a comparison: accuracy after so many steps, and the last one."""

    name: str
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]
    final: float
    documents: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Loss:
    """Held-out loss, nats per token, of one score bucket under one feedback."""

    bucket: str
    feedback: str
    loss: float


@dataclass(frozen=True, slots=True)
class SampleSegment:
    """A stretch of a sample's text; `verdict` is empty where no span covers it."""

    text: str
    verdict: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A document as a reader sees it, with its critique."""

    corpus: str
    source: str
    doc_id: str
    score: float | None
    critique: str
    pieces: tuple[SampleSegment, ...]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows."""

    title: str
    snapshot: int
    documents: int
    seed: int
    seconds: float
    effect: str
    histograms: tuple[Histogram, ...]
    queries: tuple[Query, ...]
    mixes: tuple[MixPlanSummary, ...]
    arms: tuple[Arm, ...]
    losses: tuple[Loss, ...]
    loss_note: str
    samples: tuple[Sample, ...]
    facts: tuple[tuple[str, str], ...]
    repeat: tuple[str, ...] = field(default_factory=tuple)


def visible(text: str) -> str:
    """Hostile text made harmless to read: control and direction characters become U+FFFD."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if character not in "\n\t" and unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"}
        else character
        for character in text.replace("\r\n", "\n")
    )


def shown_length(text: str) -> int:
    """How many characters of a sample a reader gets to see."""
    lines = text.split("\n", MAX_SAMPLE_LINES)
    rest = len(lines[-1]) + 1 if len(lines) > MAX_SAMPLE_LINES else 0
    return min(MAX_SAMPLE_CHARS, len(text) - rest)


def pieces(text: str, spans: Iterable[Span]) -> tuple[SampleSegment, ...]:
    """Cut what is shown of a text at the borders of its spans.

    Spans out of order, overlapping or out of range are cut to what is left of them.
    """
    found: list[SampleSegment] = []
    at, end = 0, shown_length(text)
    for span in sorted(spans, key=lambda span: span.start):
        start, stop = max(span.start, at), min(span.end, end)
        if start >= stop:
            continue
        if start > at:
            found.append(SampleSegment(text[at:start]))
        found.append(SampleSegment(text[start:stop], span.verdict, span.tag))
        at = stop
    if at < end:
        found.append(SampleSegment(text[at:end]))
    return tuple(found)
