"""Progress bars with rate and remaining time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text(f"- {unit}/s")
        return Text(f"{speed / 1e6:.1f} MB/s" if unit == "B" else f"{speed:,.0f} {unit}/s")


class Bar:
    """One running progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, completed: float, note: str = "", total: float | None = None) -> None:
        """Sets how much is done, a short note shown beside it, and the total once it is known."""
        self._progress.update(self._task, completed=completed, note=note, total=total)


@contextmanager
def shown(console: Console, title: str, total: float | None, unit: str) -> Iterator[Bar]:
    """A bar while the block runs; `unit` "B" shows bytes."""
    amount = DownloadColumn() if unit == "B" else MofNCompleteColumn()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        yield Bar(progress, progress.add_task(title, total=total, unit=unit, note=""))
