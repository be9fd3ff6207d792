"""The verbs that list the views of a snapshot and their columns: tables, schema."""

from typing import TYPE_CHECKING, Annotated

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, table
from ixt_data.errors import QueryError

if TYPE_CHECKING:
    from ixt_data.sql import Catalog

_ROW_OF = {
    "documents": "a document of a corpus",
    "critiques": "the latest critique of a document by a critic",
    "critiques_all": "every critique",
    "shards": "a shard of a family",
    "snapshots": "a commit",
    "critics": "a critic with critiques in the store",
    "critique_runs": "a critique run",
    "selections": "a saved selection",
    "queries": "a saved query",
}


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    add_verb(app, tables, Group.ASK, example="ixt tables --store S", docs="querying.md")
    add_verb(app, schema, Group.ASK, example="ixt schema --store S documents", docs="querying.md")


def tables(
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """List the views that `ixt query` reads, saved selections included."""
    from ixt_data.store import Store

    out, catalog = Output(output), Store.open(store).catalog(at)
    views = list_views(catalog)
    rows = [(name, len(columns), what) for name, columns, what in views]
    record = {"snapshot": catalog.snapshot.version}
    keys = ("view", "columns", "row")
    out.result(
        record | {"views": [dict(zip(keys, row, strict=True)) for row in rows]},
        table(["view", "columns", "one row is"], rows),
    )
    catalog.close()


def schema(
    view: Annotated[
        str | None,
        typer.Argument(show_default="all views", help="View, such as documents or selected.NAME."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """List the columns of a view with their types."""
    from ixt_data.store import Store

    out, catalog = Output(output), Store.open(store).catalog(at)
    found = find_views(catalog, [view] if view else [])
    rows = [
        ([] if view else [name]) + [column, kind]
        for name, columns in found.items()
        for column, kind in columns.items()
    ]
    header = ["column", "type"] if view else ["view", "column", "type"]
    out.result({"snapshot": catalog.snapshot.version, "views": found}, table(header, rows))
    catalog.close()


def list_views(catalog: "Catalog") -> list[tuple[str, dict[str, str], str]]:
    """Return each view and saved selection: its name, its columns, and what a row is."""
    saved = catalog.snapshot.selections
    views = [(view, columns, _ROW_OF[view]) for view, columns in catalog.columns.items()]
    return views + [
        (name, find_views(catalog, [name])[name], f"a document where {selection.where}")
        for selection in saved.values()
        for name in [f"selected.{quoted(selection.name)}"]
    ]


def find_views(catalog: "Catalog", names: list[str]) -> dict[str, dict[str, str]]:
    """Return the columns of the named views with their types; of all views without names.

    Raises:
        QueryError: a view does not exist.
    """
    known = catalog.columns
    found = {}
    for name in names or known:
        if name in known:
            found[name] = known[name]
        elif name.startswith("selected."):
            found[name] = {row[0]: row[1] for row in catalog.rows(f"DESCRIBE {name}")[1]}
        else:
            raise QueryError(f"no view {name!r}; views: {', '.join(known)}, selected.NAME")
    return found


def quoted(name: str) -> str:
    """Return a name as SQL requires it."""
    return name if name.isidentifier() else f'"{name}"'
