"""The verb `query`: SQL over the views of a snapshot, once or at a prompt."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, StoreOption
from ixt_data.cli.query_input import LIMIT, parse_parameter, read_sql, recipe_sql
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, format_count, print_rows
from ixt_data.errors import QueryError, StoreError
from ixt_data.sql import QueryOutput

if TYPE_CHECKING:
    from ixt_data.sql import Catalog


# The format of a file, by the suffix of its name.
_SUFFIXES = {
    ".txt": QueryOutput.text,
    ".md": QueryOutput.markdown,
    **{f".{kind}": QueryOutput(kind) for kind in ("json", "jsonl", "csv", "tsv", "parquet")},
}


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    add_verb(
        app,
        query,
        Group.ASK,
        example='ixt query --store S "SELECT source, count(*) FROM documents GROUP BY 1"',
        docs="querying.md",
    )


def query(
    sql: Annotated[
        str | None,
        typer.Argument(show_default="a prompt opens", help="One read-only query; - reads stdin."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|TAG", help="Second snapshot, as before.documents, before.critiques."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE.sql", help="Run the SQL in this file."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="Run a statement of docs/cookbook.md; an unknown NAME lists all.",
        ),
    ] = None,
    saved: Annotated[
        str | None,
        typer.Option("--saved", metavar="NAME", help="Run a saved query; see ixt queries list."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", "-p", metavar="NAME=VALUE", help="Value of $NAME, as JSON or else as text."
        ),
    ] = None,
    format: Annotated[
        QueryOutput | None,
        typer.Option(
            "--output",
            "-o",
            show_default="by the name of --to, else text",
            help="Format of the rows; table is text.",
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(show_default="stdout", help="File to write.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --to if it exists.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=0, help="Rows of a text table to print; 0 prints all.")
    ] = LIMIT,
) -> None:
    """Query the views documents, critiques, shards, snapshots, critics, selections and others.

    Without SQL on a terminal a prompt opens; `.help` lists its commands.
    """
    from ixt_data.sql import choose_critic
    from ixt_data.store import Store, saved_query

    if sum(one is not None for one in (sql, file, recipe, saved)) > 1:
        what = "give one of SQL, a file of SQL, a recipe, and a saved query"
        raise typer.BadParameter(what, param_hint="--file, --recipe, --saved")
    if to is not None and re.match(r"[a-z0-9]+:/", str(to)):
        raise typer.BadParameter(
            f"{to} is an address; write a local file and copy it", param_hint="--to"
        )
    output = _choose_format(to, format)
    parameters = dict(map(parse_parameter, param or []))
    if recipe is not None:
        sql = recipe_sql(recipe, parameters, before)
    replaced = to is not None and _check_file(to, overwrite)
    opened = Store.open(store)
    if saved is not None:
        sql = saved_query(opened.snapshot(at), saved, opened.root).sql
    if recipe is not None:
        for name in ("critic", "other"):
            if name in parameters:
                choose_critic(opened.snapshot(at), str(parameters[name]), opened.root)
    if sql is None and file is None and sys.stdin.isatty() and sys.stdout.isatty():
        if to is not None or output is QueryOutput.parquet:
            raise typer.BadParameter(
                "needs a query here; at the prompt use .mode", param_hint="SQL"
            )
        from ixt_data.cli.prompt import Prompt

        Prompt(opened, at, before, parameters, output, limit).run()
        return
    if output is QueryOutput.parquet and to is None and sys.stdout.isatty():
        raise typer.BadParameter(
            "Parquet needs a file or a pipe, not a terminal", param_hint="--to"
        )
    catalog = opened.catalog(at, before)
    try:
        _run(catalog, _text(sql, file), parameters, output, to, limit)
    finally:
        catalog.close()
    if replaced:
        Output(OutputMode.text).note(f"replaced {to}")


def _choose_format(to: Path | None, format: QueryOutput | None) -> QueryOutput:
    """Return the format of the rows: the one named, else that of the file's name, else text."""
    by_name = _SUFFIXES.get(to.suffix.lower()) if to is not None else None
    if format is None:
        if to is not None and by_name is None:
            known = ", ".join(_SUFFIXES)
            raise typer.BadParameter(
                f"the name of {to} tells no format; add --output, or use one of {known}",
                param_hint="--to",
            )
        return by_name or QueryOutput.text
    if by_name not in (None, format) and not (by_name == QueryOutput.text and format.is_text):
        raise typer.BadParameter(
            f"{to} has a name of the format {by_name}, but --output is {format}", param_hint="--to"
        )
    return format


def _check_file(to: Path, overwrite: bool) -> bool:
    """Check that a query may write to a path; return whether it replaces a file.

    A device or a named pipe is written, never replaced.

    Raises:
        StoreError: the path is a folder or part of a store, or a file without `overwrite`.
    """
    from ixt_data.export import check_target

    if to.is_dir():
        raise StoreError(f"{to}: is a folder; name a file")
    if not to.exists() or to.is_file():
        check_target(to, overwrite)
    return to.is_file()


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
    """Run the statements of a text: one, or any number if tables are printed."""
    statements = catalog.statements(text)
    if len(statements) != 1 and (not output.is_text or to is not None):
        what = f"a file or --output {output.value} requires one statement"
        raise QueryError(f"{what}; this text has {len(statements)}")
    if len(statements) < 2:
        # Unchanged: an error then quotes what the user entered.
        statements = [(text, set(parameters))]
    elif unused := parameters.keys() - set().union(*(names for _, names in statements)):
        raise QueryError(f"--param {min(unused)}: no statement uses ${min(unused)}")
    for sql, names in statements:
        used = {name: value for name, value in parameters.items() if name in names}
        show_rows(catalog, sql, used, output, to, limit)


def show_rows(
    catalog: "Catalog",
    sql: str,
    parameters: Mapping[str, Any],
    output: QueryOutput,
    to: Path | None,
    limit: int,
) -> None:
    """Print the rows of one statement, with progress meanwhile; Ctrl-C cancels it."""
    from rich.console import Console

    from ixt_data.cli.run_query import run_cancellable
    from ixt_data.sql import read_table, write_rows

    log = Console(stderr=True)
    if output.is_text and to is None:
        names, rows, more = run_cancellable(
            catalog, lambda: read_table(catalog, sql, parameters, limit), log
        )
        print_rows(Console(), names, rows, as_lines=output is QueryOutput.line)
        if more:
            log.print(f"first {format_count(limit, 'row')}; --limit 0 prints all", highlight=False)
        return
    # Rows on a terminal are progress enough.
    shown = None if to is None and sys.stdout.isatty() else log
    run_cancellable(catalog, lambda: write_rows(catalog, sql, parameters, output, to), shown)
