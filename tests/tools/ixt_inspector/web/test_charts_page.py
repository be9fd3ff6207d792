"""Scores by any column: exact counts, links to exactly the counted documents, parts, files."""

import html
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspector_pages import HERE
from shown_store import Judge
from starlette.testclient import TestClient

from ixt_data.critique_runs.annotation import annotate
from ixt_data.ingestion import ingest
from ixt_data.store.store import Store
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings
from ixt_inspector.web.score_charts import MAX_BINS, bin_edges

DOCUMENTS = 300


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    folder: Path = tmp_path_factory.mktemp("charts")
    store, chooser = Store.init(folder / "store"), random.Random(0)
    records = [
        {
            "id": f"page-{n}",
            "source": f"site-{n % 3}",
            "text": f"Document {n}. " + "words " * round(2 ** (10 * chooser.random())),
            "lang": chooser.choice(["en", "de", "", None]),
            "url": f"https://example.test/{n // 2}",
            "tenth": n / 10 if n % 9 else None,
            "same": 7,
            "extreme": (1 if n % 2 else -1) * 1e308,
            "huge": n / DOCUMENTS * 1e308,
            "tiny": 5e-324 * (n % 2),
        }
        for n in range(DOCUMENTS)
    ]
    (folder / "web.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    ingest(store, "web", [folder / "web.jsonl"])
    for critic in (Judge("quality"), Judge("style", 0.2)):
        annotate(store, "web", critic)
    inspector = Inspector(Settings(str(folder / "store")))
    yield inspector
    inspector.close()


@pytest.fixture(scope="module")
def client(opened: Inspector) -> TestClient:
    return TestClient(build_app(opened, AccessPolicy()), base_url=HERE)


def rows(page: str) -> list[tuple[str, int]]:
    """Return the link and the count of each bin."""
    found = re.findall(
        r'<th scope="row"><a href="([^"]*)">[^<]*</a></th><td class="num">([\d,]+)', page
    )
    return [(html.unescape(address), int(n.replace(",", ""))) for address, n in found]


def total(page: str) -> int:
    found = re.search(r'data-status="([\d,]+) document', page)
    return int(found[1].replace(",", "")) if found else 0


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("length", DOCUMENTS),
        ("source", DOCUMENTS),
        ("entropy", DOCUMENTS),
        ("column.lang", DOCUMENTS),
        ("column.tenth", DOCUMENTS - 34),
        ("column.same", DOCUMENTS),
        ("critic.style", DOCUMENTS),
    ],
)
def test_bins_lead_to_exactly_the_documents_that_they_count(
    client: TestClient, x: str, expected: int
) -> None:
    answer = client.get("/charts", params={"x": x})
    assert answer.status_code == 200
    found = rows(answer.text)
    assert sum(n for _, n in found) == expected
    for address, n in found:
        assert total(client.get(address).text) == n, address


def test_column_of_many_texts_shows_the_most_frequent_ones(client: TestClient) -> None:
    found = rows(client.get("/charts?x=column.url").text)
    assert len(found) == MAX_BINS
    assert {n for _, n in found} == {2}
    assert total(client.get(found[0][0]).text) == 2


@pytest.mark.parametrize("x", ["length", "column.tenth", "critic.style"])
def test_part_of_a_chart_is_counted_and_leads_to_its_documents(client: TestClient, x: str) -> None:
    bounds = {"length": ("100", "900"), "column.tenth": ("3.5", "20"), "critic.style": ("0.3", "1")}
    low, high = bounds[x]
    parameters = {"x": x, "from": low, "to": high, "low": "0.3", "high": "0.8", "corpus": "web"}
    page = client.get("/charts", params=parameters).text
    found = re.search(r"<strong>(\d+) documents</strong> in this part. <a href=\"([^\"]*)\"", page)
    assert found
    assert 0 < int(found[1]) < DOCUMENTS
    assert total(client.get(html.unescape(found[2])).text) == int(found[1])


@pytest.mark.parametrize("name", ["extreme", "huge", "tiny"])
def test_numbers_near_the_limits_of_a_float_are_drawn(client: TestClient, name: str) -> None:
    page = client.get("/charts", params={"x": f"column.{name}"})
    assert page.status_code == 200
    found = re.search(r'data-chart="([^"]*)"', page.text)
    assert found
    assert not re.search("Infinity|NaN", found[1])
    bins = rows(page.text)
    assert sum(n for _, n in bins) == DOCUMENTS
    for address, n in bins:
        assert total(client.get(address).text) == n
    file = client.get("/charts", params={"x": f"column.{name}", "format": "svg"})
    assert file.status_code == 200


@pytest.mark.parametrize("kind", ["png", "svg", "html"])
@pytest.mark.parametrize("x", ["length", "column.lang"])
def test_chart_is_saved_as_a_file(client: TestClient, kind: str, x: str) -> None:
    answer = client.get("/charts", params={"x": x, "format": kind})
    assert answer.status_code == 200
    assert f'.{kind}"' in answer.headers["content-disposition"]


def test_unknown_names_are_refused(client: TestClient) -> None:
    for name, value in {"x": "column.nosuch", "critic": "nosuch", "format": "exe"}.items():
        assert client.get("/charts", params={name: value}).status_code == 400
    assert client.get("/charts", params={"from": "a"}).status_code == 400


@pytest.mark.parametrize(
    ("low", "high"),
    [
        *((0, 1), (3, 3), (1, 1e6), (-5, 0.25), (0.001, 0.002), (7, 8), (0, 1e9)),
        *((-1e308, 1e308), (0, 1e308), (0, 5e-324), (5e-324, 1e308), (1e-308, 3e-308)),
    ],
)
def test_edges_are_round_increasing_and_few(low: float, high: float) -> None:
    edges = bin_edges(low, high)
    assert (edges[0], edges[-1]) == (low, high)
    assert len(edges) <= MAX_BINS + 2
    assert low == high or edges == sorted(set(edges))


def test_histogram_of_scores_is_saved_without_links(client: TestClient) -> None:
    answer = client.get("/scores?critic=quality&format=svg")
    assert 'filename="Scores-by-quality.svg"' in answer.headers["content-disposition"]
    assert "/documents?" not in answer.text
    assert client.get("/scores?format=exe").status_code == 400
    chart = re.search(r'href="(/charts[^"]*)"[^>]*>As a chart', client.get("/critics").text)
    assert chart
    assert client.get(html.unescape(chart[1])).status_code == 200
