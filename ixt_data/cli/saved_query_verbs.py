"""The verbs of saved queries: save, list, show, drop."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.cli.query_input import read_sql
from ixt_data.cli.verbs import Group, add_verb, add_verbs
from ixt_data.console import Output, OutputMode, table

NameArgument = Annotated[str, typer.Argument(help="Name of the query.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    page = "querying.md"
    queries = add_verbs(app, "queries", Group.ASK, "Save SQL by name, for `ixt query --saved`.")
    add_verb(
        queries,
        save,
        None,
        example='ixt queries save --store S sizes "SELECT avg(n_chars) FROM documents"',
        docs=page,
    )
    add_verb(queries, show_all, None, name="list", example="ixt queries list --store S", docs=page)
    add_verb(queries, show, None, example="ixt queries show --store S sizes", docs=page)
    add_verb(queries, drop, None, example="ixt queries drop --store S sizes", docs=page)


def save(
    name: NameArgument,
    sql: Annotated[
        str | None,
        typer.Argument(
            show_default="from --file", help="One read-only query, with $NAME for parameters."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE.sql", help="Save the SQL in it.")
    ] = None,
    note: Annotated[str, typer.Option(help="The question that it answers.")] = "",
    output: OutputOption = OutputMode.text,
) -> None:
    """Save a query under a name, or replace the one of that name.

    The query is parsed and not run.
    """
    from ixt_data.store import Store, save_query

    if (sql is None) == (file is None):
        raise typer.BadParameter("give either SQL or a file of SQL", param_hint="SQL, --file")
    text = sql if file is None else read_sql(file)
    saved = save_query(Store.open(store), name, str(text), note=note)
    Output(output).result(asdict(saved), f"{name} saved in snapshot {saved.version}")


def show_all(
    store: StoreOption = DEFAULT_STORE, at: AtOption = None, output: OutputOption = OutputMode.text
) -> None:
    """List the saved queries of a snapshot."""
    from ixt_data.store import Store

    snapshot = Store.open(store).snapshot(at)
    saved = list(snapshot.queries.values())
    rows = [(one.name, one.note, " ".join(one.sql.split()), one.version) for one in saved]
    text = table(["name", "note", "sql", "version"], rows)
    record = {"snapshot": snapshot.version, "queries": list(map(asdict, saved))}
    Output(output).result(
        record, text if saved else "no query is saved; save one: ixt queries save NAME SQL"
    )


def show(
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    history: Annotated[
        bool, typer.Option("--history", help="List each commit that saved or dropped it.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Show a saved query."""
    from ixt_data.store import Store, query_history, saved_query

    out, opened = Output(output), Store.open(store)
    if history:
        changes = list(query_history(opened, name))
        rows = [(c.version, c.created, c.query.sql if c.query else "dropped") for c in changes]
        record = {"name": name, "history": list(map(asdict, changes))}
        out.result(record, table(["version", "created", "sql"], rows))
        return
    out.result(asdict(saved_query(opened.snapshot(at), name, opened.root)))


def drop(
    name: NameArgument, store: StoreOption = DEFAULT_STORE, output: OutputOption = OutputMode.text
) -> None:
    """Drop a saved query; previous snapshots keep it."""
    from ixt_data.store import Store, drop_query

    version = drop_query(Store.open(store), name)
    Output(output).result(
        {"dropped": name, "snapshot": version}, f"dropped {name} in snapshot {version}"
    )
