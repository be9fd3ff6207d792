"""The verb query: SQL over the views of a snapshot."""

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli.output import DEFAULT_STORE, AtOption, StoreOption
from ixt_data.errors import QueryError

if TYPE_CHECKING:
    from ixt_data.catalog import Catalog


class QueryOutput(StrEnum):
    """How rows are printed."""

    text = "text"
    json = "json"
    csv = "csv"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Adds the verb to the app."""
    app.command()(query)


def query(
    sql: Annotated[str, typer.Argument(help="One reading statement; - reads it from stdin.")],
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    output: Annotated[
        QueryOutput, typer.Option("--output", "-o", help="A table, JSON, CSV or Parquet.")
    ] = QueryOutput.text,
    to: Annotated[
        Path | None, typer.Option(help="File to write instead of stdout; Parquet needs it.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows of a table to print; 0 prints all.")] = 100,
) -> None:
    """Ask the views documents, critiques, critiques_all, shards, snapshots and critics."""
    from ixt_data.store import Store

    if output is QueryOutput.parquet and to is None and sys.stdout.isatty():
        raise typer.BadParameter("Parquet goes to a file or a pipe", param_hint="--to")
    catalog = Store.open(store).catalog(at)
    statement = sys.stdin.read() if sql == "-" else sql
    try:
        if output is QueryOutput.text and to is None:
            _print_table(catalog, statement, limit)
        else:
            _write(catalog, statement, output, to)
    finally:
        catalog.close()


def _rows(catalog: "Catalog", sql: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    cursor = catalog.run(sql)
    names = [column[0] for column in cursor.description or []]

    def stream() -> Iterator[tuple[Any, ...]]:
        while batch := cursor.fetchmany(10_000):
            yield from batch

    return names, stream()


def _print_table(catalog: "Catalog", sql: str, limit: int) -> None:
    from rich.console import Console
    from rich.table import Table

    names, rows = _rows(catalog, sql)
    shown: list[tuple[Any, ...]] = []
    more = False
    for row in rows:
        if limit and len(shown) == limit:
            more = True
            break
        shown.append(row)
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(names):
        numeric = shown and all(isinstance(row[i], int | float) for row in shown)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in shown:
        table.add_row(*map(_cell, row))
    Console().print(table, markup=False)
    if more:
        Console(stderr=True).print(f"first {limit} rows; --limit 0 prints all", highlight=False)


def _cell(value: Any) -> Any:
    from rich.text import Text

    if value is None:
        return Text("NULL", style="dim")
    return Text(f"{value:.4g}" if isinstance(value, float) else str(value))


def _write(catalog: "Catalog", sql: str, output: QueryOutput, to: Path | None) -> None:
    import contextlib

    with contextlib.ExitStack() as stack:
        file = stack.enter_context(to.open("wb")) if to is not None else sys.stdout.buffer
        if output is QueryOutput.parquet:
            import pyarrow.parquet as pq

            pq.write_table(catalog.arrow(sql), file, compression="zstd")
        elif output is QueryOutput.csv:
            _write_csv(catalog, sql, file)
        else:
            _write_json(catalog, sql, file)
        file.flush()


def _write_json(catalog: "Catalog", sql: str, file: Any) -> None:
    import orjson

    names, rows = _rows(catalog, sql)
    separator = b"["
    for row in rows:
        record = dict(zip(names, row, strict=True))
        file.write(separator + orjson.dumps(record, default=_plain, option=orjson.OPT_NON_STR_KEYS))
        separator = b",\n"
    file.write(b"]\n" if separator != b"[" else b"[]\n")


def _write_csv(catalog: "Catalog", sql: str, file: Any) -> None:
    import csv
    import io

    names, rows = _rows(catalog, sql)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(rows)
    text.detach()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "as_integer_ratio"):
        return float(value)
    if value is None:
        raise QueryError("a value has no JSON form")
    return str(value)
