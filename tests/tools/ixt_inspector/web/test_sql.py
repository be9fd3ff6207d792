"""The SQL page: limits, cancellation and files."""

import json
import re
import time
from pathlib import Path

import pytest
from inspector_pages import HERE, ask
from starlette.testclient import TestClient

from ixt_inspector.web.request import Inspector


def test_sql_shows_rows_and_whether_more_exist(client: TestClient) -> None:
    page = ask(client, "SELECT critic, score FROM critiques WHERE score = 1")
    assert "5 rows of more" in page
    assert "NULL" in ask(client, "SELECT NULL AS nothing")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY documents TO '{folder}/stolen.csv'",
        "CREATE TABLE t (a INT)",
        "ATTACH '{folder}/x.db'",
        "SELECT * FROM read_text('{folder}/secret')",
        "SELECT * FROM '{folder}/web.jsonl'",
        "SELECT * FROM read_text('{folder}/store/ixt.json')",
        "SET enable_external_access = true",
        "SELECT 1; DROP VIEW documents",
    ],
)
def test_sql_cannot_access_files_or_settings(client: TestClient, shown: Path, sql: str) -> None:
    (shown / "secret").write_text("the secret")
    before = sorted(shown.rglob("*"))
    page = ask(client, sql.format(folder=shown))
    assert 'role="alert"' in page
    assert "the secret" not in page
    assert sorted(shown.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(10000000000) a, range(10000000000) b",
        # DuckDB does not listen here: 320 s and 15 GB in one process, when it was let.
        "SELECT sum(len(range(0, 200000000)))",
        "SELECT max(h) FROM (SELECT md5(i::VARCHAR) AS h FROM range(90000000) t(i) ORDER BY 1)",
    ],
)
def test_slow_sql_is_stopped_while_other_pages_respond(client: TestClient, sql: str) -> None:
    began = time.monotonic()
    page = client.get("/sql", params={"sql": sql}).text
    assert "Cancel" in page or 'role="alert"' in page
    assert client.get("/documents").status_code == 200
    assert re.search("stopped after 3 s|Memory|memory", ask(client, sql))
    assert time.monotonic() - began < 9


def test_sql_can_be_cancelled(client: TestClient) -> None:
    sql = "SELECT count(*) FROM range(10000000000) a, range(20000000000) b"
    assert "Cancel" in client.get("/sql", params={"sql": sql}).text
    began = time.monotonic()
    headers = {"Origin": HERE}
    client.post("/sql/stop", params={"sql": sql}, headers=headers, follow_redirects=False)
    assert "cancelled after" in ask(client, sql)
    assert time.monotonic() - began < 2.5


def test_link_from_another_site_does_not_run_its_sql(client: TestClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    page = client.get("/sql", params={"sql": "SELECT 41 + 1 AS answer"}, headers=headers).text
    assert "was not run" in page
    assert "SELECT 41 + 1" in page
    assert ">42<" not in page
    file = client.get("/sql/download", params={"sql": "SELECT 1"}, headers=headers)
    assert file.status_code == 400


def test_rows_are_downloaded_as_files(client: TestClient) -> None:
    sql = "SELECT doc_id, score, flags FROM critiques ORDER BY doc_id"
    file = client.get("/sql/download", params={"sql": sql, "format": "csv"})
    assert file.headers["content-disposition"] == 'attachment; filename="snapshot-5-first-7.csv"'
    assert len(file.text.splitlines()) == 8
    rows = json.loads(client.get("/sql/download", params={"sql": sql, "format": "json"}).text)
    assert len(rows) == 7
    assert set(rows[0]) == {"doc_id", "score", "flags"}
    refused = client.get("/sql/download", params={"sql": "SELEC"})
    assert refused.status_code == 400
    assert "syntax error" in refused.text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT max(h) FROM (SELECT string_agg(md5(i::VARCHAR), '') h FROM range(30000000) t(i))",
        "SELECT list(i) FROM range(300000000) t(i)",
        "SELECT 1 FROM range(3) t(i) WHERE error('x' || i) IS NULL",
    ],
)
def test_statement_after_a_heavy_one_that_dies_runs(
    client: TestClient, inspector: Inspector, sql: str
) -> None:
    assert 'role="alert"' in ask(client, sql)
    for number in range(3):
        assert f">{41 + number}<" in ask(client, f"SELECT 41 + {number} AS answer")
    # A process that the system ends between two statements.
    for process in inspector.query_pool._idle:
        process._process.kill()
    assert ">7<" in ask(client, "SELECT 3 + 4 AS answer")
