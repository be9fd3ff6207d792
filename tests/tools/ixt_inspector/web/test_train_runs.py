"""The page of train runs: progress, speed, and what a run reads."""

import json
import os
import time
from pathlib import Path

from starlette.testclient import TestClient

from ixt_inspector.web.request import Inspector


def write_run(folder: Path, steps: int, planned: int) -> Path:
    folder.mkdir(parents=True)
    rows = [
        {
            "step": step,
            "tokens": 1000 * step,
            "samples": 4 * step,
            "seconds": 2.0 * step,
            "loss": 3 - step / 10,
            "row_fill": 0.91,
            "tokens_per_second": 1234.0,
            "mix": {
                "tokens": {
                    "selection": {"good": 0.6, "rest": 0.4},
                    "feedback": {"both": 1.0},
                    "score": {"0-0.5": 0.3, "0.5-1": 0.7},
                },
                "loss": {"score": {"0-0.5": 3.5 - step / 10, "0.5-1": 2.5 - step / 10}},
            },
        }
        for step in range(1, steps + 1)
    ]
    metrics = folder / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = {"samples": 4 * planned, "digest": "abc", "snapshot": 1}
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "config.yaml").write_text("global_batch_size: 4\n")
    return metrics


def test_page_of_a_run_shows_its_progress_and_what_it_reads(
    client: TestClient, inspector: Inspector
) -> None:
    assert inspector.settings.runs is not None
    metrics = write_run(inspector.settings.runs / "live", 5, 20)
    page = client.get("/train-runs?run=live").text
    assert "5 of 20" in page
    assert "training" in page
    assert "left" in page
    assert 'hx-trigger="every 5s"' in page
    for title in ("Share of tokens by selection", "Share of tokens by score", "loss by score"):
        assert title in page
    # One name needs no chart.
    assert "by feedback" not in page
    old = time.time() - 3600
    os.utime(metrics, (old, old))
    page = client.get("/train-runs?run=live").text
    assert "stopped" in page
    assert "every 5s" not in page
    write_run(inspector.settings.runs / "done", 5, 5)
    page = client.get("/train-runs?run=done").text
    assert "complete" in page
    assert "every 5s" not in page
