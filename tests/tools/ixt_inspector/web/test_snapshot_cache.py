"""Stores that are too large to cache, and new commits."""

import time
from pathlib import Path

import pytest
from inspector_pages import HERE, every
from shown_store import Judge, make_store
from starlette.testclient import TestClient

from ixt_data.critique_runs.annotation import annotate
from ixt_data.store.store import Store
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings


def test_store_too_large_to_cache_has_the_same_pages(
    shown: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixt_inspector.web.snapshot_cache.MAX_CACHED_ROWS", 10)
    inspector = Inspector(Settings(str(shown / "store")))
    large = TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    for query in ("critic=style&sort=score", "where=lang+IS+NOT+NULL", "text=missing"):
        address = f"/documents?{query}"
        assert every(large, address) == every(client, address)
    for address in ("/", "/scores", "/critics"):
        assert large.get(address).status_code == 200
    inspector.close()


def test_new_commit_is_detected(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    inspector = Inspector(Settings(store.root))
    client = TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    assert "<h1>Snapshot 5</h1>" in client.get("/").text
    annotate(Store.open(store.root), "code", Judge("style", 0.2))
    until = time.monotonic() + 10
    while "<h1>Snapshot 6</h1>" not in client.get("/").text:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "<h1>Snapshot 5</h1>" in client.get("/?at=5").text
    inspector.close()
