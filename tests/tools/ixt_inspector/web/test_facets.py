"""Counts of values by column: exact, linked, and removable."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspector_pages import HERE, ids
from starlette.testclient import TestClient

from ixt_data.ingestion import ingest
from ixt_data.store.store import Store
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings

QUOTED = 'the "lang" of; it'
TEXTS = ["en", "de", "it's", ""]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    folder: Path = tmp_path_factory.mktemp("facets")
    store = Store.init(folder / "store")
    records = [
        {
            "id": f"page-{n}",
            "source": f"site-{n % 3}",
            "text": f"Document {n} has some words.",
            QUOTED: TEXTS[n % 4] if n % 5 else None,
            "level": n % 3,
            "good": n % 2 == 0,
            "url": f"https://example.test/{n}",
            "rating": float("nan") if n == 7 else n / 7,
            "odd": "a\0b" if n % 2 else "a",
            "seen": f"2024-01-{n % 28 + 1:02}",
        }
        for n in range(120)
    ]
    path = folder / "web.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records).replace("NaN", "null"))
    ingest(store, "web", [path])
    inspector = Inspector(Settings(str(folder / "store")))
    yield inspector
    inspector.close()


@pytest.fixture(scope="module")
def client(opened: Inspector) -> TestClient:
    return TestClient(build_app(opened, AccessPolicy()), base_url=HERE)


def counts(page: str) -> dict[str, dict[str, tuple[int, str]]]:
    """Return count and link of each value, by title of the column."""
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for title, rest in re.findall(r'<h3 id="facet-\d+">(.*?)</h3>\s*<ul[^>]*>(.*?)</ul>', page):
        rows = re.findall(
            r'href="([^"]*)" hx-get.*?<span>(.*?)</span>.*?<span class="num">([\d,]+)', rest
        )
        found[html.unescape(title)] = {
            html.unescape(value): (int(n), html.unescape(address)) for address, value, n in rows
        }
    return found


def total(page: str) -> int:
    found = re.search(r'data-status="(\d+) document', page)
    return int(found[1]) if found else 0


def test_facets_are_the_columns_with_few_values(client: TestClient) -> None:
    found = counts(client.get("/documents").text)
    assert set(found) == {"source", QUOTED, "level", "good", "seen"}
    assert found["level"] == {
        level: (40, f"/documents?is.level={level}") for level in ("0", "1", "2")
    }
    assert found[QUOTED]["(none)"][0] == 24
    assert found[QUOTED]["(empty)"][0] == 24


def test_every_value_leads_to_the_documents_that_it_counts(client: TestClient) -> None:
    for values in counts(client.get("/documents?is.level=1").text).values():
        for n, address in values.values():
            page = client.get(address).text
            if "is.level=1" in address:
                assert total(page) == n, address


def test_chosen_value_is_removed_by_its_link_and_others_keep_their_counts(
    client: TestClient,
) -> None:
    page = client.get("/documents?is.level=1&is.good=true").text
    assert total(page) == 20
    found = counts(page)
    # The counts of `level` are those of the other filters.
    assert {level: n for level, (n, _) in found["level"].items()} == {"0": 20, "1": 20, "2": 20}
    assert found["level"]["1"][1] == "/documents?is.good=true"
    assert found["level"]["2"][1] == "/documents?is.level=2&is.good=true"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({f"is.{QUOTED}": "it's"}, 24),
        ({f"no.{QUOTED}": "value"}, 24),
        ({f"no.{QUOTED}": "text"}, 24),
        ({"is.url": "https://example.test/17"}, 1),
        ({"is.url": "' OR true --"}, 0),
        ({"is.level": "2", "where": "n_bytes > 0 AND url LIKE '%1%'"}, 12),
        ({"is.level": "7"}, 0),
    ],
)
def test_filters_by_own_columns_match_exactly(
    client: TestClient, query: dict[str, str], expected: int
) -> None:
    page = client.get("/documents", params=query).text
    assert total(page) == expected
    # The form keeps them.
    name, value = next(iter(query.items()))
    field = f'name="{html.escape(name)}" value="{html.escape(value)}"'
    assert field.replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page.replace(
        "&quot;", "&#34;"
    )


def test_unknown_column_is_named_with_the_known_ones(client: TestClient) -> None:
    for query in (
        {"is.lang": "en"},
        {"show": "column.lang"},
        {"sort": "column.lang"},
        {"no.lang": "value"},
    ):
        answer = client.get("/documents", params=query)
        assert answer.status_code == 400
        assert "lang" in answer.text
        assert "rating" in answer.text


@pytest.mark.parametrize("column", [QUOTED, "level", "good", "url", "rating", "seen"])
@pytest.mark.parametrize("where", ["", "url LIKE 'https%'"])
def test_table_is_sorted_by_any_column_in_both_directions(
    client: TestClient, opened: Inspector, column: str, where: str
) -> None:
    quoted = '"' + column.replace('"', '""') + '"'
    for order, words in (("up", "ASC"), ("down", "DESC")):
        expected = [
            str(row["doc_id"])
            for row in opened.views.latest().query(
                f"SELECT doc_id FROM documents ORDER BY {quoted} {words} NULLS LAST, doc_id, corpus"
            )
        ]
        seen: list[str] = []
        address: str | None = "/documents"
        parameters = {"sort": f"column.{column}", "order": order, "where": where}
        answer = client.get(address, params=parameters)
        while True:
            seen += ids(answer.text)
            found = re.search(r'href="([^"]+)"[^>]*>Next</a>', answer.text)
            if not found:
                break
            answer = client.get(html.unescape(found[1]))
        assert seen == expected
        back = re.search(r'href="([^"]+)"[^>]*>Previous</a>', answer.text)
        assert back
        assert ids(client.get(html.unescape(back[1])).text) == expected[50:100]


def test_chosen_columns_are_shown_and_stay_in_links(client: TestClient) -> None:
    query = {"show": ["text", f"column.{QUOTED}", "column.rating"], "sort": "id"}
    page = client.get("/documents", params=query).text
    assert "has some words." in page
    assert html.escape(QUOTED) in page.replace("&#34;", "&quot;")
    assert 'th scope="col" class="num">score' not in page
    following = re.search(r'href="([^"]+)"[^>]*>Next</a>', page)
    assert following
    assert following[1].count("show=") == 3
    row = re.search(r'<td class="wide"><a href="([^"]+)"', page)
    assert row
    document = client.get(html.unescape(row[1])).text
    back = re.search(r'href="([^"]+)">Back to the table', document)
    assert back
    assert html.unescape(back[1]).count("show=") == 3


def test_store_too_large_to_cache_has_the_same_counts(
    client: TestClient, opened: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixt_inspector.web.snapshot_cache.MAX_CACHED_ROWS", 10)
    inspector = Inspector(opened.settings)
    large = TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    for address in ("/documents?is.level=1", "/documents?sort=column.url"):
        expected, found = (one.get(address).text for one in (client, large))
        assert counts(found) == counts(expected)
        assert ids(found) == ids(expected)
    inspector.close()
