"""The verbs of a store's history: log, tag, diff."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, format_count, printable, table

if TYPE_CHECKING:
    from ixt_data.store import Store


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    add_verb(app, show_log, Group.ASK, name="log", example="ixt log --store S", docs="operators.md")
    add_verb(app, tag, Group.MAINTAIN, example="ixt tag --store S web-v1", docs="operators.md")
    add_verb(app, diff, Group.ASK, example="ixt diff --store S web-v1", docs="curators.md")


def tag(
    name: Annotated[
        str | None, typer.Argument(help="Name of the tag; without it, the tags are listed.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Remove the tag; `ixt gc` may then expire its snapshot."),
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Tag a snapshot so that it does not expire, list the tags, or remove one."""
    from ixt_data.store import Store

    out, opened = Output(output), Store.open(store)
    if delete:
        if name is None or at is not None:
            raise typer.BadParameter(
                "requires the name of a tag, without --at", param_hint="--delete"
            )
        version = opened.untag(name)
        out.result(
            {"tag": name, "snapshot": version, "deleted": True},
            f"removed the tag {name}; it was at snapshot {version}",
        )
        return
    if name is None:
        out.result({"tags": opened.tags()}, table(["tag", "version"], opened.tags().items()))
        return
    version = opened.tag(name, at)
    out.result({"tag": name, "snapshot": version}, f"{name} is snapshot {version}")


def show_log(
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    limit: Annotated[int, typer.Option(min=0, help="Commits to show; 0 shows all.")] = 20,
    files: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|TAG",
            help="Instead of commits, list the Parquet and shard files of this snapshot.",
        ),
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """List commits and what each changed, latest first; or the files of a snapshot."""
    from ixt_data.store import Store

    out, opened = Output(output), Store.open(store)
    if files is not None:
        _show_files(opened, files, out)
        return
    head = opened.snapshot(at).version
    oldest = max(1, head - limit + 1) if limit else 1
    commits: list[dict[str, Any]] = []
    for entry in reversed([*opened.log.entries(oldest, head)]):
        commits.append(
            {
                "version": entry.version,
                "created": entry.created,
                "op": entry.op,
                "unit": entry.unit,
                "rows": sum(rows.rows for rows in entry.rows_add),
                "shards": len(entry.shards_add),
                "summary": entry.summary,
            }
        )
    rows = [
        (
            c["version"],
            c["created"][:19],
            c["op"],
            c["rows"],
            c["shards"],
            _summary_text(c["summary"]),
        )
        for c in commits
    ]
    header = ["version", "created (UTC)", "op", "rows", "shards", "summary"]
    out.result({"snapshot": head, "commits": commits}, table(header, rows))


def _show_files(store: "Store", at: str, out: Output) -> None:
    """Print the files of a snapshot, one path per line; JSON says what each has."""
    from ixt_data.store import location_of

    snapshot = store.snapshot(at)
    listed: list[dict[str, Any]] = [
        {
            "path": f"{store.root}/{file.path}",
            "table": file.table,
            "partition": file.partition,
            "generation": file.generation,
            "rows": file.rows,
            "bytes": file.bytes,
        }
        for file in snapshot.rows.values()
    ]
    listed += [
        {
            "path": location_of(shard) if shard.is_external else f"{store.root}/{shard.path}",
            "family": shard.family,
            "corpus": shard.corpus,
            "samples": shard.samples,
            "bytes": shard.stored.bytes,
        }
        for shard in snapshot.shards_by_path.values()
    ]
    text = "\n".join(printable(file["path"]) for file in listed)
    out.result({"snapshot": snapshot.version, "files": listed}, text)


def _summary_text(summary: Mapping[str, Any]) -> str:
    """Return a commit's counts in short; `--output json` has all of them."""
    plain = (str, int, float)
    shown = {k: v for k, v in summary.items() if isinstance(v, plain) and v not in ("", 0)}
    return ", ".join(f"{k} {v}" for k, v in shown.items() if k not in ("run", "started"))


def diff(
    before: Annotated[
        str, typer.Argument(metavar="VERSION|TAG", help="The snapshot to compare from.")
    ],
    after: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION|TAG", show_default="latest", help="The snapshot to compare to."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    show: Annotated[
        int, typer.Option(min=0, max=1000, help="Documents to list of each kind of change.")
    ] = 10,
    output: OutputOption = OutputMode.text,
) -> None:
    """Show what changed between two snapshots: documents, scores, and values of columns."""
    from ixt_data.analysis import diff as run
    from ixt_data.store import Store

    out = Output(output)
    changes = run(Store.open(store), before, after, documents=show)
    out.result(changes, f"from snapshot {changes['from']} to {changes['to']}")
    if output is OutputMode.text:
        for what in ("documents", "critiques", "columns", "shards", "selections", "queries"):
            if rows := changes[what]:
                out.console.print(
                    f"\n[bold]{what}[/]", table(list(rows[0]), map(dict.values, rows))
                )
        for what, total, rows in _changed_documents(changes["changed"]):
            if not rows:
                continue
            out.console.print(
                f"\n[bold]{printable(what)}[/]: {len(rows):,} of {format_count(total, 'document')}",
                table(list(rows[0]), map(dict.values, rows)),
            )


def _changed_documents(
    changed: Mapping[str, Any],
) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    """Yield the name, the total and the listed documents of each kind of change."""
    for what in ("added", "removed", "rescored"):
        yield what, changed[what]["total"], changed[what]["documents"]
    for one in changed["values"]:
        yield f"other {one['column']}", one["total"], one["documents"]
