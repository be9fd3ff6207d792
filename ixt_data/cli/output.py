"""What every verb prints: results on stdout, as text or as one JSON object; the rest on stderr."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console, RenderableType
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
from rich.table import Table
from rich.text import Text


class OutputMode(StrEnum):
    """How results are printed."""

    text = "text"
    json = "json"


StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="IXT_STORE",
        metavar="ROOT",
        help="Root of the store: a folder, or s3://bucket/prefix.",
        show_envvar=True,
    ),
]
OutputOption = Annotated[
    OutputMode, typer.Option("--output", "-o", help="Text for people, or one JSON object.")
]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="VERSION|TAG", help="Snapshot; the newest by default.")
]
DEFAULT_STORE = "./ixt"


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


class Output:
    """Prints results in the mode that the user asked for."""

    def __init__(self, mode: OutputMode) -> None:
        self.mode = mode
        self.console = Console()
        self.log = Console(stderr=True)

    def result(self, record: Mapping[str, Any], text: RenderableType | None = None) -> None:
        """The verb's result: `record` as one JSON object, or `text` (its fields, by default)."""
        if self.mode is OutputMode.json:
            write_json(dict(record))
        elif text is not None:
            self.console.print(text, markup=False, highlight=False)
        else:
            self.console.print(fields(record))

    def note(self, message: str) -> None:
        """A remark for people, on stderr."""
        self.log.print(message, highlight=False)

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Bar]:
        """A bar on stderr with rate and remaining time; `unit` "B" shows bytes."""
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
        quiet = not self.log.is_terminal
        with Progress(*columns, console=self.log, transient=True, disable=quiet) as progress:
            yield Bar(progress, progress.add_task(title, total=total, unit=unit, note=""))


def write_json(value: Any) -> None:
    """One line of JSON on stdout; what JSON has no type for is written as text."""
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def fields(record: Mapping[str, Any]) -> Table:
    """A record as two columns."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in record.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        table.add_row(name, str(shown))
    return table


def table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> Table:
    """Rows under a header; numbers are rounded for reading."""
    made = Table(*header, box=None, pad_edge=False)
    for row in rows:
        cells = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row)
        made.add_row(*(Text(cell) for cell in cells))
    return made
