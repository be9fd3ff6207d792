"""The page of train runs: progress, speed, and what a run reads."""

import json
import os
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ixt_inspector.web.request import Inspector
from ixt_inspector.web.train_runs import find_run_folders


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


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.yaml", "a: [1"),
        ("config.yaml", "- 1"),
        ("config.yaml", "global_batch_size: 0"),
        ("plan.json", '{"samples"'),
        ("plan.json", '{"samples": null}'),
        ("metrics.jsonl", '{"step": 1, "accuracy": 0.5}\n'),
        ("metrics.jsonl", ""),
    ],
)
def test_odd_files_of_one_run_leave_the_others_shown(
    client: TestClient, inspector: Inspector, file: str, text: str
) -> None:
    root = inspector.settings.runs
    assert root is not None
    name = f"odd {file} {len(text)}"
    write_run(root / name, 5, 20)
    write_run(root / f"{name} & good", 5, 20)
    (root / name / file).write_text(text)
    page = client.get("/train-runs")
    assert page.status_code == 200
    assert f"{name} &amp; good" in page.text


def test_losses_that_are_not_finite_leave_gaps(client: TestClient, inspector: Inspector) -> None:
    assert inspector.settings.runs is not None
    metrics = write_run(inspector.settings.runs / "nan", 5, 20)
    row = {"step": 6, "tokens": 6000, "seconds": 12.0, "samples": 24, "loss": None}
    row["mix"] = {"tokens": {"selection": {"good": 1.0}}, "loss": {"score": {"0-0.5": None}}}
    with metrics.open("a") as file:
        file.write(json.dumps(row) + "\n")
    page = client.get("/train-runs?run=nan").text
    assert "6 of 20" in page
    assert "loss by score" in page


def test_search_does_not_follow_links_to_folders_of_runs(tmp_path: Path) -> None:
    for name in ("runs/a", "runs/group/b", "elsewhere/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").touch()
    root = tmp_path / "runs"
    (root / "loop").symlink_to(root)
    (root / "all").symlink_to(tmp_path)
    (root / "linked").symlink_to(tmp_path / "elsewhere" / "c")
    assert set(find_run_folders(root)) == {"a", "group/b", "linked"}
    (tmp_path / "link").symlink_to(root)
    assert set(find_run_folders(tmp_path / "link")) == {"a", "group/b", "linked"}
