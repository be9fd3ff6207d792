"""The page of critique runs."""

import re
from pathlib import Path

from inspector_pages import HERE
from shown_store import make_store
from starlette.testclient import TestClient

from ixt_data.critique_runs.journal import Journal, journal_folder
from ixt_data.critique_runs.leases import Leases
from ixt_data.records import Critique
from ixt_data.store.critique_rows import unit_name
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings


def test_units_in_progress_are_shown(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    snapshot = store.snapshot()
    critic = next(c for c in snapshot.critics.values() if c.name == "style")
    shard = snapshot.text_shards({"code"})[0]
    unit = unit_name(critic.id, shard)
    inspector = Inspector(Settings(store.root))
    client = TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    assert "No active workers." in client.get("/critique-runs").text
    with (
        Leases(store.storage, critic.id).acquire(unit),
        Journal(journal_folder(store), critic.id, unit) as journal,
    ):
        for number in range(3):
            journal.append(Critique(bytes([number] * 16), "ok" if number else "timeout"))
        page = client.get("/critique-runs").text
    assert ">active<" in page
    assert "3 of 20" in page
    assert "1 failed" in page
    assert "and 3 critiques in journals" in page
    inspector.close()


def test_coverage_of_labels_counts_labels(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    doc_ids = store.sql("SELECT doc_id::VARCHAR FROM documents WHERE corpus = 'code'").fetchall()
    for (doc_id,) in doc_ids[:5]:
        store.label(doc_id, by="ana", score=0.5)
    inspector = Inspector(Settings(store.root))
    client = TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    page = re.sub(r"<[^>]+>", " ", client.get("/critique-runs").text)
    assert re.search(rf"human\s+human-\w+\s+code\s+1 of 1\s+5 of {len(doc_ids)}\s+25.0%", page)
    overview = client.get("/").text
    assert "coverage by human" in overview
    assert re.search(r"code</a>.*\n(.*\n)*?.*25%", overview)
    inspector.close()
