"""The verbs that fill a store with documents: init, ingest."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption, arrows, key_values
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, format_count


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    add_verb(app, init, Group.DATA, example="ixt init --store S", docs="start.md")
    add_verb(
        app,
        ingest,
        Group.DATA,
        example="ixt ingest --store S --corpus web a.jsonl.zst b.parquet src/",
        docs="start.md",
    )


def init(store: StoreOption = DEFAULT_STORE, output: OutputOption = OutputMode.text) -> None:
    """Create an empty store."""
    from ixt_data.store import Store

    created = Store.init(store)
    record = {"store": created.root, "snapshot": 0}
    Output(output).result(record, f"created an empty store: {created.root}")


def ingest(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files (JSON, CSV, Parquet, Arrow, HTML, WARC, text; also .gz, .zst, .bz2, .xz), "
            "folders, patterns such as 'data/*.jsonl', - for standard input, and addresses with "
            "s3://, gs://, az://, https:// and hf://datasets/."
        ),
    ],
    corpus: Annotated[str, typer.Option(help="Corpus to add the documents to; created if new.")],
    store: StoreOption = DEFAULT_STORE,
    text_field: Annotated[
        str, typer.Option(help="Field with the text; a record without it may have messages.")
    ] = "text",
    id_field: Annotated[
        str | None,
        typer.Option(
            show_default="id, if present",
            help="Field with your own id; a record without it is rejected.",
        ),
    ] = None,
    source_field: Annotated[
        str | None, typer.Option(show_default="source, if present", help="Field with the source.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            show_default="the content decides, then the name",
            help="Format of all inputs; `ixt plugins` lists the readers.",
        ),
    ] = None,
    records: Annotated[
        str | None,
        typer.Option(help="Keys, joined by dots, of the array of records in a JSON object."),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            show_default="the first line decides", help="Character between columns of CSV."
        ),
    ] = None,
    stage: Annotated[
        Literal["pretrain", "midtrain", "sft"] | None,
        typer.Option(
            show_default="sft for conversations, else pretrain", help="Stage of training."
        ),
    ] = None,
    types: Annotated[
        Literal["text", "auto"],
        typer.Option(help="Dates, times and UUIDs of JSON: leave them text, or give them types."),
    ] = "text",
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="FIELD=TYPE",
            help="Store a field as a DuckDB type, NULL where it does not fit; may be repeated.",
        ),
    ] = None,
    shard_mb: Annotated[
        float, typer.Option(help="Uncompressed size of a text shard, in MiB, up to 2048.")
    ] = 64,
    max_document_mb: Annotated[
        float,
        typer.Option(help="A longer record or text is rejected; in MiB, up to 256."),
    ] = 256,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="one per core, fewer for small inputs",
            help="Processes that read, convert and compress; any number gives the same result.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option(help="Exit with code 1 if a record was rejected.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Add documents to a corpus. Each text is stored once.

    A record that is not a document goes to a quarantine file with file, line and reason.
    """
    from dataclasses import asdict

    from ixt_data.ingestion import Remarks, open_inputs
    from ixt_data.ingestion import ingest as run
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    remarks = Remarks()
    sources = open_inputs(
        inputs,
        format=format,
        text_field=text_field,
        id_field=id_field,
        source_field=source_field,
        records=records,
        delimiter=delimiter,
        max_bytes=int(max_document_mb * (1 << 20)),
        remarks=remarks,
    )
    with (
        _saying_how_to_continue(out),
        out.progress("ingesting", sum(source.size for source in sources), "B") as bar,
    ):
        report = run(
            opened,
            corpus,
            sources,
            stage=stage,
            types=types,
            casts=key_values(type_, "--type"),
            remarks=remarks,
            shard_bytes=shard_mb * (1 << 20),
            workers=workers,
            progress=lambda done, documents: bar.update(done, format_count(documents, "document")),
        )
    out.result(arrows(asdict(report), output))
    if report.duplicates and not report.documents:
        out.note("nothing was committed: the corpus has every document already")
    if report.quarantined:
        file = f"{opened.root}/{report.quarantine_file}"
        out.note(
            f"{format_count(report.quarantined, 'record')} rejected, each with its reason: {file}"
        )
        # An ingest in which every record failed has done nothing.
        if strict or not report.documents + report.duplicates:
            raise typer.Exit(1)


@contextmanager
def _saying_how_to_continue(out: Output) -> Iterator[None]:
    """Exit on Ctrl-C inside the block, after a note with what is kept and how to continue."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        out.note(f"{interrupt or 'interrupted'}: {shlex.join(['ixt', *sys.argv[1:]])}")
        raise typer.Exit(130) from None
