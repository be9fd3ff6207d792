"""The verb query: SQL over the views of a snapshot, once or at a prompt."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, StoreOption
from ixt_data.cli.query_input import LIMIT, parameter, read_sql
from ixt_data.errors import QueryError
from ixt_data.sql import QueryOutput

if TYPE_CHECKING:
    from ixt_data.sql import Catalog


def register(app: typer.Typer) -> None:
    """Adds the verb to the app."""
    app.command()(query)


def query(
    sql: Annotated[
        str | None,
        typer.Argument(help="One reading statement; - reads stdin; none opens a prompt."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|TAG", help="Show this snapshot too, as before.documents, .critiques."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE.sql", help="Run this file's SQL.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", "-p", metavar="NAME=VALUE", help="Value of $NAME: JSON if it is, else text."
        ),
    ] = None,
    output: Annotated[
        QueryOutput, typer.Option("--output", "-o", help="A table, JSON, CSV or Parquet.")
    ] = QueryOutput.text,
    to: Annotated[
        Path | None, typer.Option(help="File to write instead of stdout; Parquet needs it.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows of a table to print; 0 prints all.")] = LIMIT,
) -> None:
    """Ask the views documents, critiques, shards, snapshots, critics, selections and others.

    Without SQL on a terminal a prompt opens: .help tells what it knows.
    """
    from ixt_data.store import Store

    if sql is not None and file is not None:
        raise typer.BadParameter("give SQL or a file of it", param_hint="--file")
    parameters = dict(map(parameter, param or []))
    opened = Store.open(store)
    if sql is None and file is None and sys.stdin.isatty() and sys.stdout.isatty():
        if to is not None or output is QueryOutput.parquet:
            raise typer.BadParameter("is for a statement; at the prompt: .output", param_hint="SQL")
        from ixt_data.cli.prompt import Prompt

        Prompt(opened, at, before, parameters, output, limit).run()
        return
    if output is QueryOutput.parquet and to is None and sys.stdout.isatty():
        raise typer.BadParameter("Parquet goes to a file or a pipe", param_hint="--to")
    catalog = opened.catalog(at, before)
    try:
        _run(catalog, _text(sql, file), parameters, output, to, limit)
    finally:
        catalog.close()


def _text(sql: str | None, file: Path | None) -> str:
    if file is not None:
        return read_sql(file)
    return sys.stdin.read() if sql in (None, "-") else str(sql)


def _run(
    catalog: "Catalog",
    text: str,
    parameters: Mapping[str, Any],
    output: QueryOutput,
    to: Path | None,
    limit: int,
) -> None:
    """Every statement of a text, of which there is one unless tables are printed."""
    statements = catalog.statements(text)
    if len(statements) != 1 and (output is not QueryOutput.text or to is not None):
        what = f"to a file and as {output.value} goes one statement"
        raise QueryError(f"{what}; this has {len(statements)}")
    if len(statements) < 2:
        # As it is, so that errors speak of what was typed.
        statements = [(text, set(parameters))]
    elif unused := parameters.keys() - set().union(*(names for _, names in statements)):
        raise QueryError(f"${min(unused)} is in no statement")
    for sql, names in statements:
        used = {name: value for name, value in parameters.items() if name in names}
        print_rows(catalog, sql, used, output, to, limit)


def print_rows(
    catalog: "Catalog",
    sql: str,
    parameters: Mapping[str, Any],
    output: QueryOutput,
    to: Path | None,
    limit: int,
) -> None:
    """One statement's rows, with progress while they are awaited; Ctrl-C cancels it."""
    from rich.console import Console

    from ixt_data.cli.run_query import ask
    from ixt_data.console import rows_table
    from ixt_data.sql import read_table, write_rows

    log = Console(stderr=True)
    if output is QueryOutput.text and to is None:
        names, rows, more = ask(catalog, lambda: read_table(catalog, sql, parameters, limit), log)
        Console().print(rows_table(names, rows), markup=False)
        if more:
            log.print(f"first {limit} rows; --limit 0 prints all", highlight=False)
        return
    # Rows that come on a terminal are their own progress.
    shown = None if to is None and sys.stdout.isatty() else log
    ask(catalog, lambda: write_rows(catalog, sql, parameters, output, to), shown)
