"""Output of every verb: results on stdout as text or one JSON object, all else on stderr."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from ixt_data.console.progress import ProgressBar


PIPE_WIDTH = 100_000
"""Columns of a file or a pipe."""


class OutputMode(StrEnum):
    """Formats of results."""

    text = "text"
    json = "json"


class Output:
    """Prints results in the requested mode."""

    def __init__(self, mode: OutputMode) -> None:
        self.mode = mode

    # Importing rich takes 0.1 s, and JSON does not need it.

    @cached_property
    def console(self) -> "Console":
        """Standard output."""
        from rich.console import Console

        # A file or a pipe has no width: nothing is folded or cut there.
        return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)

    @cached_property
    def log(self) -> "Console":
        """Standard error."""
        from rich.console import Console

        if sys.stderr.isatty():
            return Console(stderr=True)
        return Console(stderr=True, width=PIPE_WIDTH)

    def result(self, record: Mapping[str, Any], text: "RenderableType | None" = None) -> None:
        """Print a result: `record` as one JSON object, or `text` (default: its fields)."""
        if self.mode is OutputMode.json:
            write_json(dict(record))
            return
        shown = fields(record) if text is None else text
        # A line of text is not broken: a path in it can be copied, and `grep` finds it.
        with self.console.capture() as capture:
            self.console.print(
                shown, markup=False, highlight=False, soft_wrap=isinstance(text, str)
            )
        lines = capture.get()
        if not sys.stdout.isatty():
            # Columns are padded; in a file or a pipe the blanks would be part of the last value.
            lines = re.sub(" +$", "", lines, flags=re.MULTILINE)
        sys.stdout.write(lines)

    def note(self, message: str) -> None:
        """Print a remark on stderr."""
        self.log.print(printable(message), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> "Iterator[ProgressBar]":
        """Show a progress bar on stderr, with rate and remaining time; `unit` "B" means bytes."""
        from ixt_data.console.progress import progress_bar

        with progress_bar(self.log, title, total, unit) as bar:
            yield bar


def write_json(value: Any) -> None:
    """Print one line of JSON on stdout; a value without a JSON type becomes text."""
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def printable(text: str) -> str:
    """Return the text with control characters escaped, so that it cannot control a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def fields(record: Mapping[str, Any]) -> "Table":
    """Return a record as a table of two columns, for a reader."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in record.items():
        if value is not None and value not in ({}, []):
            table.add_row(name.replace("_", " "), Text(printable(plain(value))))
    return table


def plain(value: Any) -> str:
    """Return a value as a reader expects it: no `None`, no Python brackets or quotes."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or "-"
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return ", ".join(map(plain, value)) or "-"
    return str(value)


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 document" and "1,200 documents"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
