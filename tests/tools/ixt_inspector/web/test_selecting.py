"""Saving a filter of documents as a selection: its predicate, its commands, its form."""

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspector_pages import HERE
from shown_store import make_store
from starlette.testclient import TestClient

from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.listing import NO_CRITIQUE
from ixt_inspector.web.request import Inspector, Settings

TOKEN = "correct horse battery"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selecting")
    make_store(folder)
    return folder


@pytest.fixture(scope="module")
def writable(folder: Path) -> Iterator[Inspector]:
    opened = Inspector(Settings(str(folder / "store"), write_token=TOKEN))
    yield opened
    opened.close()


@pytest.fixture
def client(writable: Inspector) -> TestClient:
    opened = TestClient(build_app(writable, AccessPolicy((), TOKEN)), base_url=HERE)
    opened.get("/", params={"token": TOKEN})
    return opened


def fields(page: str) -> dict[str, str]:
    form = re.search(r'<form class="row" action="/selections[^"]*".*?</form>', page, re.DOTALL)
    assert form
    found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[0])
    return {name: html.unescape(value) for name, value in found}


def total(page: str) -> int:
    found = re.search(r'data-status="([\d,]+) document', page)
    return int(found[1].replace(",", "")) if found else 0


FILTERS = (
    {"low": "0.35", "high": "0.65"},
    {"source": "it's"},
    {"status": NO_CRITIQUE},
    {"text": "It's", "corpus": "web"},
    {"where": "n_chars > 20 OR n_chars < 10", "low": "0.1"},
)


@pytest.mark.parametrize("number", range(len(FILTERS)))
def test_selection_holds_exactly_the_documents_of_the_page(
    client: TestClient, writable: Inspector, number: int
) -> None:
    filtered, name = FILTERS[number], f"chosen-{number}"
    page = client.get("/documents", params=filtered).text
    if not total(page):
        assert "Save this filter" not in page
        return
    values = fields(page) | {"name": name}
    headers = {"Origin": HERE}
    answer = client.post("/selections", data=values, headers=headers, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/mixes")
    sql = f'SELECT count(*) FROM selected."{name}"'
    assert writable.views.store.sql(sql).fetchall() == [(total(page),)]
    # A slow machine shows the previous snapshot while it opens the latest.
    end = time.monotonic() + 30
    while name not in client.get("/mixes").text and time.monotonic() < end:
        time.sleep(0.1)
    assert name in client.get("/mixes").text


def test_page_shows_the_command_and_the_python_line(client: TestClient) -> None:
    page = html.unescape(client.get("/documents", params={"low": "0.35"}).text)
    assert "ixt select save --store" in page
    assert "score >= 0.35" in page
    assert 'save_selection(store, "NAME", ' in page
    assert "Save this filter" not in client.get("/documents").text
    assert "Save this filter" not in client.get("/documents", params={"find": "words"}).text


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"csrf": "0"}, 400, "not of this page"),
        ({"where": "true"}, 400, "not of this page"),
        ({"name": "a b"}, 400, "use 1 to 64"),
        ({"name": ""}, 400, "use 1 to 64"),
    ],
)
def test_form_of_another_page_or_a_wrong_name_is_refused(
    client: TestClient, changed: dict[str, str], status: int, said: str
) -> None:
    values = fields(client.get("/documents", params={"low": "0.35"}).text) | {"name": "x"} | changed
    answer = client.post("/selections?low=0.35", data=values, headers={"Origin": HERE})
    assert answer.status_code == status
    assert said in html.unescape(answer.text)
    # The form is there again, with what the person typed and the error.
    assert '<details class="selection" open>' in answer.text
    assert f'name="name" value="{values["name"]}"' in answer.text
    foreign = client.post("/selections", data=values, headers={"Origin": "http://elsewhere.test"})
    assert foreign.status_code == 403


def test_server_that_only_reads_has_no_form(folder: Path) -> None:
    opened = Inspector(Settings(str(folder / "store")))
    try:
        reading = TestClient(build_app(opened, AccessPolicy((), None)), base_url=HERE)
        page = reading.get("/documents", params={"low": "0.35"}).text
        assert "Save this filter" in page
        assert 'action="/selections' not in page
        answer = reading.post("/selections", data={"name": "x"}, headers={"Origin": HERE})
        assert "only reads" in answer.text
    finally:
        opened.close()
