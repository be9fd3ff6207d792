"""What a report shows of a snapshot: scores, failures, complaints, and documents to read."""

from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any

from ixt_data.records import Span, format_id
from ixt_data.store import Store
from ixt_tools.report.content import Histogram, ReportTable, Sample, pieces, shown_length

JOINED = "documents d JOIN critiques c USING (doc_id) WHERE d.corpus = ? AND c.critic = ?"
HISTOGRAM = f"""SELECT least(9, floor(score * 10 + 1e-9))::INTEGER AS tenth, count(*) AS documents
FROM {JOINED} AND score IS NOT NULL GROUP BY 1"""
SHOWN = """d.doc_id, d.corpus, d.source, d.source_id, d.shard, d.row, c.critic,
  c.shard AS critique_shard, c.row AS critique_row, c.score, c.critique"""
# The documents nearest to a rank in the order of the scores; short ones, so that they can be read.
NEAREST = f"""SELECT {SHOWN} FROM {JOINED} AND c.score IS NOT NULL AND d.n_chars BETWEEN ? AND ?
ORDER BY abs(percent_rank() OVER (ORDER BY c.score, d.doc_id) - ?), d.doc_id LIMIT 1"""
# One of each fifth of the score, the same for the same snapshot: the hash of the id is the dice.
EXAMPLES = f"""SELECT {SHOWN} FROM {JOINED} AND c.score IS NOT NULL AND c.status = 'ok'
QUALIFY row_number() OVER (PARTITION BY least(4, floor(c.score * 5 + 1e-9))
  ORDER BY (d.n_chars BETWEEN 200 AND 4000) DESC, hash(d.doc_id)) = 1
ORDER BY c.score DESC, d.doc_id"""
SOURCES = f"""SELECT d.source, count(*) AS documents, avg(c.score) AS mean,
  quantile_cont(c.score, [0.1, 0.5, 0.9]) AS quantiles, sum(d.n_chars)::BIGINT AS characters
FROM {JOINED} GROUP BY 1 ORDER BY documents DESC, 1 LIMIT ?"""
STATUSES = f"SELECT c.status, count(*) AS documents FROM {JOINED} GROUP BY 1 ORDER BY 2 DESC, 1"
FLAGS = f"""SELECT flag, count(*) AS documents, avg(score) AS mean
FROM (SELECT unnest(c.flags) AS flag, c.score FROM {JOINED})
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"""
MOST = 12
"""Rows of a table at most; a report is to be read."""


class SnapshotQueries:
    """Questions to one snapshot, by one catalog; use it in a `with`."""

    def __init__(self, store: Store, at: int | str | None) -> None:
        self.store, self.snapshot = store, store.snapshot(at)
        self._catalog = store.catalog(self.snapshot.version)
        # Several samples come from one shard, and a shard is unpacked as a whole.
        self._column = lru_cache(maxsize=4)(self._read_column)

    def __enter__(self) -> "SnapshotQueries":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._catalog.close()

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows of a statement over the views."""
        table = self._catalog.arrow(sql, parameters)
        return [dict(row) for row in table.to_pylist()]

    def histogram(self, corpus: str, critic: str) -> Histogram:
        """Documents of a corpus per tenth of a critic's score."""
        counts = {r["tenth"]: r["documents"] for r in self.rows(HISTOGRAM, corpus, critic)}
        return Histogram(corpus, critic, tuple(counts.get(tenth, 0) for tenth in range(10)))

    def at_rank(
        self, corpus: str, critic: str, rank: float, fewest: int, most: int
    ) -> Sample | None:
        """The document nearest to a rank (0 worst, 1 best) among those of some lengths."""
        found = self.rows(NEAREST, corpus, critic, fewest, most, rank)
        return self._sample(found[0]) if found else None

    def examples(self, corpus: str, critic: str) -> tuple[Sample, ...]:
        """A document from each fifth of the score that has any, best first."""
        return tuple(map(self._sample, self.rows(EXAMPLES, corpus, critic)))

    def sources(self, corpus: str, critic: str) -> ReportTable:
        """The largest sources with their scores."""
        columns = ("source", "documents", "mean score", "10%", "median", "90%", "characters")
        rows = [
            (
                row["source"] or "–",
                f"{row['documents']:,}",
                _score(row["mean"]),
                *map(_score, row["quantiles"] or [None] * 3),
                f"{int(row['characters']):,}",
            )
            for row in self.rows(SOURCES, corpus, critic, MOST)
        ]
        note = f"The {MOST} largest sources." if len(rows) == MOST else ""
        return ReportTable("Scores by source", columns, tuple(rows), note)

    def statuses(self, corpus: str, critic: str) -> ReportTable:
        """Documents by status; those that the critic never saw are a row of their own."""
        rows = [(r["status"], r["documents"]) for r in self.rows(STATUSES, corpus, critic)]
        left = self.snapshot.corpora[corpus].documents - sum(n for _, n in rows)
        rows += [("not critiqued", left)] if left > 0 else []
        whole = sum(n for _, n in rows) or 1
        shown = tuple((name, f"{n:,}", f"{n / whole:.1%}") for name, n in rows)
        return ReportTable("Coverage", ("status", "documents", "share"), shown)

    def complaints(self, corpus: str, critic: str) -> ReportTable | None:
        """What the critic flags most, None if it flags nothing."""
        rows = tuple(
            (row["flag"], f"{row['documents']:,}", _score(row["mean"]))
            for row in self.rows(FLAGS, corpus, critic, MOST)
        )
        title, columns = "Most frequent complaints", ("flag", "documents", "mean score")
        return ReportTable(title, columns, rows) if rows else None

    def _sample(self, row: dict[str, Any]) -> Sample:
        text = self._column(row["shard"], "text")[row["row"]]
        spans = self._column(row["critique_shard"], "spans")[row["critique_row"]]
        doc_id = row["doc_id"]
        return Sample(
            corpus=row["corpus"],
            source=row["source_id"] or row["source"],
            # Arrow gives the bytes or a UUID, depending on its version.
            doc_id=format_id(doc_id) if isinstance(doc_id, bytes) else str(doc_id),
            score=row["score"],
            critique=row["critique"] or "",
            pieces=pieces(text, [Span(*span) for span in spans]),
            cut=len(text) > shown_length(text),
        )

    def _read_column(self, path: str, name: str) -> Sequence[Any]:
        return self.store.shard(self.snapshot.shards_by_path[path]).column(name)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
