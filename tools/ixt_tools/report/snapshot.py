"""Queries of a report: scores, statuses, complaints, and example documents."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ixt_data.records import Span, format_id
from ixt_data.sql import SCORE_STEP, SCORE_STEPS
from ixt_data.store import Store
from ixt_tools.report.content import Histogram, ReportTable, Sample, sample_segments, shown_length

JOINED = "documents d JOIN critiques c USING (doc_id) WHERE d.corpus = ? AND c.critic = ?"
HISTOGRAM = f"""SELECT {SCORE_STEP} AS step, count(*) AS documents
FROM {JOINED} AND score IS NOT NULL GROUP BY 1"""
SHOWN = """d.doc_id, d.corpus, d.source, d.source_id, d.shard, d.row, c.critic,
  c.shard AS critique_shard, c.row AS critique_row, c.score, c.critique"""
# The document nearest to a rank in the order of the scores, within limits of length.
NEAREST = f"""SELECT {SHOWN} FROM {JOINED} AND c.score IS NOT NULL AND d.n_chars BETWEEN ? AND ?
ORDER BY abs(percent_rank() OVER (ORDER BY c.score, d.doc_id) - ?), d.doc_id LIMIT 1"""
# One document of each fifth of the score; the hash of the id makes the choice repeatable.
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
MAX_TABLE_ROWS = 12


class SnapshotQueries:
    """Queries of one snapshot over one catalog; use it in a `with` statement."""

    def __init__(self, store: Store, at: int | str | None) -> None:
        self.store, self.snapshot = store, store.snapshot(at)
        self._catalog = store.catalog(self.snapshot.version)
        # Several samples come from one shard, and a shard is decompressed completely.
        self._column = lru_cache(maxsize=4)(self._read_column)

    def __enter__(self) -> "SnapshotQueries":
        return self

    def __exit__(self, *error: object) -> None:
        self._catalog.close()

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of a query over the views."""
        table = self._catalog.arrow(sql, parameters)
        return [dict(row) for row in table.to_pylist()]

    def histogram(self, corpus: str, critic: str) -> Histogram:
        """Return documents of a corpus by a critic's score, to the nearest tenth."""
        counts = {r["step"]: r["documents"] for r in self.rows(HISTOGRAM, corpus, critic)}
        return Histogram(corpus, critic, tuple(counts.get(step, 0) for step in range(SCORE_STEPS)))

    def at_rank(
        self, corpus: str, critic: str, rank: float, min_chars: int, max_chars: int
    ) -> Sample | None:
        """Return the document nearest to a rank (0 worst, 1 best) within limits of length."""
        rows = self.rows(NEAREST, corpus, critic, min_chars, max_chars, rank)
        return self._sample(rows[0]) if rows else None

    def examples(self, corpus: str, critic: str) -> tuple[Sample, ...]:
        """Return a document from each fifth of the score that has any, best first."""
        return tuple(map(self._sample, self.rows(EXAMPLES, corpus, critic)))

    def sources(self, corpus: str, critic: str) -> ReportTable:
        """Return the largest sources with their scores."""
        columns = ("source", "documents", "mean score", "10%", "median", "90%", "characters")
        rows = [
            (
                row["source"] or "–",
                f"{row['documents']:,}",
                _score(row["mean"]),
                *map(_score, row["quantiles"] or [None] * 3),
                f"{int(row['characters']):,}",
            )
            for row in self.rows(SOURCES, corpus, critic, MAX_TABLE_ROWS)
        ]
        note = f"The {MAX_TABLE_ROWS} largest sources." if len(rows) == MAX_TABLE_ROWS else ""
        return ReportTable("Scores by source", columns, tuple(rows), note)

    def statuses(self, corpus: str, critic: str) -> ReportTable:
        """Return documents by status; documents without a critique are a separate row."""
        rows = [(r["status"], r["documents"]) for r in self.rows(STATUSES, corpus, critic)]
        missing = self.snapshot.corpora[corpus].documents - sum(n for _, n in rows)
        rows += [("not critiqued", missing)] if missing > 0 else []
        total = sum(n for _, n in rows) or 1
        shown = tuple((name, f"{n:,}", f"{n / total:.1%}") for name, n in rows)
        return ReportTable("Coverage", ("status", "documents", "share"), shown)

    def complaints(self, corpus: str, critic: str) -> ReportTable | None:
        """Return the most frequent flags of the critic; None without flags."""
        rows = tuple(
            (row["flag"], f"{row['documents']:,}", _score(row["mean"]))
            for row in self.rows(FLAGS, corpus, critic, MAX_TABLE_ROWS)
        )
        title, columns = "Most frequent complaints", ("flag", "documents", "mean score")
        return ReportTable(title, columns, rows) if rows else None

    def _sample(self, row: dict[str, Any]) -> Sample:
        text = self._column(row["shard"], "text")[row["row"]]
        # Labels of people have no shard of their own.
        shard = row["critique_shard"]
        spans = self._column(shard, "spans")[row["critique_row"]] if shard else []
        doc_id = row["doc_id"]
        return Sample(
            corpus=row["corpus"],
            source=row["source_id"] or row["source"],
            # Arrow returns bytes or a UUID, depending on its version.
            doc_id=format_id(doc_id) if isinstance(doc_id, bytes) else str(doc_id),
            score=row["score"],
            critique=row["critique"] or "",
            segments=sample_segments(text, [Span(*span) for span in spans]),
            is_cut=len(text) > shown_length(text),
        )

    def _read_column(self, path: str, name: str) -> Sequence[Any]:
        return self.store.shard(self.snapshot.shards_by_path[path]).column(name)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
