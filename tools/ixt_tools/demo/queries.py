"""Questions to the catalog: what the story prints and the report shows."""

from ixt_data.store import Store
from ixt_tools.demo.configs import CLOCK, STDLIB, TAG
from ixt_tools.demo.workspace import DemoWorkspace, cell
from ixt_tools.report import Histogram, Query, ReportTable, Sample, SnapshotQueries

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


def ask(scene: DemoWorkspace) -> tuple[Query, ...]:
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


def answer(store: Store, sql: str) -> ReportTable:
    """A query's rows for people."""
    table = store.sql(sql, at=TAG).arrow()
    rows = (tuple(map(cell, row.values())) for row in table.to_pylist())
    return ReportTable("", tuple(table.column_names), tuple(rows))


def histograms(store: Store) -> tuple[Histogram, ...]:
    """Both corpora's."""
    with SnapshotQueries(store, TAG) as gathered:
        return gathered.histogram(STDLIB, "rules"), gathered.histogram(CLOCK, "arithmetic")


def score_quantiles(store: Store, corpus: str, shares: list[float]) -> list[float]:
    """Scores below which such shares of the documents lie, to two decimals."""
    sql = """SELECT quantile_cont(score, ?) AS found
    FROM documents JOIN critiques USING (doc_id) WHERE corpus = ?"""
    found = store.sql(sql.replace("?", str(shares), 1), at=TAG, parameters=[corpus]).arrow()
    return [round(value, 2) for value in found["found"][0].as_py()]


def samples(store: Store) -> tuple[Sample, ...]:
    """Documents at the top, in the middle and at the bottom of each corpus."""
    wanted = [(STDLIB, "rules", rank, 300, 6000) for rank in (1.0, 0.5, 0.0)]
    wanted += [(CLOCK, "arithmetic", rank, 1, 1000) for rank in (1.0, 0.7, 0.2)]
    with SnapshotQueries(store, TAG) as gathered:
        found = [gathered.at_rank(*place) for place in wanted]
    return tuple({sample.doc_id: sample for sample in found if sample is not None}.values())
