"""The verb `enrich`: columns computed from the texts of documents."""

from dataclasses import asdict
from typing import Annotated

import typer

from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption, key_values
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    add_verb(
        app,
        enrich,
        Group.DATA,
        example="ixt enrich --store S --with statistics",
        docs="curating.md",
    )


def enrich(
    enricher: Annotated[
        str,
        typer.Option("--with", help="Enricher: statistics, language, tokens, or one of a plugin."),
    ],
    store: StoreOption = DEFAULT_STORE,
    corpus: Annotated[
        list[str] | None,
        typer.Option(show_default="all corpora", help="Corpus to enrich; may be repeated."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-O", metavar="KEY=VALUE", help="Option of the enricher; may be repeated."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, show_default="one per core", help="Processes that share the shards."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite columns that exist already.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Compute columns of each document from its text, and publish them in a new snapshot."""
    from ixt_data.analysis import enrich as run
    from ixt_data.analysis import load_enricher
    from ixt_data.store import Store

    out, opened = Output(output), Store.open(store)
    loaded = load_enricher(enricher, key_values(option))
    with out.progress("enriching", None, "documents") as bar:
        report = run(
            opened,
            enricher,
            loaded,
            corpora=corpus or (),
            replace=replace,
            workers=workers,
            progress=lambda done, total: bar.update(done, total=total),
        )
    out.result(asdict(report))
