"""The verbs that take data in where it is, and let it out: adopt, export."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Literal

import typer

from ixt_data.cli.output import (
    DEFAULT_STORE,
    AtOption,
    Output,
    OutputMode,
    OutputOption,
    StoreOption,
)


class ExportFormat(StrEnum):
    """What `ixt export` makes."""

    delta = "delta"
    parquet = "parquet"
    jsonl = "jsonl"
    mds = "mds"


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(adopt)
    app.command()(export)


def adopt(
    folder: Annotated[
        str,
        typer.Argument(metavar="MDS_FOLDER", help="Folder of MDS shards, also s3://bucket/prefix."),
    ],
    corpus: Annotated[str, typer.Option(help="Corpus that the documents go to.")],
    store: StoreOption = DEFAULT_STORE,
    text_field: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    id_field: Annotated[
        str | None, typer.Option(help="Column that holds your own id [folder:shard:row].")
    ] = None,
    stage: Annotated[
        Literal["pretrain", "midtrain", "sft"], typer.Option(help="Stage of training.")
    ] = "pretrain",
    output: OutputOption = OutputMode.text,
) -> None:
    """Make an MDS folder a corpus where it is; nothing is copied and nothing in it changed."""
    from ixt_data.adopt import adopt as run
    from ixt_data.adopt import folder_bytes
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    with out.progress("adopting", folder_bytes(folder), "B") as bar:
        report = run(
            opened,
            corpus,
            folder,
            text_field=text_field,
            id_field=id_field,
            stage=stage,
            progress=lambda done, documents: bar.update(done, f"{documents:,} documents"),
        )
    out.result(asdict(report))
    if report.left_out:
        out.note(f"no metadata from {', '.join(report.left_out)}: neither numbers nor text")


def export(
    to: Annotated[
        str | None,
        typer.Argument(metavar="OUT", help="File or folder to make; delta has STORE/delta."),
    ] = None,
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="What to make.")] = (
        ExportFormat.parquet
    ),
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only documents for which this is true.")
    ] = None,
    selection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only documents of this saved selection."),
    ] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Only documents of this corpus; may be repeated.")
    ] = None,
    critic: Annotated[
        str | None, typer.Option(help="Whose critiques to join [the only critic's].")
    ] = None,
    at: AtOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    output: OutputOption = OutputMode.text,
) -> None:
    """Write documents with their critiques for other tools, or show the rows as Delta tables."""
    from ixt_data import export as exports
    from ixt_data.selections import saved_selection
    from ixt_data.store import Store

    if format is ExportFormat.delta:
        if where or selection or corpus or critic:
            raise typer.BadParameter(
                "delta tables are whole: without --where, --selection, --corpus, --critic",
                param_hint="--format",
            )
        made = exports.export_delta(Store.open(store), to, at=at, overwrite=overwrite)
        Output(output).result(asdict(made))
        return
    if to is None:
        raise typer.BadParameter(f"{format.value} needs a place to go to", param_hint="OUT")
    if where is not None and selection is not None:
        raise typer.BadParameter("give one of --where and --selection", param_hint="--selection")
    opened = Store.open(store)
    if selection is not None:
        saved = saved_selection(opened.snapshot(at), selection, opened.root)
        where, critic = saved.where, critic or saved.critic
    selected = exports.Selected(opened, where=where, corpora=corpus or (), critic=critic, at=at)
    write = {
        ExportFormat.parquet: exports.export_parquet,
        ExportFormat.jsonl: exports.export_jsonl,
        ExportFormat.mds: exports.export_mds,
    }[format]
    out = Output(output)
    with out.progress("exporting", selected.total, "documents") as bar:
        report = write(
            selected,
            to,
            overwrite=overwrite,
            progress=lambda done, found: bar.update(done, f"{found:,} chosen"),
        )
    out.result(asdict(report))
