"""Queries over 20 million critiques in 40 files; reference: DuckDB over one sorted file."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import duckdb
from isolate import peak_memory, run_isolated
from measurements import Measurement, check_limit, compare, interleave, log, measure_seconds

from ixt_data.sql import CRITIQUES, DOCUMENTS
from ixt_data.store import Store

PARTITIONS = 40
_QUERIES = {
    "histogram by source": "SELECT source, floor(score * 10) AS bin, count(*) FROM {documents} "
    "JOIN {critiques} USING (doc_id) GROUP BY ALL ORDER BY ALL",
    "top 100 per source": "SELECT source, arg_max(doc_id, score, 100) FROM {documents} JOIN "
    "{critiques} USING (doc_id) GROUP BY source ORDER BY source",
    "filter to about 100k rows": "SELECT count(*), avg(entropy) FROM {critiques} "
    "WHERE score BETWEEN 0.9 AND 0.905",
    "score histogram": "SELECT floor(score * 20) AS bin, count(*) FROM {critiques} GROUP BY 1 "
    "ORDER BY 1",
    "point lookup": "SELECT * FROM {critiques} WHERE doc_id = '{doc_id}'",
    "critic diff": "SELECT count(*), avg(a.score - b.score) FROM "
    "(SELECT doc_id, score FROM {critiques} WHERE critic = 'one') a JOIN "
    "(SELECT doc_id, score FROM {critiques} WHERE critic = 'two') b USING (doc_id)",
}


def make_rows(store: Store, rows: int, folder: Path) -> tuple[Path, Path, str]:
    """Create a store of `rows` critiques in 40 files, and one sorted file per table.

    Half of the critiques are by one critic and half by another, of the same documents.
    """
    documents = rows // 2
    connection = duckdb.connect()
    connection.execute(f"SET temp_directory = '{folder}'")
    connection.execute(
        f"""CREATE TABLE d AS SELECT md5(i::VARCHAR)::UUID AS doc_id, 'web' AS corpus,
        'pretrain' AS stage, 'source' || (sqrt(random() * 400)::INT) AS source,
        i::VARCHAR AS source_id, (random() * 4000)::BIGINT AS n_bytes, 3000::BIGINT AS n_chars,
        'shards/text/x/shard.' || lpad((i // 4096)::VARCHAR, 5, '0') AS shard,
        (i % 4096)::INTEGER AS row FROM range({documents}) t(i)"""
    )
    # The 40 files are those of 20 units of two critics, unsorted inside.
    for critic in ("one", "two"):
        connection.execute(
            f"""CREATE TABLE {critic} AS SELECT doc_id, '{critic}' AS critic,
            '{critic}-0' AS critic_id, 'ok' AS status, round(random(), 2)::DOUBLE AS score,
            MAP {{'a': round(random(), 1)::DOUBLE}} AS scores, random()::DOUBLE AS expected,
            random()::DOUBLE AS entropy, 'too ' || (random() * 1e6)::INT || ' words' AS critique,
            100::BIGINT AS n_thinking_tokens, []::VARCHAR[] AS flags, 0::INTEGER AS n_spans,
            NULL::VARCHAR AS error, 1::INTEGER AS attempts, shard, row FROM d"""
        )
    parts = PARTITIONS // 2
    with store.begin("ingest") as txn:
        for table, partition, source in (
            ("documents", "web", "d"),
            ("critiques", "one-0", "one"),
            ("critiques", "two-0", "two"),
        ):
            for part in range(parts):
                key, path = txn.rows_path(table, partition)
                low, high = (documents * p // parts for p in (part, part + 1))
                connection.execute(
                    f"COPY (SELECT * FROM {source} WHERE rowid >= {low} AND rowid < {high}) "
                    f"TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
                )
                schema = DOCUMENTS if table == "documents" else CRITIQUES
                txn.record_rows(key, table, partition, high - low, schema, 0)
        txn.commit()
    one_file = folder / "documents.parquet", folder / "critiques.parquet"
    connection.execute(
        f"COPY (SELECT * FROM d ORDER BY doc_id) TO '{one_file[0]}' (FORMAT parquet, "
        "COMPRESSION zstd)"
    )
    connection.execute(
        f"COPY (SELECT * FROM one UNION ALL SELECT * FROM two ORDER BY doc_id) "
        f"TO '{one_file[1]}' (FORMAT parquet, COMPRESSION zstd)"
    )
    (doc_id,) = connection.execute("SELECT doc_id::VARCHAR FROM d LIMIT 1 OFFSET 777").fetchall()[0]
    connection.close()
    return *one_file, doc_id


def measure_queries(folder: Path, quick: bool) -> list[Measurement]:
    """Curation queries, ours and DuckDB's over one sorted file a table."""
    from ixt_data.maintenance import compact

    rows = 1_000_000 if quick else 20_000_000
    store = Store.init(folder / "rows")
    log(f"making {rows:,} critiques ...")
    documents, critiques, doc_id = make_rows(store, rows, folder)
    log("compacting ...")
    compaction = measure_seconds(lambda: compact(store))
    plain = {"documents": f"'{documents}'", "critiques": f"'{critiques}'", "doc_id": doc_id}
    views = {"documents": "documents", "critiques": "critiques", "doc_id": doc_id}
    measurements = []
    # Both are asked by an open connection; what opening takes is in the figure of a cold process.
    catalog, connection = store.catalog(), duckdb.connect()
    for name, query in _QUERIES.items():
        log(name)
        ours, theirs = interleave(
            partial(catalog.arrow, query.format(**views)),
            partial(_arrow, connection, query.format(**plain)),
            min_seconds=SHORTEST,
        )
        reference = "DuckDB, one sorted file"
        measurements.append(
            compare(name, 1000 * ours, "ms", reference, 1000 * theirs, 1.3, is_maximum=True)
        )
    catalog.close()
    connection.close()
    histogram = _QUERIES["score histogram"]
    command = [sys.executable, "-m", "ixt_data", "query", "--store", store.root, "--output", "json"]
    bare = f"import duckdb; duckdb.connect().sql({histogram.format(**plain)!r}).fetchall()"
    cold, alone = interleave(
        partial(_run, [*command, histogram.format(**views)]),
        partial(_run, [command[0], "-c", bare]),
    )
    title, reference = "first answer from a cold process", "Python with DuckDB alone"
    measurements.append(check_limit(title, cold, "s", 0.6, is_maximum=True))
    measurements.append(Measurement(f"{title}, in turn", cold, "s", reference, alone, cold / alone))
    limit = 256 if quick else 1024
    took = run_isolated(query_memory, store.root, _QUERIES["critic diff"].format(**views), limit)
    name, reference = "memory of the critic diff, above its imports", "its IXT_QUERY_MEMORY"
    measurements.append(compare(name, took, "MiB", reference, limit, 1.25, is_maximum=True))
    measurements.append(Measurement("compaction of the rows", rows / compaction, "rows/s"))
    return measurements


SHORTEST = 3.0
"""Seconds for which a query is repeated at least: short ones are the most disturbed."""


def _arrow(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    connection.sql(sql).to_arrow_table()


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def query_memory(root: str, sql: str, limit: int) -> float:
    """MiB that a query takes at most under a bound of so many, above what its process takes."""
    os.environ["IXT_QUERY_MEMORY"] = f"{limit}MiB"
    catalog = Store.open(root).catalog()
    catalog.arrow("SELECT count(*) FROM shards")
    before = peak_memory()
    catalog.arrow(sql)
    return peak_memory() - before
