"""Query results as tables for a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ixt_data.console.output import printable

if TYPE_CHECKING:
    from rich.table import Table


def rows_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> "Table":
    """Return rows as a table; numbers are aligned right and rounded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(names):
        numeric = rows and all(isinstance(row[i], int | float) for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
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
