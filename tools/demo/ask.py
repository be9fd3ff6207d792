"""Questions to the catalog: what the story prints and the report shows."""

from typing import Any

from ixt_data.model import Span, format_id
from ixt_data.store import Store
from ixt_tools.demo.configs import CLOCK, STDLIB, TAG
from ixt_tools.demo.scene import Scene, cell
from ixt_tools.report.content import (
    Histogram,
    Query,
    Sample,
    Table,
    pieces,
    shown_length,
)

QUESTIONS = (
    (
        "Which packages of the standard library score lowest, and which highest?",
        """WITH packages AS (
  SELECT split_part(path, '/', 1) AS package, count(*) AS files, avg(score) AS score
  FROM documents JOIN critiques USING (doc_id)
  WHERE corpus = 'stdlib' AND path LIKE '%/%' GROUP BY 1 HAVING files >= 8)
(FROM packages ORDER BY score LIMIT 4) UNION ALL
(FROM (FROM packages ORDER BY score DESC LIMIT 4) ORDER BY score)""",
    ),
    (
        "What does the critic find in the standard library?",
        """SELECT unnest(flags) AS flag, count(*) AS files, avg(score) AS score
FROM documents JOIN critiques USING (doc_id)
WHERE corpus = 'stdlib' GROUP BY 1 ORDER BY files DESC LIMIT 8""",
    ),
    (
        "What does the critic say of the worked sums?",
        """SELECT critique, count(*) AS documents, avg(score) AS score
FROM documents JOIN critiques USING (doc_id)
WHERE corpus = 'clock' GROUP BY 1 ORDER BY documents DESC""",
    ),
)
HISTOGRAM = """SELECT least(9, floor(score * 10 + 1e-9))::INTEGER AS tenth, count(*) AS documents
FROM documents JOIN critiques USING (doc_id)
WHERE corpus = ? AND score IS NOT NULL GROUP BY 1"""
# The documents nearest to a rank in the order of the scores; short ones, so that they can be read.
NEAREST = """SELECT d.doc_id, d.source_id, d.shard, d.row, c.shard AS critique_shard,
  c.row AS critique_row, c.score, c.critique
FROM documents d JOIN critiques c USING (doc_id)
WHERE d.corpus = ? AND c.score IS NOT NULL AND d.n_chars BETWEEN ? AND ?
ORDER BY abs(percent_rank() OVER (ORDER BY c.score, d.doc_id) - ?), d.doc_id LIMIT 1"""


def ask(scene: Scene) -> tuple[Query, ...]:
    """Ask every question at the tag, print and return the answers."""
    scene.chapter("3  Questions, in SQL")
    queries = []
    for question, sql in QUESTIONS:
        query = Query(question, sql, answer(scene.store, sql))
        queries.append(query)
        scene.say(question)
        scene.show(query.answer)
        scene.say("")
    return tuple(queries)


def answer(store: Store, sql: str) -> Table:
    """A query's rows for people."""
    table = store.sql(sql, at=TAG)
    rows = (tuple(map(cell, row.values())) for row in table.to_pylist())
    return Table("", tuple(table.column_names), tuple(rows))


def histogram(store: Store, corpus: str, critic: str) -> Histogram:
    """Documents of a corpus per tenth of the score."""
    rows = store.sql(HISTOGRAM, at=TAG, parameters=[corpus]).to_pylist()
    counts = {row["tenth"]: row["documents"] for row in rows}
    return Histogram(corpus, critic, tuple(counts.get(tenth, 0) for tenth in range(10)))


def histograms(store: Store) -> tuple[Histogram, ...]:
    """Both corpora's."""
    return histogram(store, STDLIB, "rules"), histogram(store, CLOCK, "arithmetic")


def score_quantiles(store: Store, corpus: str, shares: list[float]) -> list[float]:
    """Scores below which such shares of the documents lie, to two decimals."""
    sql = """SELECT quantile_cont(score, ?) AS found
    FROM documents JOIN critiques USING (doc_id) WHERE corpus = ?"""
    found = store.sql(sql.replace("?", str(shares), 1), at=TAG, parameters=[corpus])
    return [round(value, 2) for value in found["found"][0].as_py()]


def samples(store: Store) -> tuple[Sample, ...]:
    """Documents at the top, in the middle and at the bottom of each corpus."""
    wanted = [(STDLIB, 300, 6000, rank) for rank in (1.0, 0.5, 0.0)]
    wanted += [(CLOCK, 1, 1000, rank) for rank in (1.0, 0.7, 0.2)]
    found = (_sample(store, *place) for place in wanted)
    return tuple({sample.doc_id: sample for sample in found if sample is not None}.values())


def _sample(store: Store, corpus: str, fewest: int, most: int, rank: float) -> Sample | None:
    rows = store.sql(NEAREST, at=TAG, parameters=[corpus, fewest, most, rank]).to_pylist()
    if not rows:
        return None
    row = rows[0]
    text = _column(store, row["shard"], "text")[row["row"]]
    spans = _column(store, row["critique_shard"], "spans")[row["critique_row"]]
    doc_id = row["doc_id"]
    return Sample(
        corpus=corpus,
        source=row["source_id"],
        doc_id=format_id(doc_id) if isinstance(doc_id, bytes) else str(doc_id),
        score=row["score"],
        critique=row["critique"],
        pieces=pieces(text, [Span(*span) for span in spans]),
        cut=len(text) > shown_length(text),
    )


def _column(store: Store, path: str, name: str) -> list[Any]:
    return store.shard(store.snapshot(TAG).shards_by_path[path]).column(name)
