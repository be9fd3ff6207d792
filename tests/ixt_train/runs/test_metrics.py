"""The rows of metrics.jsonl, complete or not."""

import json
from pathlib import Path
from typing import Any

import pytest

from ixt_train.runs.metrics import MetricsWriter, read_metrics


def row(step: int, **fields: Any) -> str:
    return json.dumps({"step": step, "tokens": 10 * step, "seconds": 1.0} | fields)


def write(folder: Path, *lines: str, end: str = "\n") -> Path:
    path = folder / "metrics.jsonl"
    path.write_text("\n".join(lines) + end)
    return path


def test_read_metrics_without_a_file_is_empty(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_read_metrics_drops_a_truncated_last_line(tmp_path: Path) -> None:
    path = write(tmp_path, row(1, loss=2.0), row(2, loss=1.0)[:9], end="")
    assert [r["step"] for r in read_metrics(path)] == [1]
    assert read_metrics(tmp_path) == read_metrics(path)


def test_read_metrics_of_a_repeated_step_returns_the_latest_row(tmp_path: Path) -> None:
    path = write(tmp_path, row(1, loss=3.0), row(1, eval={"a": 1}), row(1, loss=2.0))
    assert [r.get("loss") for r in read_metrics(path)] == [2.0, None]


def test_read_metrics_skips_a_broken_line_and_names_it(tmp_path: Path) -> None:
    path = write(tmp_path, row(1, loss=3.0), '{"step": 2', row(3, loss=1.0))
    with pytest.warns(UserWarning, match=rf"{path} line 2: not a row of metrics"):
        assert [r["step"] for r in read_metrics(path)] == [1, 3]


def test_resume_supersedes_later_rows_and_changes_none(tmp_path: Path) -> None:
    path = write(tmp_path, *(row(step, loss=1.0) for step in range(1, 6)))
    before = path.read_bytes()
    writer = MetricsWriter(path)
    writer.resume_after(3)
    writer.write({"step": 4, "loss": 2.0})
    assert path.read_bytes().startswith(before)
    assert [(r["step"], r["loss"]) for r in read_metrics(path)] == [(1, 1), (2, 1), (3, 1), (4, 2)]


@pytest.mark.filterwarnings("error")
def test_crash_at_any_byte_of_a_resume_loses_no_row(tmp_path: Path) -> None:
    whole = write(tmp_path, row(1, loss=3.0), row(2, loss=2.0))
    start = len(whole.read_bytes())
    writer = MetricsWriter(whole)
    writer.resume_after(1)
    writer.write({"step": 2, "loss": 9.0})
    data = whole.read_bytes()
    for cut in range(start, len(data) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(data[:cut])
        assert read_metrics(path)[0]["loss"] == 3.0
        again = MetricsWriter(path)
        again.resume_after(1)
        again.write({"step": 2, "loss": 9.0})
        assert [r["loss"] for r in read_metrics(path)] == [3.0, 9.0]
