"""The pages of near-duplicates: clusters, one cluster, and two documents side by side."""

import html
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspector_pages import HERE
from markupsafe import escape
from shown_store import SCRIPT
from starlette.testclient import TestClient

from ixt_data.ingestion import ingest
from ixt_data.store.store import Store
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings
from ixt_tools.curate.near_duplicates import mark_near_duplicates

SIZES = (5, 3, 2)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("duplicates")
    store = Store.init(folder / "store")
    chooser = random.Random(0)
    records = []
    for cluster, size in enumerate(SIZES):
        words = [f"w{chooser.randrange(9_999)}" for _ in range(200)]
        for n in range(size):
            text = " ".join([*words[: 198 + (n == 0)], f"end{n}", SCRIPT])
            records.append({"id": f"page-{cluster}-{n}", "text": text, "lang": "en"})
    for n in range(4):
        alone = " ".join(f"a{chooser.randrange(9_999)}" for _ in range(50))
        records.append({"id": f"alone-{n}", "text": alone, "lang": "de"})
    (folder / "web.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    ingest(store, "web", [folder / "web.jsonl"])
    mark_near_duplicates(store, workers=1)
    inspector = Inspector(Settings(str(folder / "store")))
    yield TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    inspector.close()


def links(page: str, start: str) -> list[str]:
    return [html.unescape(one) for one in re.findall(rf'href="({start}[^"]*)"', page)]


def test_clusters_are_listed_the_largest_first(client: TestClient) -> None:
    page = client.get("/duplicates").text
    assert re.findall(r'<td class="num">(\d+)</td><td class="wide">', page) == ["5", "3", "2"]
    assert "3 clusters of more than one document, with 7 duplicates" in page
    assert "page-0-0" in page
    assert "alone" not in page
    assert "does not exist" in client.get("/duplicates?column=lang").text
    assert "not a doc_id" in client.get("/duplicates?cluster=' OR true").text
    missing = client.get("/duplicates?cluster=00000000-0000-0000-0000-000000000000")
    assert missing.status_code == 404


def test_cluster_leads_to_its_documents_and_their_differences(client: TestClient) -> None:
    (first, *_) = links(client.get("/duplicates").text, r"/duplicates\?column")
    page = client.get(first).text
    assert "5 near-duplicates" in page
    compared = links(page, "/duplicates/difference")
    assert len(compared) == 4
    (table,) = links(page, r"/documents\?is\.near_dup")
    assert 'data-status="5 documents"' in client.get(table).text
    difference = client.get(compared[0]).text
    (removed,), (added,) = (
        re.findall(rf"<{tag}>(.*?)</{tag}>", difference) for tag in ("del", "ins")
    )
    assert removed.endswith("end0 ")
    assert re.fullmatch(r"end\d ", added)
    assert SCRIPT not in difference
    assert str(escape(SCRIPT)) in difference
    # A document links to its near-duplicates, and to the form.
    document = client.get(links(page, "/documents/[0-9a-f]")[1]).text
    assert len(links(document, "/duplicates/difference")) == 4
    assert 'action="/duplicates/difference"' in document


def test_documents_are_compared_by_any_name(client: TestClient) -> None:
    page = client.get("/duplicates/difference?a=page-0-1&b=alone-1").text
    assert '<th scope="row">lang</th><td class="value">en</td><td class="value">de</td>' in page
    same = client.get("/duplicates/difference?a=page-0-1&b=page-0-1").text
    assert "have the same words" in same
    assert "nosuch" in client.get("/duplicates/difference?a=page-0-1&b=nosuch").text
    assert client.get("/duplicates/difference?a=page-0-1").status_code == 200


def test_store_without_clusters_says_how_to_find_them(tmp_path: Path) -> None:
    inspector = Inspector(Settings(Store.init(tmp_path / "S").root))
    client = TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    assert "ixt dedupe" in client.get("/duplicates").text
    inspector.close()
