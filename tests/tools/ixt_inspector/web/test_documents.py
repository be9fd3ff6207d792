"""The table of documents: pages, order and filters."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from inspector_pages import HERE, every, ids, link
from shown_store import CODE, SCRIPT, WEB
from starlette.testclient import TestClient

from ixt_data.analysis import build_indexes
from ixt_data.console import format_count
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings
from ixt_inspector.web.snapshot_cache import REFRESH_SECONDS
from ixt_inspector.web.table_columns import COLUMNS


@pytest.mark.parametrize(
    "sort",
    [
        *("score", "length", "thinking", "entropy", "spans", "id"),
        *("bytes", "corpus", "source", "stage", "status"),
    ],
)
@pytest.mark.parametrize("order", ["up", "down"])
def test_pages_show_each_document_once_in_both_directions(
    client: TestClient, sort: str, order: str
) -> None:
    # The critic style has not read the corpus code: those rows have no values to sort by.
    there = every(client, f"/documents?critic=style&sort={sort}&order={order}")
    flat = [doc_id for page in there for doc_id in page]
    assert [len(page) for page in there] == [50, 50, 50]
    assert len(set(flat)) == WEB + CODE
    answer = client.get(f"/documents?critic=style&sort={sort}&order={order}")
    addresses = [str(answer.url)]
    while following := link(answer.text, "Next"):
        addresses.append(following)
        answer = client.get(following)
    back = [ids(answer.text)]
    while previous := link(answer.text, "Previous"):
        answer = client.get(previous)
        back.append(ids(answer.text))
    assert back[::-1] == there


def test_documents_without_a_value_are_sorted_last(client: TestClient) -> None:
    for order, sign in (("down", -1), ("up", 1)):
        address = f"/documents?critic=style&order={order}"
        found: list[str] = []
        following: str | None = address
        while following:
            page = client.get(following).text
            found += re.findall(r'<td class="num">([\d.]+|–)', page)
            following = link(page, "Next")
        known = [float(score) for score in found if score != "–"]
        assert known == sorted(known, key=lambda score: sign * score)
        assert found[len(known) :] == ["–"] * (CODE + 1)


def test_each_shown_column_except_the_text_can_be_sorted(client: TestClient) -> None:
    show = "&".join(f"show={name}" for name in COLUMNS)
    page = client.get(f"/documents?{show}&sort=id").text
    for name, column in COLUMNS.items():
        assert bool(link(page, column.title)) is (name != "text"), name
    page = client.get("/documents?show=source&sort=source&order=up&corpus=web").text
    assert re.search(r'aria-sort="ascending"><a[^>]*>source', page)
    sources = re.findall(r"site-\d\.example", page.partition("<tbody>")[2].partition("</tbody>")[0])
    assert len(sources) > 20
    assert sources == sorted(sources)


def test_empty_choice_of_columns_is_the_default(client: TestClient) -> None:
    shown = [client.get(f"/documents{query}").text for query in ("", "?show=")]
    assert "characters</a>" in shown[1]
    headers = [re.findall(r"<th[^>]*>(?:<a[^>]*>)?([^<]*)", page) for page in shown]
    assert headers[0] == headers[1]


def test_error_about_a_column_cuts_its_name(client: TestClient) -> None:
    for parameters in ({"show": "x" * 3000}, {"is." + "x" * 3000: "1"}, {"sort": "x" * 3000}):
        answer = client.get("/documents", params=parameters)
        assert answer.status_code == 400
        (message,) = re.findall(r"x{60,}…?", answer.text.partition("<main")[2])[:1]
        assert message == "x" * 60 + "…"


FILTERS = {
    "corpus": "corpus = '{}'",
    "source": "source = '{}'",
    "status": "status = '{}'",
    "low": "score >= {}",
    "high": "score <= {}",
    "flag": "list_contains(flags, '{}')",
    "text": "contains(lower(critique), lower('{}'))",
    "where": "({})",
}


@pytest.mark.parametrize(
    "query",
    [
        {"corpus": "code"},
        {"source": "site-1.example", "low": "0.5"},
        {"status": "timeout"},
        {"flag": "short", "high": "0"},
        {"text": "COMPLETE"},
        {"where": "lang = 'de' AND score > 0.5"},
        {"where": "n_bytes > 100", "text": "missing", "corpus": "web"},
        {"source": SCRIPT},
    ],
)
def test_filters_match_what_sql_matches(
    client: TestClient, inspector: Inspector, query: dict[str, str]
) -> None:
    page = client.get(f"/documents?{urlencode(query)}").text
    quoted = {k: v if k == "where" else v.replace("'", "''") for k, v in query.items()}
    conditions = [FILTERS[name].format(value) for name, value in quoted.items()]
    expected = inspector.views.latest().query(
        "SELECT count(*) AS n FROM documents JOIN (SELECT * EXCLUDE (shard, row) FROM critiques "
        f"WHERE critic = 'quality') AS c USING (doc_id) WHERE {' AND '.join(conditions)}"
    )[0]["n"]
    assert 0 < expected < WEB + CODE
    assert f'data-status="{format_count(expected, "document")}"' in page


def test_filters_without_matches_are_reported(client: TestClient) -> None:
    for query in ({"text": "%"}, {"source": "' OR 1=1 --"}, {"where": "false"}):
        assert "matches the filter." in client.get("/documents", params=query).text
    none = client.get("/documents", params={"critic": "style", "status": "none"})
    assert f'data-status="{CODE} documents"' in none.text


def test_pages_of_an_isolated_predicate_are_complete(client: TestClient) -> None:
    apart = every(client, "/documents?where=lang+IS+NOT+NULL&order=up")
    own = every(client, "/documents?corpus=web&order=up")
    assert apart == own


def test_invalid_predicate_is_reported_with_the_form(client: TestClient) -> None:
    page = client.get("/documents", params={"where": "scor > 0.5"})
    assert page.status_code == 200
    assert "scor" in page.text
    assert 'role="alert"' in page.text


@pytest.mark.slow
def test_slow_predicate_is_stopped(client: TestClient) -> None:
    began = time.monotonic()
    page = client.get("/documents", params={"where": "len(range(0, 2000000000)) > 0"}).text
    assert re.search("stopped after 3 s|memory|Memory", page)
    assert time.monotonic() - began < 9


def test_link_from_another_site_does_not_run_its_predicate(client: TestClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    where = "len(repeat(source, 3)) > 2"
    page = client.get("/documents", params={"where": where}, headers=headers).text
    assert "was not run" in page
    assert "len(repeat(source, 3)) &gt; 2" in page
    assert ids(page) == []
    doc_id = ids(client.get("/documents").text)[0]
    address = f"/documents/{doc_id}"
    filtered = {"where": "score >= 0"}
    assert 'rel="next"' in client.get(address, params=filtered).text
    assert 'rel="next"' not in client.get(address, params=filtered, headers=headers).text


@pytest.mark.parametrize("is_indexed", [False, True])
def test_words_are_found_marked_and_read_one_after_another(
    client: TestClient, inspector: Inspector, is_indexed: bool
) -> None:
    if is_indexed:
        build_indexes(inspector.views.store)
        time.sleep(REFRESH_SECONDS + 0.1)
        inspector.views.latest()
    page = client.get("/documents", params={"find": '"some words" -document'}).text
    assert "No document" in page
    page = client.get("/documents", params={"find": '"some wor*"'}).text
    assert '<mark class="found">some words</mark>' in page
    assert "by relevance, highest first" in page
    assert len(ids(page)) == 50
    pages = every(client, "/documents?find=return+f12")
    (doc_id,) = [one for part in pages for one in part]
    page = client.get(f"/documents/{doc_id}?find=return").text
    assert '<mark class="found">return</mark>' in page
    thinking = client.get("/documents", params={"find": "i read characters", "corpus": "code"}).text
    assert '<span class="chip tag">thinking</span>' in thinking
    assert "No document" in client.get("/documents", params={"find": "nosuchword"}).text
    assert "quote is open" in client.get("/documents", params={"find": '"some'}).text


@pytest.fixture(scope="module")
def patient(shown: Path) -> Iterator[TestClient]:
    """A client of a server with the usual limits."""
    opened = Inspector(Settings(str(shown / "store")))
    yield TestClient(build_app(opened, AccessPolicy()), base_url=HERE)
    opened.close()


@pytest.mark.parametrize(
    "parameters",
    [
        {"find": "words", "critic": "quality"},
        {"find": "words", "where": "lang LIKE 'e%'"},
        {"where": "lang LIKE 'e%'"},
        {"where": "source_id LIKE 'page-1%'", "sort": "length", "order": "up"},
    ],
)
def test_neighbours_lead_through_the_whole_list(
    patient: TestClient, parameters: dict[str, str]
) -> None:
    client = patient
    pages = every(client, "/documents?" + urlencode(parameters))
    listed = [one for part in pages for one in part]
    assert len(listed) > 20, client.get("/documents", params=parameters).text
    address = f"/documents/{listed[0]}?" + urlencode({"in": "web", **parameters})
    read = [listed[0]]
    for _ in range(20):
        found = re.search(
            r'rel="next" href="(/documents/([0-9a-f-]{36})[^"]*)"', client.get(address).text
        )
        assert found
        address = found[1].replace("&amp;", "&")
        read.append(found[2])
    assert read == listed[:21]
