"""The page of two snapshots: changes down to documents, with links to their versions."""

import html
import re
from collections.abc import Iterator

import pytest
from inspector_pages import HERE
from small_stores import Length, add_documents
from starlette.testclient import TestClient

from ixt_data.analysis import enrich, load_enricher
from ixt_data.critique_runs.annotation import annotate
from ixt_data.store.store import Store
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = Store.init(tmp_path_factory.mktemp("snapshots") / "store")
    add_documents(store, [f"text {n}" for n in range(4)])
    annotate(store, "web", Length())
    enrich(store, "statistics", load_enricher("statistics"), workers=1)
    store.tag("v1")
    add_documents(store, [f"added {n}" for n in range(30)])
    annotate(store, "web", Length(version=2))
    store.tag("v2")
    inspector = Inspector(Settings(store.root))
    yield TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    inspector.close()


def test_difference_lists_documents_with_links_to_their_versions(client: TestClient) -> None:
    page = client.get("/snapshots/diff?from=v1&to=v2").text
    assert "20 of 30 documents" in page
    assert "Scores changed" in page
    assert "4 of 4 documents, the largest changes first" in page
    links = [
        html.unescape(one) for one in re.findall(r'href="(/documents/[0-9a-f-]{36}[^"]*)"', page)
    ]
    assert len(links) == 20 + 2 * 4
    assert {client.get(link).status_code for link in links} == {200}
    more = client.get("/snapshots/diff?from=v1&to=v2&all=1").text
    assert "30 of 30 documents" in more


def test_new_columns_are_listed_without_their_documents(client: TestClient) -> None:
    page = client.get("/snapshots/diff?from=1&to=v1").text
    assert "n_words" in page
    assert "Values of" not in page
