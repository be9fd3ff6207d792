"""Rows of a query as text, JSON, CSV, Markdown or Parquet, by DuckDB's own COPY where it can."""

import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ixt_data.console import cell_text, lines_text, printable, table_text
from ixt_data.storage import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

    from ixt_data.sql.catalog import Catalog, Parameters, Row


class QueryOutput(StrEnum):
    """Formats of query results; `table` is another name of `text`, `line` has a line per value."""

    text = "text"
    json = "json"
    table = "table"
    line = "line"
    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    markdown = "markdown"
    parquet = "parquet"

    @property
    def is_text(self) -> bool:
        """Return whether rows are laid out for a reader, not for a program."""
        return self in (QueryOutput.text, QueryOutput.table, QueryOutput.line)


_COPY_OPTIONS = {
    QueryOutput.json: "FORMAT json, ARRAY true",
    QueryOutput.jsonl: "FORMAT json",
    QueryOutput.csv: "FORMAT csv, HEADER true",
    QueryOutput.tsv: r"FORMAT csv, HEADER true, DELIMITER '\t'",
    QueryOutput.parquet: "FORMAT parquet, COMPRESSION zstd",
}


def read_table(
    catalog: "Catalog", sql: str, parameters: "Parameters", limit: int
) -> tuple[list[str], list["Row"], bool]:
    """Return column names, the first `limit` rows (0: all), and whether more rows follow."""
    names, rows = catalog.rows(sql, parameters)
    shown = list(itertools.islice(rows, limit or None))
    return names, shown, bool(limit) and next(rows, None) is not None


def write_rows(
    catalog: "Catalog",
    sql: str,
    parameters: "Parameters",
    output: QueryOutput,
    to: Path | None,
    max_rows: int | None = None,
) -> bool:
    """Write the rows of a query to a file, or to stdout as they arrive.

    A file appears under its name when it is complete. JSON has null for a number that is not
    finite, and text for what JSON has no type for.

    Args:
        catalog: catalog that runs the query.
        sql: query.
        parameters: parameters of the query.
        output: format.
        to: file; stdout if None.
        max_rows: maximum number of rows to write; all if None. Not for text.

    Returns:
        Whether the query has more rows than were written.

    Raises:
        QueryError: DuckDB refuses the query.
        OSError: the file cannot be written.
    """
    limited: Any = catalog if max_rows is None else _FirstRows(catalog, max_rows)
    if to is None:
        _write_to_stream(limited, sql, parameters, output, sys.stdout.buffer)
    elif to.exists() and not to.is_file():
        with to.open("wb") as device:
            _write_to_stream(limited, sql, parameters, output, device)
    else:
        atomic_write(
            to, lambda path: _write_file(limited, sql, parameters, output, path), durable=False
        )
    return isinstance(limited, _FirstRows) and limited.has_more


class _FirstRows:
    """A catalog whose results end after a number of rows.

    Attributes:
        has_more: whether the last result had more rows.
    """

    def __init__(self, catalog: "Catalog", max_rows: int) -> None:
        self._catalog, self._max_rows = catalog, max_rows
        self.has_more = False

    def batches(self, sql: str, parameters: "Parameters") -> Iterator["pa.RecordBatch"]:
        """Yield the first rows; see `Catalog.batches`."""
        remaining = self._max_rows
        for batch in self._catalog.batches(sql, parameters):
            if batch.num_rows > remaining:
                self.has_more = True
                yield batch.slice(0, remaining)
                return
            remaining -= batch.num_rows
            yield batch

    def rows(self, sql: str, parameters: "Parameters") -> tuple[list[str], Iterator["Row"]]:
        """Return the columns and the first rows; see `Catalog.rows`."""
        names, rows = self._catalog.rows(sql, parameters)

        def first() -> Iterator["Row"]:
            yield from itertools.islice(rows, self._max_rows)
            self.has_more = next(rows, None) is not None

        return names, first()

    def arrow(self, sql: str, parameters: "Parameters") -> "pa.Table":
        """Return a result without rows; see `Catalog.arrow`."""
        return self._catalog.arrow(sql, parameters)


def _write_file(
    catalog: "Catalog", sql: str, parameters: "Parameters", output: QueryOutput, path: Path
) -> None:
    try:
        if output in _COPY_OPTIONS:
            _copy(catalog, sql, parameters, output, str(path))
        else:
            with path.open("wb") as file:
                _write_to_stream(catalog, sql, parameters, output, file)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _write_to_stream(
    catalog: "Catalog", sql: str, parameters: "Parameters", output: QueryOutput, file: IO[bytes]
) -> None:
    if output.is_text:
        names, rows, _ = read_table(catalog, sql, parameters, 0)
        render = lines_text if output is QueryOutput.line else table_text
        file.write(render(names, rows).encode())
    elif output is QueryOutput.markdown:
        _write_markdown(*catalog.rows(sql, parameters), file)
    else:
        _copy_through_pipe(catalog, sql, parameters, output, file)
    file.flush()


def _copy_through_pipe(
    catalog: "Catalog", sql: str, parameters: "Parameters", output: QueryOutput, file: IO[bytes]
) -> None:
    """Copy into a pipe that this thread empties, so rows reach the reader while others follow."""
    reading, writing = os.pipe()
    errors: list[BaseException] = []

    def copy() -> None:
        try:
            _copy(catalog, sql, parameters, output, f"/dev/fd/{writing}")
        except BaseException as error:
            errors.append(error)
        finally:
            os.close(writing)

    thread = threading.Thread(target=copy, name="ixt-copy", daemon=True)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        shutil.copyfileobj(pipe, file)
    thread.join()
    if errors:
        raise errors[0]


def _copy(
    catalog: "Catalog", sql: str, parameters: "Parameters", output: QueryOutput, path: str
) -> None:
    batches = catalog.batches(sql, parameters)
    # Without rows no batch states the columns.
    schema, batches = _peek(batches, lambda: catalog.arrow(sql, parameters).schema)
    copy_rows(schema, batches, output, path)


def _peek(
    batches: Iterator["pa.RecordBatch"], schema_without_rows: Callable[[], "pa.Schema"]
) -> "tuple[pa.Schema, Iterator[pa.RecordBatch]]":
    first = next(batches, None)
    if first is None:
        return schema_without_rows(), batches
    return first.schema, itertools.chain([first], batches)


def copy_rows(
    schema: "pa.Schema",
    batches: Iterator["pa.RecordBatch"],
    output: QueryOutput,
    path: str,
    compression: str = "none",
) -> None:
    """Write rows by DuckDB's COPY. A catalog itself may write no file.

    Args:
        schema: columns of the rows.
        batches: the rows.
        output: a format of COPY.
        path: file to write.
        compression: `none`, `gzip` or `zstd`, for JSON and CSV.

    Raises:
        OSError: the file cannot be written. Errors of the iterator are raised as they are.
    """
    import pyarrow as pa

    from ixt_data.sql.connections import WriteFailed, connect
    from ixt_data.sql.joins import sql_literal
    from ixt_data.sql.views import quote_name

    errors: list[BaseException] = []
    unwritable = ""

    def watched() -> Iterator["pa.RecordBatch"]:
        try:
            yield from batches
        except BaseException as error:
            errors.append(error)
            raise

    reader = pa.RecordBatchReader.from_batches(schema, watched())
    options = _COPY_OPTIONS[output]
    if output is not QueryOutput.parquet:
        options += f", COMPRESSION {compression}"
    with connect() as connection:
        connection.register("result", reader)
        columns = "*"
        if output in (QueryOutput.json, QueryOutput.jsonl):
            described = connection.table("result")
            pairs = zip(described.columns, described.types, strict=True)
            columns = ", ".join(
                f"{_finite(quote_name(name), kind)} AS {quote_name(name)}" for name, kind in pairs
            )
        try:
            connection.execute(
                f"COPY (SELECT {columns} FROM result) TO {sql_literal(path)} ({options})"
            )
        except Exception as error:
            if errors:
                raise errors[0] from None
            if not isinstance(error, WriteFailed):
                raise
            unwritable = str(error)
    if unwritable:
        # The traceback must not keep DuckDB's objects alive until the exit: they print warnings.
        del reader, connection
        raise OSError(unwritable.removeprefix("IO Error: "))


def _finite(value: str, kind: Any, depth: int = 0) -> str:
    """Return SQL for a value with NULL for each number in it that JSON cannot express."""
    if kind.id in ("double", "float"):
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    if kind.id in ("list", "array"):
        item = f"x{depth}"
        inner = _finite(item, dict(kind.children)["child"], depth + 1)
        return value if inner == item else f"list_transform({value}, lambda {item}: {inner})"
    if kind.id == "map":
        # Its keys stay: a number that is not finite is text as a key of JSON.
        item = f"x{depth}"
        inner = _finite(f"{item}.value", dict(kind.children)["value"], depth + 1)
        entry = f"struct_pack(k := {item}.key, v := {inner})"
        packed = f"map_from_entries(list_transform(map_entries({value}), lambda {item}: {entry}))"
        is_same = inner == f"{item}.value"
        return value if is_same else f"CASE WHEN {value} IS NOT NULL THEN {packed} END"
    if kind.id == "union":
        from ixt_data.sql.views import quote_name

        members = {
            name: _finite(f"{value}.{quote_name(name)}", inner, depth)
            for name, inner in kind.children
        }
        cases = [
            f"WHEN '{name}' THEN union_value({quote_name(name)} := {sql})::{kind}"
            for name, sql in members.items()
            if sql != f"{value}.{quote_name(name)}"
        ]
        return f"CASE union_tag({value}) {' '.join(cases)} ELSE {value} END" if cases else value
    if kind.id == "struct":
        from ixt_data.sql.views import quote_name

        fields = {
            name: _finite(f"{value}.{quote_name(name)}", inner, depth)
            for name, inner in kind.children
        }
        if all(sql == f"{value}.{quote_name(name)}" for name, sql in fields.items()):
            return value
        packed = ", ".join(f"{quote_name(name)} := {sql}" for name, sql in fields.items())
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({packed}) END"
    return value


def _write_markdown(names: list[str], rows: Iterator["Row"], file: IO[bytes]) -> None:
    """Write a table of GitHub's Markdown; a line break in a cell becomes `<br>`."""

    def line(cells: Iterator[str]) -> bytes:
        return f"| {' | '.join(cells)} |\n".encode()

    def cell(value: Any) -> str:
        text = "" if value is None else cell_text(value, ".6g")
        text = printable(text).replace("\\", "\\\\").replace("|", "\\|")
        return text.replace("\r\n", "\n").replace("\n", "<br>")

    file.write(line(map(cell, names)) + line("---" for _ in names))
    for row in rows:
        file.write(line(map(cell, row)))
