"""The pages of mixes and saved selections."""

import html
from pathlib import Path

from inspector_pages import HERE, link
from shown_store import SCRIPT, WEB, make_mixes, make_store
from starlette.testclient import TestClient

from ixt_data.store.selections import save_selection
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings


def test_mix_with_other_weights_is_previewed(client: TestClient) -> None:
    asis = client.get("/mixes/best").text
    assert "59.7%" in asis
    assert "was" not in asis.partition('id="plan"')[2]
    changed = client.get("/mixes/best?weight.high=0.9&weight.rest=0.1").text
    assert "89.9%" in changed
    assert "was 59.7%" in changed
    refused = client.get("/mixes/best?weight.high=0.9&samples=100000&repeats.rest=1&repeats.high=1")
    assert "max_repeats limits the run" in refused.text
    wrong = client.get("/mixes/best?weight.high=-1")
    assert "greater than or equal to 0" in html.unescape(wrong.text)


def test_saved_selections_are_shown_and_used(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    save_selection(store, "german", "lang = 'de' AND score > 0.5", critic="quality", note=SCRIPT)
    mixes = make_mixes(tmp_path / "mixes")
    (mixes / "saved.yaml").write_text("critic: quality\nselections: [{use: german}]\n")
    inspector = Inspector(Settings(store.root, mixes))
    client = TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
    page = client.get("/mixes").text
    assert SCRIPT not in page
    found = client.get(link(page, "german") or "").text
    n = store.snapshot().selections["german"].documents
    assert 0 < n < WEB
    assert f'data-status="{n} documents"' in found
    for address in ("/mixes/saved", "/mixes/saved?weight.german=2"):
        assert f"{n} samples" in client.get(address).text
    inspector.close()
