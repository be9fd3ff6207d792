"""The verbs that bring data in without a copy and write it for other tools: adopt, export."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from ixt_data.cli.options import (
    DEFAULT_STORE,
    AtOption,
    OutputOption,
    StoreOption,
    arrows,
    key_values,
)
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, format_count

ReadersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default="one per core",
        help="Threads that read shards; any number gives the same result.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    add_verb(
        app,
        adopt,
        Group.DATA,
        example="ixt adopt --store S --corpus web /data/mds/train",
        docs="curators.md",
    )
    add_verb(
        app,
        export,
        Group.DATA,
        example='ixt export --store S good.jsonl --where "score >= 0.5"',
        docs="curators.md",
    )


def adopt(
    folder: Annotated[
        str,
        typer.Argument(metavar="MDS_FOLDER", help="Folder of MDS shards, or s3://bucket/prefix."),
    ],
    corpus: Annotated[str, typer.Option(help="Corpus to add the documents to; created if new.")],
    store: StoreOption = DEFAULT_STORE,
    text_field: Annotated[str, typer.Option(help="Column with the text.")] = "text",
    id_field: Annotated[
        str | None,
        typer.Option(show_default="folder:shard:row", help="Column with your own id."),
    ] = None,
    stage: Annotated[
        Literal["pretrain", "midtrain", "sft"], typer.Option(help="Stage of training.")
    ] = "pretrain",
    moved_from: Annotated[
        str | None,
        typer.Option(
            metavar="OLD_FOLDER",
            help="Adopt nothing: the folder was adopted as OLD_FOLDER and has moved.",
        ),
    ] = None,
    workers: ReadersOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Make an MDS folder a corpus in place: nothing is copied or changed."""
    from ixt_data.ingestion import adopt as run
    from ixt_data.ingestion import folder_bytes, move_adopted
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    if moved_from is not None:
        version, shards = move_adopted(opened, corpus, moved_from, folder)
        record = {"corpus": corpus, "folder": folder, "shards": shards, "snapshot": version}
        out.result(record, f"{format_count(shards, 'shard')} of {corpus} are now in {folder}")
        return
    with out.progress("adopting", folder_bytes(folder), "B") as bar:
        report = run(
            opened,
            corpus,
            folder,
            text_field=text_field,
            id_field=id_field,
            stage=stage,
            workers=workers,
            progress=lambda done, documents: bar.update(done, format_count(documents, "document")),
        )
    out.result(arrows(asdict(report), output))
    if report.left_out:
        out.note(
            f"columns without metadata: {', '.join(report.left_out)} (neither numbers nor text)"
        )


def export(
    to: Annotated[
        str | None,
        typer.Argument(
            metavar="OUT", show_default="STORE/delta for delta", help="File or folder to write."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            show_default="by the name of OUT",
            help="delta, hf, jsonl, mds, megatron, packed, parquet, or a plugin's format.",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL", show_default="all documents", help="Predicate of the documents to write."
        ),
    ] = None,
    selection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Write only the documents of this saved selection."),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(show_default="all corpora", help="Corpus to write; may be repeated."),
    ] = None,
    critic: Annotated[
        str | None,
        typer.Option(show_default="the only critic", help="Critic whose critiques to join."),
    ] = None,
    at: AtOption = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="KEY=VALUE",
            help="Option of the format, such as tokenizer=DIR for packed; may be repeated.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a previous export.")
    ] = False,
    workers: ReadersOption = None,
    store: StoreOption = DEFAULT_STORE,
    output: OutputOption = OutputMode.text,
) -> None:
    """Write documents with their critiques for other tools, or metadata as Delta tables.

    Options of `packed` and `megatron`: tokenizer (required), mix, samples, holdout; of `packed`
    also max_length, of `megatron` stage.
    """
    from ixt_data.config import validate
    from ixt_data.errors import ConfigError, UsageError
    from ixt_data.export import ExportRequest, find_exporter
    from ixt_data.store import Store, saved_selection

    try:
        format, exporter = find_exporter(to, format)
    except UsageError as error:
        raise typer.BadParameter(str(error), param_hint="--format") from None
    if where is not None and selection is not None:
        raise typer.BadParameter("give one of --where and --selection", param_hint="--selection")
    opened = Store.open(store)
    if selection is not None:
        saved = saved_selection(opened.snapshot(at), selection, opened.root)
        where, critic = saved.where, critic or saved.critic
    request = ExportRequest(opened, to, where, tuple(corpus or ()), critic, at, overwrite, workers)
    try:
        settings = validate(exporter.options, key_values(option), f"--format {format} --option")
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--option") from None
    out = Output(output)
    try:
        with out.progress("exporting", None, exporter.unit) as bar:
            report = exporter.run(
                request, settings, lambda done, total, note: bar.update(done, note, total)
            )
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    out.result(report)
