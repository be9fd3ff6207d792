"""Charts of queries: their kinds, their bounds, their files."""

import html
import json
import re
from typing import Any

import pytest
from inspector_pages import ask
from shown_store import SCRIPT
from starlette.testclient import TestClient

BY_SOURCE = (
    "SELECT source, critic, avg(score) AS mean, count(*) AS n FROM documents "
    "JOIN critiques USING (doc_id) GROUP BY ALL ORDER BY ALL"
)


def spec(page: str) -> dict[str, Any]:
    found = re.search(r'data-chart="([^"]*)"', page)
    assert found, re.findall(r'role="alert".*?</div>', page, re.DOTALL)
    return json.loads(html.unescape(found[1]))


def draw(client: TestClient, sql: str, **choices: str) -> str:
    return client.get("/sql/chart", params={"sql": sql, **choices}).text


@pytest.mark.parametrize(
    ("sql", "kind", "mark"),
    [
        (BY_SOURCE, "Bars: mean by source", "bar"),
        (
            "SELECT DATE '2024-01-01' + i::INT AS day, i FROM range(9) t(i)",
            "Lines: i by day",
            "line",
        ),
        ("SELECT n_chars, score FROM documents JOIN critiques USING (doc_id)", "Points", "circle"),
        ("SELECT n_chars FROM documents", "Histogram: n_chars", "bar"),
    ],
)
def test_chart_suits_the_columns(client: TestClient, sql: str, kind: str, mark: str) -> None:
    page = draw(client, sql)
    assert kind in page
    assert spec(page)["mark"]["type"] == mark


def test_chosen_columns_are_drawn(client: TestClient) -> None:
    page = draw(client, BY_SOURCE, kind="bar", x="source", y="n", color="critic")
    drawn = spec(page)
    values = drawn["data"]["values"]
    assert {value["color"] for value in values} == {"quality", "style"}
    assert sum(value["y"] for value in values) == 280
    assert drawn["encoding"]["color"]["scale"]["domain"] == ["quality", "style"]
    # A hostile source is a label.
    assert SCRIPT not in page
    histogram = spec(draw(client, BY_SOURCE, kind="histogram", x="n"))
    assert sum(value["rows"] for value in histogram["data"]["values"]) == len(values)


def test_rows_that_are_not_drawn_are_counted_with_the_reason(client: TestClient) -> None:
    page = draw(client, "SELECT i::VARCHAR AS name, nullif(i, 3) AS n FROM range(100) t(i)")
    assert len(spec(page)["data"]["values"]) == 60
    assert "40 rows not drawn: a value is missing, or there are more than 60 bars" in page
    page = draw(client, "SELECT i AS a, i AS b FROM range(6000) t(i)")
    assert "5,000 rows of the first 5,000; the query has more" in page
    assert "no values" in client.get("/sql/chart/file", params={"sql": "SELECT 'a' AS b"}).text
    assert "column of numbers" in draw(client, "SELECT 'a' AS b")
    assert "not a number" in draw(client, BY_SOURCE, kind="bar", y="source")
    assert "does not exist" in html.unescape(draw(client, BY_SOURCE, x="nosuch"))
    assert 'role="alert"' in draw(client, "SELECT nosuch")


@pytest.mark.parametrize(
    ("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("html", b"<!doctype html>")]
)
def test_chart_is_saved_as_a_file(client: TestClient, kind: str, start: bytes) -> None:
    parameters = {"sql": BY_SOURCE, "format": kind, "color": "critic"}
    answer = client.get("/sql/chart/file", params=parameters)
    assert answer.content.startswith(start)
    assert f'filename="bars-of-mean-by-source.{kind}"' in answer.headers["content-disposition"]
    assert b"<script" not in answer.content
    if kind == "svg":
        assert b"var(--" not in answer.content


def test_link_from_another_site_does_not_run_a_query(client: TestClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    page = client.get("/sql/chart", params={"sql": BY_SOURCE}, headers=headers).text
    assert "was not run" in page
    assert "data-chart" not in page
    answer = client.get("/sql/chart/file", params={"sql": BY_SOURCE}, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "values", ["1e308, -1e308", "0, 5e-324", "1e17, 1e17", "-1.7e308, -1.7e308"]
)
def test_histogram_of_numbers_near_the_limits_of_a_float_is_drawn(
    client: TestClient, values: str
) -> None:
    sql = f"SELECT unnest([{values}]::DOUBLE[]) AS x"
    bars = spec(draw(client, sql))["data"]["values"]
    assert sum(bar["rows"] for bar in bars) == 2
    assert all(bar["x"] < bar["x_end"] for bar in bars)
    file = client.get("/sql/chart/file", params={"sql": sql, "format": "svg"})
    assert file.status_code == 200


def test_integers_of_128_bits_and_bytes_are_shown_as_on_the_sql_page(client: TestClient) -> None:
    sql = "SELECT (1::HUGEINT << 100) + i AS big, 'a'::BLOB AS raw, [big] AS l FROM range(3) t(i)"
    page = draw(client, sql, kind="histogram", x="big")
    assert sum(bar["rows"] for bar in spec(page)["data"]["values"]) == 3
    for shown in (page, ask(client, sql)):
        assert ">61<" in shown
        assert "1267650600228229401496703205376" in shown
        assert "b&#39;" not in shown


def test_repeated_names_of_columns_have_numbers(client: TestClient) -> None:
    page = draw(client, "SELECT 1 AS a, 2 AS a, 3 AS a_1", kind="scatter", x="a_2", y="a_1")
    assert re.findall(r"<option[^>]*>(a\w*)</option>", page)[:3] == ["a", "a_2", "a_1"]
    assert spec(page)["data"]["values"] == [{"x": 2, "y": 3}]
