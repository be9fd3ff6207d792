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

    if value is None:
        return Text("NULL", style="dim")
    return Text(printable(f"{value:.4g}" if isinstance(value, float) else str(value)))
