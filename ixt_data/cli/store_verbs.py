"""The verbs that fill a store with documents: init, ingest."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption
from ixt_data.console import Output, OutputMode


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(init)
    app.command()(ingest)


def init(store: StoreOption = DEFAULT_STORE, output: OutputOption = OutputMode.text) -> None:
    """Make an empty store."""
    from ixt_data.store import Store

    made = Store.init(store)
    Output(output).result({"store": made.root, "snapshot": 0}, f"made an empty store: {made.root}")


def ingest(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="JSONL (.gz, .zst), Parquet, text files, folders of text or code."),
    ],
    corpus: Annotated[str, typer.Option(help="Corpus that the documents go to.")],
    store: StoreOption = DEFAULT_STORE,
    text_field: Annotated[
        str, typer.Option(help="Field of the text; without it, messages is read as a conversation.")
    ] = "text",
    id_field: Annotated[
        str | None, typer.Option(help="Field that holds your own id ['id' if there is one].")
    ] = None,
    stage: Annotated[
        Literal["pretrain", "midtrain", "sft"] | None,
        typer.Option(help="Stage of training; by default sft for conversations, else pretrain."),
    ] = None,
    shard_mb: Annotated[float, typer.Option(help="Size of a text shard, uncompressed.")] = 64,
    strict: Annotated[bool, typer.Option(help="Exit 1 if any record was rejected.")] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Add documents to a corpus, each text once; what cannot be read goes to a quarantine file."""
    from dataclasses import asdict

    from ixt_data.ingestion import ingest as run
    from ixt_data.ingestion import open_inputs
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    sources = open_inputs(inputs, text_field=text_field, id_field=id_field)
    with out.progress("ingesting", sum(source.size for source in sources), "B") as bar:
        report = run(
            opened,
            corpus,
            inputs,
            text_field=text_field,
            id_field=id_field,
            stage=stage,
            shard_bytes=int(shard_mb * (1 << 20)),
            progress=lambda done, documents: bar.update(done, f"{documents:,} documents"),
        )
    out.result(asdict(report))
    if report.quarantined:
        file = f"{opened.root}/{report.quarantine_file}"
        out.note(f"{report.quarantined:,} records rejected, each with its reason: {file}")
        if strict:
            raise typer.Exit(1)
