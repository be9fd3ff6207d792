"""The page of `ixt calibrate --plots`."""

import json
from pathlib import Path

import pytest
from calibrated_store import (
    Judge,
    as_json,
    calibrated_store,
    text_of,
    three,
)

from ixt_data.critique_runs.annotation import annotate
from ixt_data.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return calibrated_store(tmp_path)


def test_calibration_page_is_one_file(store: Store, tmp_path: Path) -> None:
    annotate(store, "web", Judge("thinker", three))
    lines = {"text": text_of(30), "score": [0, 0], "name": "<script>alert(1)</script>"}
    path = tmp_path / "canaries.jsonl"
    path.write_text(json.dumps(lines))
    page = tmp_path / "out/calibration.html"
    found = as_json(store, "--canaries", path, "--plots", page, code=1)
    assert found["plots"] == str(page)
    text = page.read_text()
    assert text.count("<svg") == 3 * 2 + 3
    assert "<script" not in text
    assert "http-equiv" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "length and noisy" in text
