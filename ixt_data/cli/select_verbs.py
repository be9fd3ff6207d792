"""The verbs of saved selections: save, list, show, drop."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb, add_verbs
from ixt_data.console import Output, OutputMode, format_count, table

NameArgument = Annotated[str, typer.Argument(help="Name of the selection.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    page = "querying.md"
    select = add_verbs(app, "select", Group.ASK, "Save predicates by name, for queries and mixes.")
    add_verb(
        select,
        save,
        None,
        example='ixt select save --store S good "score >= 0.8" --critic rules',
        docs=page,
    )
    add_verb(select, show_all, None, name="list", example="ixt select list --store S", docs=page)
    add_verb(select, show, None, example="ixt select show --store S good", docs=page)
    add_verb(select, drop, None, example="ixt select drop --store S good", docs=page)


def save(
    name: NameArgument,
    where: Annotated[str, typer.Argument(metavar="PREDICATE", help='SQL, as in "score >= 0.8".')],
    store: StoreOption = DEFAULT_STORE,
    critic: Annotated[
        str | None,
        typer.Option(
            show_default="the only critic, if one is needed",
            help="Critic whose critiques the predicate reads.",
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="Reason, kept with the selection.")] = "",
    output: OutputOption = OutputMode.text,
) -> None:
    """Save a predicate under a name, or replace the one of that name.

    The predicate is validated against the store first.
    """
    from ixt_data.store import Store, save_selection

    saved = save_selection(Store.open(store), name, where, critic=critic, note=note)
    by = f" with critiques by {saved.critic}" if saved.critic else ""
    found = format_count(saved.documents, "document")
    text = f"{name} matches {found}{by}; saved in snapshot {saved.version}"
    out = Output(output)
    out.result(asdict(saved), text)
    if not saved.documents:
        out.note(f"no document matches {where!r} yet")


def show_all(
    store: StoreOption = DEFAULT_STORE, at: AtOption = None, output: OutputOption = OutputMode.text
) -> None:
    """List the saved selections of a snapshot."""
    from ixt_data.store import Store

    snapshot = Store.open(store).snapshot(at)
    saved = list(snapshot.selections.values())
    rows = [(s.name, s.where, s.critic or "", s.documents, s.version, s.note) for s in saved]
    text = table(["name", "predicate", "critic", "documents", "version", "note"], rows)
    record = {"snapshot": snapshot.version, "selections": list(map(asdict, saved))}
    Output(output).result(
        record, text if saved else "no selection is saved; save one: ixt select save NAME SQL"
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
    """Show a saved selection and the number of documents that it matches."""
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
    """Drop a saved selection; previous snapshots keep it."""
    from ixt_data.store import Store, drop_selection

    version = drop_selection(Store.open(store), name)
    Output(output).result(
        {"dropped": name, "snapshot": version}, f"dropped {name} in snapshot {version}"
    )
