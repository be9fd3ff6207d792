"""What every verb prints: results on stdout, as text or as one JSON object; the rest on stderr."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from ixt_data.console.progress_bar import ProgressBar


class OutputMode(StrEnum):
    """How results are printed."""

    text = "text"
    json = "json"


class Output:
    """Prints results in the mode that the user asked for."""

    def __init__(self, mode: OutputMode) -> None:
        self.mode = mode

    # Rich takes a tenth of a second to import, and JSON needs none of it.

    @cached_property
    def console(self) -> "Console":
        """Standard output."""
        from rich.console import Console

        return Console()

    @cached_property
    def log(self) -> "Console":
        """Standard error."""
        from rich.console import Console

        return Console(stderr=True)

    def result(self, record: Mapping[str, Any], text: "RenderableType | None" = None) -> None:
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
    def progress(self, title: str, total: float | None, unit: str) -> "Iterator[ProgressBar]":
        """A bar on stderr with rate and remaining time; `unit` "B" shows bytes."""
        from ixt_data.console.progress_bar import shown

        with shown(self.log, title, total, unit) as bar:
            yield bar


def write_json(value: Any) -> None:
    """One line of JSON on stdout; what JSON has no type for is written as text."""
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def printable(text: str) -> str:
    """The text without what would steer a terminal: control characters are written out."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def fields(record: Mapping[str, Any]) -> "Table":
    """A record as two columns."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in record.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        table.add_row(name, str(shown))
    return table


def table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> "Table":
    """Rows under a header; numbers are rounded for reading."""
    from rich.table import Table
    from rich.text import Text

    made = Table(*header, box=None, pad_edge=False)
    for row in rows:
        cells = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row)
        made.add_row(*(Text(printable(cell)) for cell in cells))
    return made
