"""Progress with rate and remaining time: a bar on a terminal, lines in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

EVERY = 60.0
"""Seconds between two lines in a log."""


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text(f"- {unit}/s")
        return Text(f"{speed / 1e6:.1f} MB/s" if unit == "B" else f"{speed:,.0f} {unit}/s")


class ProgressBar(Protocol):
    """What shows how far something is."""

    def update(self, completed: float, note: str = "", total: float | None = None) -> None:
        """Sets how much is done, a short note shown beside it, and the total once it is known."""


class _RunningBar(ProgressBar):
    """One running progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, completed: float, note: str = "", total: float | None = None) -> None:
        self._progress.update(self._task, completed=completed, note=note, total=total)


class _Lines(ProgressBar):
    """A line now and then: work that is over at once says nothing."""

    def __init__(self, console: Console, title: str, total: float | None, unit: str) -> None:
        self._console, self._title, self._total = console, title, total
        self._scale = 1e6 if unit == "B" else 1.0
        self._unit = "MB" if unit == "B" else unit
        self._done, self._said = 0.0, time.monotonic()

    def update(self, completed: float, note: str = "", total: float | None = None) -> None:
        self._total = total or self._total
        seconds = (now := time.monotonic()) - self._said
        if seconds < EVERY:
            return
        rate = (completed - self._done) / seconds
        whole = f" of {self._number(self._total)}" if self._total else ""
        parts = [f"{self._title}: {self._number(completed)}{whole} {self._unit}"]
        parts.append(f"{rate / self._scale:,.1f} {self._unit}/s")
        if self._total and rate > 0:
            parts.append(f"{timedelta(seconds=round((self._total - completed) / rate))} left")
        line = ", ".join(parts) + (f"; {note}" if note else "")
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._said, self._done = now, completed

    def _number(self, value: float) -> str:
        return f"{value / self._scale:,.0f}"


@contextmanager
def shown(console: Console, title: str, total: float | None, unit: str) -> Iterator[ProgressBar]:
    """A bar while the block runs, or lines where nobody looks; `unit` "B" is bytes, "%" shares."""
    amounts: dict[str, tuple[ProgressColumn, ...]] = {
        "B": (DownloadColumn(), _Rate()),
        "%": (TaskProgressColumn(),),
    }
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *amounts.get(unit, (MofNCompleteColumn(), _Rate())),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    if not console.is_terminal:
        yield _Lines(console, title, total, unit)
        return
    with Progress(*columns, console=console, transient=True) as progress:
        yield _RunningBar(progress, progress.add_task(title, total=total, unit=unit, note=""))
