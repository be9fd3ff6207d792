"""Every page, its errors, and untrusted documents."""

import html
import re
from pathlib import Path

import pytest
from inspector_pages import HERE, PAGES
from shown_store import SCRIPT
from starlette.testclient import TestClient

from ixt_data.store.store import Store
from ixt_inspector.web.access import HEADERS, AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings


@pytest.mark.parametrize("address", PAGES)
def test_every_page_runs_no_script_of_documents(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200
    assert SCRIPT not in answer.text
    assert not re.search(
        r"<script(?! src=\"/static/)|\bon\w+=|\sstyle=|<style",
        answer.text,
    )
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_untrusted_document_is_text(client: TestClient, inspector: Inspector) -> None:
    sql = "SELECT doc_id FROM documents WHERE source_id = 'hostile-7'"
    doc_id = inspector.views.latest().query(sql)[0]["doc_id"]
    page = client.get(f"/documents/{doc_id}").text
    assert SCRIPT not in page
    assert "{{ 7 * 7 }}" in page
    for hidden in ("202E", "202C", "001B", "0007", "200B"):
        assert f"⟨U+{hidden}⟩" in page
    assert not set("\u202e\u202c\x1b\x07\u200b") & set(page)
    file = client.get(f"/documents/{doc_id}/text")
    assert SCRIPT in file.text
    assert file.headers["content-type"].startswith("text/plain")
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("/documents?critic=unknown", 400, "valid: quality, style"),
        ("/documents?low=high", 400, "is not a number"),
        ("/documents?after=x", 200, "not a table position"),
        ("/documents/zz", 404, "not a doc_id"),
        ("/documents/" + "0" * 32, 404, "no document"),
        ("/?at=nothing", 404, "no tag"),
        ("/?at=999", 404, "does not exist"),
        ("/mixes/..%2Fbest", 404, "page does not exist"),
        ("/mixes/broken2", 404, "mix 'broken2' does not exist"),
        ("/snapshots/diff?from=5&to=1", 400, "the earlier one"),
        ("/nothing", 404, "page does not exist"),
        ("/static/%2e%2e/call.py", 404, "page does not exist"),
    ],
)
def test_errors_state_the_cause(
    client: TestClient, address: str, status: int, message: str
) -> None:
    answer = client.get(address)
    assert answer.status_code == status
    assert message in html.unescape(answer.text)
    assert answer.headers["content-security-policy"]


def test_address_selects_the_snapshot(client: TestClient) -> None:
    page = client.get("/?at=first-judge").text
    assert "<h1>Snapshot 4</h1>" in page
    assert 'href="/documents?at=first-judge"' in page
    critics = client.get("/documents?at=first-judge&critic=style")
    assert critics.status_code == 400
    assert client.get("/documents?at=5&critic=style").status_code == 200


def test_empty_store_has_pages(tmp_path: Path) -> None:
    inspector = Inspector(Settings(Store.init(tmp_path / "empty").root))
    client = TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    for address in PAGES:
        if "mixes/" not in address and "diff" not in address:
            assert client.get(address).status_code == 200, address
    assert "ixt ingest" in client.get("/").text
    inspector.close()
