"""Stores that are too large to cache, and new commits."""

import threading
import time
from pathlib import Path

import pytest
from inspector_pages import HERE, every
from shown_store import Judge, make_store
from small_stores import Length, add_documents
from starlette.testclient import TestClient

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import QueryError
from ixt_data.log import Snapshot
from ixt_data.store import Label, label_documents
from ixt_data.store.store import Store
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.listing import ListingColumns
from ixt_inspector.web.request import Inspector, Settings
from ixt_inspector.web.snapshot_cache import SnapshotViews


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


def test_listing_that_a_request_holds_is_not_dropped(
    shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(shown / "store")
    documents = sum(corpus.documents for corpus in store.snapshot().corpora.values())
    monkeypatch.setattr("ixt_inspector.web.snapshot_cache.MAX_CACHED_ROWS", documents)
    view = SnapshotViews(store).latest()

    held = view.listing(ListingColumns(view.critics[0]))
    other = view.listing(ListingColumns(view.critics[1]))
    count = f"SELECT count(*) AS n FROM {held.source} AS listing"
    assert view.query(count) == [{"n": documents}]
    gone = held.source
    del held
    with pytest.raises(QueryError, match=gone):
        view.query(f"SELECT 1 FROM {gone}")
    assert view.listing(ListingColumns(view.critics[1])) is other


def test_opening_an_old_version_blocks_no_page_of_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = SnapshotViews(make_store(tmp_path))
    latest = views.latest()
    is_opening, may_open = threading.Event(), threading.Event()
    snapshot = Store.snapshot

    def wait_and_open(store: Store, at: int | str | None = None) -> Snapshot:
        if at == 2:
            is_opening.set()
            assert may_open.wait(60)
        return snapshot(store, at)

    monkeypatch.setattr(Store, "snapshot", wait_and_open)
    opened: list[int] = []
    slow = threading.Thread(target=lambda: opened.append(views.at("2").version), daemon=True)
    slow.start()
    assert is_opening.wait(60)
    fast = threading.Thread(
        target=lambda: opened.extend((views.latest().version, views.at("3").version)), daemon=True
    )
    fast.start()
    fast.join(30)
    assert opened == [latest.version, 3]
    may_open.set()
    slow.join(60)
    assert opened[-1] == 2


def test_default_critic_covers_more_documents_than_labels_of_people(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "store")
    add_documents(store, ["one", "two", "three"])
    (labeled,) = store.documents(limit=1).arrow().to_pylist()
    label_documents(store, [Label(str(labeled["doc_id"]), "ana", 0.5)])
    view = SnapshotViews(store).latest()
    assert (view.critics, view.default_critic) == (["human"], "human")
    annotate(store, "web", Length())
    view = SnapshotViews(store).latest()
    assert (view.critics, view.default_critic) == (["human", "length"], "length")
