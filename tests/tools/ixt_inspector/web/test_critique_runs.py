"""The page of critique runs."""

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
