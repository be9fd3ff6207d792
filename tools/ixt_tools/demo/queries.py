"""Queries of the demo, printed and shown in the report."""

from ixt_data.store import Store
from ixt_tools.demo.configs import CLOCK, STDLIB, TAG
from ixt_tools.demo.workspace import DemoWorkspace, format_cell
from ixt_tools.report import Histogram, ReportQuery, ReportTable, Sample, SnapshotQueries

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
        "Which flags does the critic set in the standard library?",
        """SELECT unnest(flags) AS flag, count(*) AS files, avg(score) AS score
FROM documents JOIN critiques USING (doc_id)
WHERE corpus = 'stdlib' GROUP BY 1 ORDER BY files DESC LIMIT 8""",
    ),
    (
        "Which critiques do the worked sums have?",
        """SELECT critique, count(*) AS documents, avg(score) AS score
FROM documents JOIN critiques USING (doc_id)
WHERE corpus = 'clock' GROUP BY 1 ORDER BY documents DESC""",
    ),
)


def run_queries(demo: DemoWorkspace) -> tuple[ReportQuery, ...]:
    """Run every query at the tag; print and return the results."""
    demo.print_heading("3  Queries in SQL")
    queries = []
    for question, sql in QUESTIONS:
        query = ReportQuery(question, sql, _run_query(demo.store, sql))
        queries.append(query)
        demo.print_text(question)
        demo.print_table(query.result)
        demo.print_text("")
    return tuple(queries)


def _run_query(store: Store, sql: str) -> ReportTable:
    """Return the rows of a query as text."""
    table = store.sql(sql, at=TAG).arrow()
    rows = (tuple(map(format_cell, row.values())) for row in table.to_pylist())
    return ReportTable("", tuple(table.column_names), tuple(rows))


def read_histograms(store: Store) -> tuple[Histogram, ...]:
    """Return the histograms of both corpora."""
    with SnapshotQueries(store, TAG) as queries:
        return queries.histogram(STDLIB, "rules"), queries.histogram(CLOCK, "arithmetic")


def score_quantiles(store: Store, corpus: str, shares: list[float]) -> list[float]:
    """Return quantiles of the scores, to two decimals."""
    sql = """SELECT quantile_cont(score, ?) AS quantiles
    FROM documents JOIN critiques USING (doc_id) WHERE corpus = ?"""
    rows = store.sql(sql.replace("?", str(shares), 1), at=TAG, parameters=[corpus]).arrow()
    return [round(value, 2) for value in rows["quantiles"][0].as_py()]


def read_samples(store: Store) -> tuple[Sample, ...]:
    """Return documents at the top, in the middle and at the bottom of each corpus."""
    ranks = [(STDLIB, "rules", rank, 300, 6000) for rank in (1.0, 0.5, 0.0)]
    ranks += [(CLOCK, "arithmetic", rank, 1, 1000) for rank in (1.0, 0.7, 0.2)]
    with SnapshotQueries(store, TAG) as queries:
        found_samples = [queries.at_rank(*rank) for rank in ranks]
    return tuple({sample.doc_id: sample for sample in found_samples if sample is not None}.values())
