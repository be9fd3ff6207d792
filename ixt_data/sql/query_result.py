"""The result of a query, with DuckDB's own names for ways to read it."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ixt_data.console import format_count, html_table, print_rows
from ixt_data.errors import MissingExtra, QueryError

if TYPE_CHECKING:
    import datasets
    import polars
    import pyarrow as pa

MAX_HTML_ROWS = 20
MAX_SHOWN_ROWS = 100


class QueryResult:
    """Rows of one query, in memory as an Arrow table.

    `len()` counts the rows; iteration yields each row as a tuple of Python values.

    Attributes:
        columns: names of the columns; a repeated name has a number, such as `n`, `n_1`.
    """

    def __init__(self, table: "pa.Table") -> None:
        self.columns: list[str] = distinct_names(table.column_names)
        self._table = table.rename_columns(self.columns)

    def arrow(self) -> "pa.Table":
        """Return the rows as a `pyarrow.Table`."""
        return self._table

    def df(self) -> Any:
        """Return the rows as a `pandas.DataFrame`.

        Raises:
            MissingExtra: pandas is not installed.
        """
        MissingExtra.require("notebook", "pandas")
        return self._table.to_pandas()

    def pl(self) -> "polars.DataFrame":
        """Return the rows as a polars data frame.

        Raises:
            MissingExtra: polars is not installed.
        """
        MissingExtra.require("notebook", "polars")
        import polars

        frame = polars.from_arrow(self._table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def to_hf(self) -> "datasets.Dataset":
        """Return the rows as a Hugging Face `datasets.Dataset`.

        It is also a PyTorch dataset: `result.to_hf().with_format("torch")` gives tensors to a
        `torch.utils.data.DataLoader`. A UUID and an interval are text, a map is a list of `key`
        and `value`, an integer of 128 bits is a decimal.

        Raises:
            MissingExtra: datasets is not installed.
            QueryError: `datasets` has no type for a column, such as a union.
        """
        MissingExtra.require("hf", "datasets")
        from ixt_data.sql.hf_datasets import hf_dataset

        return hf_dataset(self._table)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows as tuples of Python values."""
        return list(self)

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the first row, or None without rows."""
        return next(iter(self), None)

    def show(self, max_rows: int = MAX_SHOWN_ROWS) -> None:
        """Print the first rows as a table on stdout."""
        from rich.console import Console

        print_rows(Console(), self.columns, list(self._rows(max_rows)), as_lines=False)
        if len(self) > max_rows:
            print(f"first {max_rows:,} of {format_count(len(self), 'row')}")

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows(len(self))

    def _rows(self, count: int) -> Iterator[tuple[Any, ...]]:
        """Yield the first rows; integers that Arrow holds as decimals become `int` again.

        Raises:
            QueryError: Python has no value for a date or time, such as infinity.
        """
        columns = []
        for name, column in zip(self.columns, self._table.slice(0, count).columns, strict=True):
            try:
                columns.append([_python(value) for value in _to_pylist(column)])
            except (OverflowError, ValueError) as error:
                raise QueryError(
                    f"column {name}: Python has no value for a cell ({error}); use .arrow(), "
                    "or cast the column to VARCHAR"
                ) from None
        return iter(list(zip(*columns, strict=True)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{field.name} {field.type}" for field in self._table.schema)
        return f"QueryResult({format_count(len(self), 'row')}: {fields})"

    def _repr_html_(self) -> str:
        """Return the first rows as an HTML table, for notebooks."""
        shown = min(len(self), MAX_HTML_ROWS)
        note = f"<p>{shown:,} of {format_count(len(self), 'row')}</p>"
        return html_table(self.columns, self._rows(MAX_HTML_ROWS)) + note


def distinct_names(names: Sequence[str]) -> list[str]:
    """Return names of columns; a repeated one has a number, such as `n`, `n_1`."""
    distinct: list[str] = []
    for name in names:
        number, candidate = 0, name
        while candidate in distinct or (number and candidate in names):
            number += 1
            candidate = f"{name}_{number}"
        distinct.append(candidate)
    return distinct


def _to_pylist(column: "pa.ChunkedArray") -> list[Any]:
    try:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    except TypeError:
        # A map with keys that a dict cannot have, such as lists.
        values = column.to_pylist()
    return values


def _python(value: Any) -> Any:
    if isinstance(value, list):
        return [_python(item) for item in value]
    if isinstance(value, dict):
        return {key: _python(item) for key, item in value.items()}
    if isinstance(value, Decimal) and value == value.to_integral_value():
        exponent = value.as_tuple().exponent
        return int(value) if exponent == 0 else value
    return value
