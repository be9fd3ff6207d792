"""Lines in a log about long work; a terminal shows a bar instead."""

import io

import pytest
from rich.console import Console

from ixt_data.console import progress


def lines(unit: str, *steps: tuple[float, str, float | None]) -> list[str]:
    log = io.StringIO()
    with progress.progress_bar(Console(file=log, width=40), "critiquing", None, unit) as bar:
        for completed, note, total in steps:
            bar.update(completed, note, total)
    return log.getvalue().splitlines()


def test_log_gets_a_line_per_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 70.0, 80.0, 130.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    steps = [(100, "", 2000.0), (700, "ok 98%", None), (800, "", None), (1000, "ok 99%", None)]
    assert lines("documents", *steps) == [
        "critiquing: 700 of 2,000 documents, 10.0 documents/s, 0:02:10 left; ok 98%",
        "critiquing: 1,000 of 2,000 documents, 5.0 documents/s, 0:03:20 left; ok 99%",
    ]


def test_bytes_are_shown_as_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 100.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    assert lines("B", (5e8, "", None)) == ["critiquing: 500 MB, 5.0 MB/s"]


def test_slow_work_has_a_rate_per_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 240.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    assert lines("documents", (1, "", 12.0)) == [
        "critiquing: 1 of 12 documents, 0.2 documents/min, 0:44:00 left"
    ]


def test_short_work_prints_nothing() -> None:
    assert lines("documents", (1, "", None), (2, "", 2)) == []
