"""The rows of metrics.jsonl, complete or not."""

import json
from pathlib import Path
from typing import Any

import pytest

from ixt_data.errors import CorruptError
from ixt_train.runs.metrics import read_metrics


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


def test_read_metrics_of_a_broken_line_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, row(1, loss=3.0), '{"step": 2', row(3, loss=1.0))
    with pytest.raises(CorruptError, match=rf"{path} line 2: not a row of metrics"):
        read_metrics(path)
