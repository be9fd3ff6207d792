"""Query results as tables or lines, on a terminal and in files."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ixt_data.console.output import plain, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

MIN_TEXT_WIDTH = 20
"""Columns of a terminal below which a text is not folded: the rows are printed as lines."""
_GAP = 2


def print_rows(
    console: "Console", names: Sequence[str], rows: Sequence[Sequence[Any]], *, as_lines: bool
) -> None:
    """Print rows as a table, or as lines where a terminal is too narrow for a table.

    Only texts with spaces are folded, so ids and numbers can be copied. Nothing is folded in a
    file or a pipe.

    Args:
        console: where to print.
        names: names of the columns.
        rows: values as DuckDB's Python client returns them.
        as_lines: whether to print a line per value in any case.
    """
    if not (console.is_terminal or as_lines):
        console.file.write(table_text(names, rows))
    elif as_lines or _min_width(names, rows) > console.width:
        text = lines_text(names, rows)
        console.print(text, markup=False, highlight=False, soft_wrap=True, end="")
    else:
        console.print(rows_table(names, rows), markup=False)


class TextTable:
    """Rows of texts under a header, for a reader; a line per value where the terminal is narrow."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._names, self._rows = names, rows

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        if _min_width(self._names, self._rows) > options.max_width:
            yield Text(lines_text(self._names, self._rows), overflow="fold", end="")
        else:
            yield rows_table(self._names, self._rows)


def table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> TextTable:
    """Return rows under a header. Numbers are rounded; integers stay as they are, to be copied."""
    cells = [[str(v) if isinstance(v, int) else plain(v) for v in row] for row in rows]
    return TextTable(header, cells)


def table_text(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as a table of any width."""
    from rich.console import Console

    widths = [_width([name, *cells]) + _GAP for name, cells in _columns(names, rows)]
    console = Console(width=max(1, sum(widths)), color_system=None)
    with console.capture() as capture:
        console.print(rows_table(names, rows), markup=False)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def lines_text(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as a line `name = value` per value, with an empty line between rows."""
    width = max(map(len, names), default=0)
    return "\n".join(
        "".join(
            f"{printable(name):>{width}} = {printable(cell_text(value))}\n"
            for name, value in zip(names, row, strict=True)
        )
        for row in rows
    )


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[tuple[str, list[str]]]:
    return [(name, [printable(cell_text(row[i])) for row in rows]) for i, name in enumerate(names)]


def _width(cells: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(line) for cell in cells for line in cell.split("\n")), default=0)


def _min_width(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Return the width of a table whose texts are folded as much as is readable."""
    widths = [
        min(_width([name, *cells]), max(MIN_TEXT_WIDTH, _width([name])))
        if _is_prose(cells)
        else _width([name, *cells])
        for name, cells in _columns(names, rows)
    ]
    return sum(widths) + _GAP * (len(widths) - 1)


def _is_prose(cells: Sequence[str]) -> bool:
    return any(" " in cell.strip() for cell in cells)


def rows_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> "Table":
    """Return rows as a table; numbers are aligned right and rounded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(names):
        numeric = rows and all(isinstance(row[i], int | float) for row in rows)
        is_prose = _is_prose([cell_text(row[i]) for row in rows])
        table.add_column(
            Text(name),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=not is_prose,
            min_width=len(name) if is_prose else None,
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: Any) -> Any:
    from rich.text import Text

    return Text("NULL", style="dim") if value is None else Text(printable(cell_text(value)))


def cell_text(value: Any, float_format: str = ".4g") -> str:
    """Return a value of a result as text: nested values as DuckDB prints them, not as Python does.

    Args:
        value: the value, as DuckDB's Python client returns it; None means NULL.
        float_format: format of numbers with a fraction.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:{float_format}}"
    if isinstance(value, dict):
        items = (f"{key}: {cell_text(item, float_format)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(cell_text(item, float_format) for item in value)}]"
    if isinstance(value, bytes):
        return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02X}" for byte in value)
    return str(value)
