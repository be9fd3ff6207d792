"""Progress with rate and remaining time: a bar on a terminal or in a notebook, lines in a log."""

import html
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

LINE_SECONDS = 30.0
"""Seconds between two lines in a log."""


class _Rate(ProgressColumn):
    """A column with units per second."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text(f"- {unit}/s")
        return Text(f"{speed / 1e6:.1f} MB/s" if unit == "B" else _format_rate(speed, unit))


class ProgressBar(Protocol):
    """A display of progress."""

    def update(self, completed: float, note: str = "", total: float | None = None) -> None:
        """Set what is done, a short note, and the total once it is known."""


class _RunningBar(ProgressBar):
    """A progress bar on a terminal."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, completed: float, note: str = "", total: float | None = None) -> None:
        self._progress.update(self._task, completed=completed, note=note, total=total)


class _NotebookBar(ProgressBar):
    """A progress bar in the output of a notebook's cell."""

    def __init__(self, title: str, total: float | None, unit: str) -> None:
        from IPython.display import HTML, display

        self._html, self._title, self._total, self._unit = HTML, title, total, unit
        self._start = self._shown_at = time.monotonic()
        self._handle = display(HTML(self._page(0.0, "")), display_id=True)

    def update(self, completed: float, note: str = "", total: float | None = None) -> None:
        self._total = total or self._total
        now = time.monotonic()
        if now - self._shown_at >= 0.2 or completed == self._total:
            self._handle.update(self._html(self._page(completed, note)))
            self._shown_at = now

    def _page(self, completed: float, note: str) -> str:
        seconds = time.monotonic() - self._start
        value = f' value="{completed}" max="{self._total}"' if self._total else ""
        scale, unit, digits = (1e6, "MB", 1) if self._unit == "B" else (1.0, self._unit, 0)
        of_total = f" of {self._total / scale:,.{digits}f}" if self._total else ""
        parts = [f"{completed / scale:,.{digits}f}{of_total} {unit}"]
        parts.append(str(timedelta(seconds=int(seconds))))
        if seconds > 0:
            parts.append(_format_rate(completed / scale / seconds, unit))
        text = html.escape(", ".join(filter(None, (*parts, note))))
        return f"{html.escape(self._title)} <progress{value}></progress> {text}"


class _Lines(ProgressBar):
    """Progress as a line per half minute in a log; short work prints nothing."""

    def __init__(self, console: Console, title: str, total: float | None, unit: str) -> None:
        self._console, self._title, self._total = console, title, total
        self._scale = 1e6 if unit == "B" else 1.0
        self._unit = "MB" if unit == "B" else unit
        self._done, self._printed_at = 0.0, time.monotonic()

    def update(self, completed: float, note: str = "", total: float | None = None) -> None:
        self._total = total or self._total
        seconds = (now := time.monotonic()) - self._printed_at
        if seconds < LINE_SECONDS:
            return
        rate = (completed - self._done) / seconds
        of_total = f" of {self._number(self._total)}" if self._total else ""
        parts = [f"{self._title}: {self._number(completed)}{of_total} {self._unit}"]
        parts.append(_format_rate(rate / self._scale, self._unit))
        if self._total and rate > 0:
            parts.append(f"{timedelta(seconds=round((self._total - completed) / rate))} left")
        line = ", ".join(parts) + (f"; {note}" if note else "")
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._printed_at, self._done = now, completed

    def _number(self, value: float) -> str:
        return f"{value / self._scale:,.0f}"


def _format_rate(rate: float, unit: str) -> str:
    """Return a rate per second; per minute if it is below one per second."""
    return f"{rate * 60:,.1f} {unit}/min" if 0 < rate < 1 else f"{rate:,.1f} {unit}/s"


@contextmanager
def progress_bar(
    console: Console, title: str, total: float | None, unit: str
) -> Iterator[ProgressBar]:
    """Show progress while the block runs: a bar on a terminal or in a notebook, otherwise lines.

    Args:
        console: where to show it.
        title: what is done, such as "ingesting".
        total: the amount in all; None if it is unknown.
        unit: what is counted; "B" means bytes, "%" a percentage.
    """
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
    if console.is_jupyter:
        yield _NotebookBar(title, total, unit)
        return
    if not console.is_terminal:
        yield _Lines(console, title, total, unit)
        return
    with Progress(*columns, console=console, transient=True) as progress:
        yield _RunningBar(progress, progress.add_task(title, total=total, unit=unit, note=""))
