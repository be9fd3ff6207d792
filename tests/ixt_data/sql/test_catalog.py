import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_stores import add_documents

from ixt_data.errors import ConfigError, CorruptError, QueryCancelled, QueryError
from ixt_data.sql.base_columns import CRITIQUES, DOCUMENTS
from ixt_data.sql.catalog import VIEWS
from ixt_data.sql.views import widen
from ixt_data.store.store import Store


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_answers_on_an_empty_store(store: Store, view: str) -> None:
    assert store.sql(f"SELECT * FROM {view}").arrow().num_rows == 0


def test_the_views_have_their_columns(store: Store) -> None:
    assert store.sql("SELECT * FROM documents").arrow().column_names == list(DOCUMENTS)
    assert store.sql("SELECT * FROM critiques").arrow().column_names == list(CRITIQUES)


def test_columns_that_come_later_are_null_before(store: Store) -> None:
    add_documents(store, ["a", "b"])
    add_documents(store, ["c"], likes=[3])
    add_documents(store, ["d"], likes=[1.5], lang=["en"])
    table = store.sql("SELECT likes, lang FROM documents ORDER BY n_bytes, corpus, likes").arrow()
    assert table["likes"].to_pylist() == [1.5, 3.0, None, None]
    assert table["lang"].to_pylist() == ["en", None, None, None]


def test_types_that_differ_become_one() -> None:
    assert widen("BIGINT", "DOUBLE") == "DOUBLE"
    assert widen("BIGINT", "VARCHAR") == "VARCHAR"
    assert widen("BOOLEAN", "BOOLEAN") == "BOOLEAN"


def test_ids_are_found_in_either_form(store: Store) -> None:
    add_documents(store, ["a", "b"])
    doc_id = store.sql("SELECT doc_id FROM documents LIMIT 1").arrow()["doc_id"][0].as_py()
    for text in (str(doc_id), doc_id.hex):
        found = store.sql("SELECT * FROM documents WHERE doc_id = ?", parameters=[text]).arrow()
        assert found.num_rows == 1


def test_sums_of_integers_are_numbers(store: Store) -> None:
    add_documents(store, ["abc", "d"])
    table = store.sql(
        "SELECT sum(n_bytes) AS n FROM documents UNION ALL SELECT NULL ORDER BY n"
    ).arrow()
    assert table["n"].to_pylist() == [4, None]
    assert store.sql("SELECT sum(n_bytes) AS n FROM documents WHERE false").arrow()[
        "n"
    ].to_pylist() == [None]


REFUSED = [
    "COPY documents TO '{inside}/x.parquet'",
    "COPY (SELECT 1) TO '{outside}/x.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{inside}/x.csv'",
    "ATTACH '{inside}/x.db'",
    "CREATE TABLE t (a INT)",
    "SET threads = 1",
    "SELECT 1; SELECT 2",
    "SELECT * FROM read_text('{outside}/secret')",
    "SELECT * FROM '{outside}/secret.csv'",
    "SELECT * FROM glob('{outside}/*')",
    "SELECT * FROM read_text('{inside}/ixt.json')",
    "INSTALL httpfs",
    "PRAGMA database_list",
    "PRAGMA enable_profiling='json'",
    "CALL enable_logging()",
    "SELECT * FROM enable_profiling(save_location := '{inside}/x')",
    "SELECT getenv('HOME')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM read_csv('{outside}/secret.csv')",
    "SELECT * FROM read_parquet('{rows}')",
    "SELECT * FROM sniff_csv('{outside}/secret.csv')",
    "SELECT * FROM sqlite_scan('{inside}/x.db', 't')",
    "SELECT * FROM duckdb_secrets()",
    "WITH x AS (COPY (SELECT 1) TO '{rows}' (FORMAT parquet, USE_TMP_FILE false)) SELECT 1",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{rows}' (USE_TMP_FILE false)) SELECT 1",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('WITH x AS (COPY (SELECT 1) "
    "TO ''{rows}'' (FORMAT parquet, USE_TMP_FILE false)) SELECT 1'))",
    "WITH x AS (INSERT INTO shards SELECT * FROM shards RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM shards RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE shards SET corpus = 'z' RETURNING *) SELECT * FROM x",
    "PIVOT documents ON source USING count(*)",
    "",
    "SELEC 1",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_a_query_reaches_no_other_file_and_writes_none(
    store: Store, tmp_path: Path, statement: str
) -> None:
    add_documents(store, ["a"])
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    before = content(tmp_path)
    rows = Path(store.root, next(iter(store.snapshot().rows)))
    catalog = store.catalog()
    with pytest.raises(QueryError):
        catalog.run(statement.format(inside=store.root, outside=tmp_path, rows=rows)).fetchall()
    assert content(tmp_path) == before
    assert catalog.arrow("SELECT corpus FROM shards").to_pydict() == {"corpus": ["web"]}


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


READS = [
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) FROM t",
    "WITH a AS MATERIALIZED (SELECT 1) SELECT * FROM a UNION ALL FROM range(3)",
    "SELECT unnest([1, 2]), (SELECT max(n_bytes) FROM documents)",
    "SELECT * FROM json_each('[1, 2]'), duckdb_functions() LIMIT 1",
    "PIVOT documents ON source IN ('test') USING count(*)",
    "VALUES (1), (2)",
    "SUMMARIZE documents",
    "SHOW TABLES",
]


@pytest.mark.parametrize("statement", READS)
def test_what_reads_is_run(store: Store, statement: str) -> None:
    add_documents(store, ["a"])
    assert store.sql(statement).arrow().num_rows >= 1


def test_what_cannot_be_read_is_said(store: Store) -> None:
    add_documents(store, ["a"])
    path = next(iter(store.snapshot().rows))
    file = Path(store.root, path)
    data = file.read_bytes()
    file.write_bytes(data[:-9])
    with pytest.raises(
        CorruptError, match=rf"{path}: .* bytes instead of {len(data)}. .ixt verify"
    ):
        store.sql("SELECT * FROM documents").arrow()
    assert store.sql("SELECT count(*) AS n FROM shards").arrow()["n"].to_pylist() == [1]
    file.unlink()
    with pytest.raises(CorruptError, match=f"{path}: missing"):
        store.sql("SHOW TABLES").arrow()


def test_describe_and_explain_are_reading(store: Store) -> None:
    assert store.sql("DESCRIBE documents").arrow().num_rows == len(DOCUMENTS)
    assert store.sql("EXPLAIN SELECT * FROM documents").arrow().num_rows > 0


def test_shards_tell_their_place(store: Store) -> None:
    add_documents(store, [str(i) for i in range(25)])
    table = store.sql("SELECT k, samples, aligned_with FROM shards ORDER BY k").arrow()
    assert table.to_pydict() == {"k": [0, 1, 2], "samples": [10, 10, 5], "aligned_with": [None] * 3}
    assert store.sql("SELECT version, op, rows_added FROM snapshots").arrow().to_pylist() == [
        {"version": 1, "op": "ingest", "rows_added": 25}
    ]


def test_queries_keep_to_their_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from ixt_data.store.store import Store\n"
        "from isolate import peak_memory\n"
        "sort = 'SELECT max(h) FROM (SELECT md5(i::VARCHAR) AS h FROM range({}) t(i) ORDER BY h "
        "LIMIT 1000000000)'\n"
        "store = Store.open(sys.argv[1]); store.sql(sort.format(1000)); before = peak_memory()\n"
        "store.sql(sort.format(3000000)); print(peak_memory() - before)"
    )
    environment = {
        **os.environ,
        "IXT_QUERY_MEMORY": "80MB",
        "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "tools/benchmarks"),
    }
    command = [sys.executable, "-c", code, store.root]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    # Without a bound it takes about 200.
    assert float(done.stdout) < 130
    monkeypatch.setenv("IXT_QUERY_MEMORY", "plenty")
    with pytest.raises(ConfigError, match="IXT_QUERY_MEMORY is 'plenty'"):
        store.catalog()


def test_interleaved_results_do_not_mix(store: Store) -> None:
    add_documents(store, [f"{i}" for i in range(9)])
    catalog = store.catalog()
    names, numbers = catalog.rows("SELECT row FROM documents ORDER BY row")
    first = next(numbers)
    other_names, texts = catalog.rows("SELECT 'x' AS letter FROM documents")
    batches = catalog.batches("SELECT -row AS negative FROM documents ORDER BY row", rows=4)
    assert [*texts] == [("x",)] * 9
    assert [first, *numbers] == [(i,) for i in range(9)]
    assert [-i for batch in batches for i in batch["negative"].to_pylist()] == list(range(9))
    assert (names, other_names) == (["row"], ["letter"])
    with pytest.raises(QueryError, match="read-only"):
        catalog.run("SET enable_progress_bar = false")
    catalog.close()


def test_interrupt_cancels_a_running_query(store: Store) -> None:
    catalog, is_done = store.catalog(), threading.Event()

    def interrupt() -> None:
        # Repeated: DuckDB forgets an interrupt that arrives between two statements.
        while not is_done.wait(0.05):
            catalog.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(QueryCancelled):
        catalog.run("SELECT count(*) FROM range(100000000) a, range(100000) b").fetchall()
    is_done.set()
    thread.join()
