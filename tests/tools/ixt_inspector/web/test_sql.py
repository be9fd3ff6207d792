"""The SQL page: limits, cancellation and files."""

import html
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from inspector_pages import HERE, ask, link
from shown_store import make_store
from starlette.testclient import TestClient

from ixt_data.sql import VIEWS, read_recipes
from ixt_data.store import drop_query, save_query, save_selection
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.query_pool import QueryLimits
from ixt_inspector.web.request import Inspector, Settings


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


SCORES = """SELECT source_id, score
FROM documents JOIN critiques USING (doc_id) WHERE critic = $critic"""
TOKEN = "0123456789abcdef"


def wait_for(client: TestClient, **parameters: str) -> str:
    """The page of a statement with parameters, once it has ended."""
    for _ in range(100):
        page = client.get("/sql", params=parameters).text
        if "Cancel" not in page:
            return page
        time.sleep(0.1)
    raise AssertionError("it did not end")


def rows_of(page: str) -> list[list[str]]:
    body = page.partition('id="result"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]


def test_all_views_are_listed(client: TestClient) -> None:
    page = client.get("/sql").text
    assert all(f"<h3>{view}</h3>" in page for view in VIEWS)


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "markdown", "parquet"])
def test_each_format_has_the_same_rows(client: TestClient, kind: str) -> None:
    sql = "SELECT i, 'n' || i AS name FROM range(9) t(i)"
    file = client.get("/sql/download", params={"sql": sql, "format": kind})
    assert file.headers["content-disposition"].endswith(f'-first-7.{kind}"')
    if kind == "parquet":
        names = pq.read_table(io.BytesIO(file.content))["name"].to_pylist()
    elif kind.startswith("json"):
        lines = json.loads(file.text) if kind == "json" else map(json.loads, file.text.splitlines())
        names = [row["name"] for row in lines]
    else:
        names = re.findall(r"\bn\d", file.text)
    assert names == [f"n{i}" for i in range(7)]


def test_statement_with_parameters_runs_when_all_have_a_value(client: TestClient) -> None:
    page = client.get("/sql", params={"sql": SCORES}).text
    assert 'name="p.critic"' in page
    assert "values are missing" in page
    shown = wait_for(client, **{"sql": SCORES, "p.critic": "style"})
    assert len(rows_of(shown)) == 5
    assert 'value="style"' in shown
    assert "store.sql(" in shown
    file = client.get("/sql/download", params={"sql": SCORES, "p.critic": "style"})
    assert len(file.text.splitlines()) == 8
    quoted = "SELECT '$critic' AS a, \"b\" FROM (SELECT 1 AS b) -- $other"
    assert ">$critic<" in wait_for(client, sql=quoted)


def test_column_that_is_clicked_sorts_all_rows(client: TestClient) -> None:
    sql = "SELECT i, -i AS j FROM range(40) t(i) -- no order"
    page = ask(client, sql)
    down = link(page, "i")
    assert down
    query = {"sql": sql, "sort": "1"}
    assert html.unescape(down).endswith("sort=1&order=down")
    first = wait_for(client, **query)
    assert [row[0] for row in rows_of(first)] == ["39", "38", "37", "36", "35"]
    assert 'aria-sort="descending"' in first
    up = re.search(r'aria-sort="descending"><a href="([^"]+)"', first)
    assert up
    assert "order=up" in up[1]
    assert [row[0] for row in rows_of(wait_for(client, **query, order="up"))][:2] == ["0", "1"]
    described = wait_for(client, sql="DESCRIBE documents;", sort="1")
    assert len(rows_of(described)) == 5


@pytest.mark.parametrize(
    "sql", ["SELECT i FROM range(9) t(i); -- all", "FROM range(9) t(i) /* é; */ ;\n-- x; y\n;"]
)
def test_statement_with_a_semicolon_and_a_comment_is_sorted(client: TestClient, sql: str) -> None:
    assert rows_of(wait_for(client, sql=sql, sort="1"))[0] == ["8"]
    file = client.get("/sql/download", params={"sql": sql, "sort": "1"})
    assert file.text.splitlines()[1] == "8"


def test_statement_that_is_not_valid_is_not_valid_when_sorted(client: TestClient) -> None:
    for sql in ("SELECT * FROM documents WHERE 1=1) AS x, (SELECT 1", "SELECT 1; SELECT 2"):
        assert 'role="alert"' in ask(client, sql)
        assert 'role="alert"' in wait_for(client, sql=sql, sort="1")
        assert client.get("/sql/download", params={"sql": sql, "sort": "1"}).status_code == 400
    said = "sort: column 5 does not exist; the result has 1 column"
    assert said in wait_for(client, sql="SELECT 1", sort="5")
    # The errors are about the text of the user.
    wrong = wait_for(client, sql="SELECT nosuch FROM documents", sort="1")
    assert "nosuch" in wrong
    assert "AS result" not in wrong.partition('role="alert"')[2].partition("</div>")[0]
    assert "cannot be sorted" in wait_for(client, sql="EXPLAIN SELECT 1", sort="1")
    for sort, said in (("-1", "does not exist"), ("0", "does not exist"), ("1.5", "whole number")):
        answer = client.get("/sql", params={"sql": "SELECT 1", "sort": sort})
        assert (answer.status_code, said in answer.text) == (400, True)


@pytest.mark.parametrize("before", ["99999999999999999999", "9" * 5000, "6"])
@pytest.mark.parametrize("path", ["/sql", "/sql/chart", "/sql/download", "/sql/chart/file"])
def test_version_before_that_does_not_exist_is_not_found(
    client: TestClient, path: str, before: str
) -> None:
    sql = "SELECT count(*) AS n FROM before.documents"
    answer = client.get(path, params={"sql": sql, "before": before})
    assert answer.status_code == 404
    assert re.search(r"version \d+…? does not exist; the newest is 5", answer.text)


def test_rows_without_values_of_parameters_are_not_downloaded(client: TestClient) -> None:
    sql = "SELECT length($a) + length($b) AS n, (SELECT count(*) FROM before.documents) AS m"
    for path in ("/sql/download", "/sql/chart/file"):
        answer = client.get(path, params={"sql": sql, "p.b": ""})
        assert answer.status_code == 400
        assert "values are missing: $a, before" in answer.text
        assert "sql: missing" in client.get(path).text


def test_empty_text_is_a_value_of_a_parameter(client: TestClient) -> None:
    sql = "SELECT length($a) AS n, 2 AS other"
    page = wait_for(client, **{"sql": sql, "p.a": ""})
    assert rows_of(page) == [["0", "2"]]
    # Links keep the value.
    sorted_page = link(page, "other")
    assert sorted_page
    assert rows_of(client.get(sorted_page).text) == [["0", "2"]]
    file = client.get("/sql/download", params={"sql": sql, "p.a": ""})
    assert file.text.splitlines() == ["n,other", "0,2"]


def test_command_names_the_store(client: TestClient, inspector: Inspector, tmp_path: Path) -> None:
    page = html.unescape(ask(client, "SELECT 40 + 2 AS answer"))
    command = re.search(r'aria-label="Command">([^<]+)<', page)
    assert command
    words = [sys.executable, "-m", "ixt_data", *shlex.split(command[1])[1:]]
    environment = {name: value for name, value in os.environ.items() if name != "IXT_STORE"}
    subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == [{"answer": 42}]


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("queries")
    save_selection(make_store(folder), "good", "score >= 0.8", critic="quality")
    limits = QueryLimits(seconds=10, memory=512 << 20)
    opened = Inspector(Settings(str(folder / "store"), limits=limits, write_token=TOKEN))
    client = TestClient(build_app(opened, AccessPolicy((), TOKEN)), base_url=HERE)
    client.get("/", params={"token": TOKEN})
    yield client
    opened.close()


@pytest.mark.parametrize("name", read_recipes())
def test_recipe_runs_from_its_link(writable: TestClient, name: str) -> None:
    values = {"critic": "quality", "other": "style", "min_score": "0.8", "words": "words"}
    recipe = read_recipes()[name]
    given = {f"p.{key}": values.get(key, "1") for key in recipe.parameters}
    given |= {"before": "first-judge"} if recipe.needs_before else {}
    assert f"/sql?recipe={name}" in writable.get("/sql").text
    page = wait_for(writable, recipe=name, **given)
    assert f">{name}</a>" in page
    assert 'role="alert"' not in page


def test_query_is_saved_and_runs_by_its_name(writable: TestClient, client: TestClient) -> None:
    page = wait_for(writable, **{"sql": SCORES, "p.critic": "style"})
    form = page.partition('action="/queries')[2].partition("</form>")[0]
    values = {
        name: html.unescape(value)
        for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    }
    # A browser sends line breaks as CRLF.
    values["sql"] = values["sql"].replace("\n", "\r\n")
    origin = {"Origin": HERE}
    for changed, said in (
        ({"csrf": "0"}, "not of this page"),
        ({"sql": "SELECT 1"}, "not of this page"),
        ({"name": "a b"}, "use 1 to 64"),
        ({"name": ""}, "use 1 to 64"),
        ({"name": "a" * 300}, "use 1 to 64"),
    ):
        refused = writable.post("/queries", data=values | {"name": "x"} | changed, headers=origin)
        text = html.unescape(refused.text)
        assert (refused.status_code, said in text) == (400, True)
        # The form is there again, with the statement and what the person typed.
        assert (values | changed)["sql"].replace("\r\n", "\n") in text
        assert f'name="name" value="{changed.get("name", "x")}"' in text
    data = values | {"name": "scores", "note": "all scores"}
    answer = writable.post("/queries", data=data, headers=origin, follow_redirects=False)
    assert answer.status_code == 303
    end = time.monotonic() + 30
    while "saved=scores" not in writable.get("/sql").text and time.monotonic() < end:
        time.sleep(0.1)
    shown = wait_for(writable, **{"saved": "scores", "p.critic": "quality"})
    assert "Saved query" in shown
    assert "all scores" in shown
    assert len(rows_of(shown)) > 100
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    held = writable.get("/sql", params={"saved": "scores", "p.critic": "x"}, headers=cross).text
    assert "was not run" in held
    unknown = writable.get("/sql", params={"saved": "nothing"})
    assert (unknown.status_code, "queries: scores" in unknown.text) == (400, True)
    # A server that only reads has no form, and refuses one.
    assert 'action="/queries' not in wait_for(client, sql="SELECT 1")
    assert "only reads" in client.post("/queries", data=data, headers=origin).text


def test_saved_queries_with_the_same_statement_keep_their_names(
    tmp_path: Path,
) -> None:
    store = make_store(tmp_path)
    for name in ("w1", "w2"):
        save_query(store, name, "SELECT 7 AS seven", note=f"note of {name}")
    first = store.log.newest() - 1
    opened = Inspector(Settings(str(tmp_path / "store")))
    try:
        client = TestClient(build_app(opened, AccessPolicy()), base_url=HERE)
        for name, other in (("w1", "w2"), ("w2", "w1")):
            page = wait_for(client, saved=name).partition('id="result"')[2]
            assert f"note of {name}" in page
            assert f"saved={name}" in page
            assert f"saved={other}" not in page
        # An older snapshot: the page says which version has it, and keeps the name.
        older = client.get("/sql", params={"saved": "w2", "at": first})
        assert older.status_code == 200
        assert f"not saved in snapshot {first}: version {first + 1} saved it first" in older.text
        assert 'name="saved" value="w2"' in older.text
        drop_query(store, "w1")
        latest = client.get("/sql", params={"saved": "w1", "at": first + 2})
        assert f"version {first + 2} dropped it" in latest.text
    finally:
        opened.close()
