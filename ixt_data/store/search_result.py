"""The result of a search."""

from dataclasses import asdict, dataclass
from typing import Any

from ixt_data.search import Snippet


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One text that matches.

    Attributes:
        doc_id: the document, as text.
        corpus, source, source_id: of the document.
        field: `text`, `critique` or `thinking`.
        critic: name of the critic; None for the text of the document.
        rank: position among the hits, from 1.
        relevance: BM25; of a scan, a number below 1 that grows with the number of matches.
        snippet: excerpt with the most matches, and the position of each match in it.
    """

    doc_id: str
    corpus: str
    source: str
    source_id: str
    field: str
    critic: str | None
    rank: int
    relevance: float
    snippet: Snippet


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of a search.

    Attributes:
        words: the search.
        snapshot: version that was searched.
        total: number of texts that match; with a predicate, of the best 10,000 ones.
        hits: the best ones.
        scanned: texts that were read because no index has them.
        unsearched: texts that were not searched: no index has them, and they exceed the limit of
            a scan.
        seconds: time that the search took.
    """

    words: str
    snapshot: int
    total: int
    hits: tuple[SearchHit, ...]
    scanned: int
    unsearched: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)
