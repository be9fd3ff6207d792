"""The verbs of saved selections: save, list, show, drop."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.console import Output, OutputMode, table

NameArgument = Annotated[str, typer.Argument(help="Of the selection.")]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    select = typer.Typer(
        no_args_is_help=True, help="Keep predicates under a name, for queries and mixes."
    )
    select.command()(save)
    select.command(name="list")(show_all)
    select.command()(show)
    select.command()(drop)
    app.add_typer(select, name="select")


def save(
    name: NameArgument,
    where: Annotated[str, typer.Argument(metavar="PREDICATE", help='SQL, as in "score >= 0.8".')],
    store: StoreOption = DEFAULT_STORE,
    critic: Annotated[
        str | None,
        typer.Option(help="Whose critiques it sees [the only critic's, if it needs any]."),
    ] = None,
    note: Annotated[str, typer.Option(help="Why it is so.")] = "",
    output: OutputOption = OutputMode.text,
) -> None:
    """Save a predicate, new or in place of the one with this name; it is tried out first."""
    from ixt_data.store import Store, save_selection

    saved = save_selection(Store.open(store), name, where, critic=critic, note=note)
    by = f" with critiques by {saved.critic}" if saved.critic else ""
    text = f"{name} finds {saved.documents:,} documents{by}; snapshot {saved.version} has it"
    out = Output(output)
    out.result(asdict(saved), text)
    if not saved.documents:
        out.note(f"no document satisfies {where!r} yet")


def show_all(
    store: StoreOption = DEFAULT_STORE, at: AtOption = None, output: OutputOption = OutputMode.text
) -> None:
    """List the saved selections of a snapshot."""
    from ixt_data.store import Store

    snapshot = Store.open(store).snapshot(at)
    found = list(snapshot.selections.values())
    rows = [(s.name, s.where, s.critic or "", s.documents, s.version, s.note) for s in found]
    text = table(["name", "predicate", "critic", "documents", "version", "note"], rows)
    record = {"snapshot": snapshot.version, "selections": list(map(asdict, found))}
    Output(output).result(record, text if found else "none; save one: ixt select save NAME SQL")


def show(
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    history: Annotated[
        bool, typer.Option("--history", help="Show each commit that saved or dropped it.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Show a saved selection, and how many documents it finds in this snapshot."""
    from ixt_data.store import Store, selections

    out, opened = Output(output), Store.open(store)
    if history:
        changes = list(selections.selection_history(opened, name))
        records = [asdict(change) for change in changes]
        rows = [
            (c.version, c.created, s.where if s else "dropped", s.documents if s else "")
            for c in changes
            for s in (c.selection,)
        ]
        header = ["version", "created", "predicate", "documents"]
        out.result({"name": name, "history": records}, table(header, rows))
        return
    snapshot = opened.snapshot(at)
    saved = selections.saved_selection(snapshot, name, opened.root)
    record: dict[str, Any] = asdict(saved)
    record["documents_when_saved"] = record.pop("documents")
    record["documents_now"] = selections.count_matches(opened, snapshot, saved)
    out.result({**record, "snapshot": snapshot.version})


def drop(
    name: NameArgument, store: StoreOption = DEFAULT_STORE, output: OutputOption = OutputMode.text
) -> None:
    """Drop a saved selection; earlier snapshots keep it."""
    from ixt_data.store import Store, drop_selection

    version = drop_selection(Store.open(store), name)
    Output(output).result(
        {"dropped": name, "snapshot": version}, f"{name} is gone from snapshot {version} on"
    )
