"""The curator's verbs: dedupe, complaints."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli import DEFAULT_STORE, AtOption, Group, OutputOption, StoreOption, add_verb
from ixt_data.console import Output, OutputMode, format_count, table

if TYPE_CHECKING:
    from ixt_tools.curate.complaint_terms import Complaints


class ClusterChoice(StrEnum):
    """The document that represents a cluster."""

    longest = "longest"
    best = "best"
    first = "first"


class Grouping(StrEnum):
    """The property by which critiques are grouped."""

    flags = "flags"
    tags = "tags"
    words = "words"


CorpusOption = Annotated[
    list[str] | None,
    typer.Option(show_default="all corpora", help="Corpus to read; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    page = "curating.md"
    add_verb(
        app, dedupe, Group.DATA, example="ixt dedupe --store S --corpus web --dry-run", docs=page
    )
    add_verb(
        app,
        complaints,
        Group.CRITIQUE,
        example="ixt complaints --store S --below 0.5",
        docs=page,
    )


def dedupe(
    store: StoreOption = DEFAULT_STORE,
    corpus: CorpusOption = None,
    threshold: Annotated[
        float,
        typer.Option(help="Minimum Jaccard similarity of the 5-word shingles of two documents."),
    ] = 0.8,
    column: Annotated[
        str, typer.Option(help="Column for the cluster; COLUMN_keep marks its representative.")
    ] = "near_dup",
    keep: Annotated[
        ClusterChoice, typer.Option(help="Document that represents a cluster.")
    ] = ClusterChoice.longest,
    critic: Annotated[
        str | None,
        typer.Option(
            show_default="the only critic", help="Critic whose scores --keep best compares."
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option(min=16, max=1024, help="Hashes per MinHash signature.")
    ] = 128,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="one per core, fewer for few documents",
            help="Processes that compute signatures; any number gives the same result.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report clusters; write nothing.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Find near-duplicates by MinHash, and write their clusters as columns of documents."""
    from ixt_data.store import Store
    from ixt_tools.curate.near_duplicates import mark_near_duplicates

    out, opened = Output(output), Store.open(store)
    with out.progress("comparing", None, "documents") as bar:
        report = mark_near_duplicates(
            opened,
            corpus or (),
            threshold=threshold,
            column=column,
            keep=keep.value,
            critic=critic,
            permutations=permutations,
            dry_run=dry_run,
            workers=workers,
            progress=lambda done, total: bar.update(done, total=total),
        )
    out.result(asdict(report))
    if report.columns:
        out.note(f"to select representatives only: where {report.columns[1]}")


def complaints(
    source: Annotated[
        str | None,
        typer.Option(show_default="all sources", help="Source of the documents to read."),
    ] = None,
    critic: Annotated[
        str | None,
        typer.Option(show_default="the only critic", help="Critic whose critiques to read."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    corpus: CorpusOption = None,
    at: AtOption = None,
    below: Annotated[
        float | None, typer.Option(help="Read only documents with a lower score.")
    ] = None,
    by: Annotated[
        Grouping | None,
        typer.Option(show_default="flags and tags, else words", help="Property by which to group."),
    ] = None,
    groups: Annotated[int, typer.Option(min=1, help="Number of groups by words.")] = 8,
    sample: Annotated[
        int, typer.Option(min=2, help="Maximum critiques to group by words.")
    ] = 20_000,
    output: OutputOption = OutputMode.text,
) -> None:
    """Group critiques by what they complain about: flags, tags or words."""
    from ixt_data.store import Store
    from ixt_tools.curate.complaint_terms import group_complaints

    out = Output(output)
    with out.progress("reading spans", None, "shards") as bar:
        found = group_complaints(
            Store.open(store),
            source=source,
            critic=critic,
            corpora=corpus or (),
            at=at,
            below=below,
            by=by.value if by is not None else None,
            groups=groups,
            sample=sample,
            progress=lambda done, total: bar.update(done, total=total),
        )
    out.result(asdict(found), _shown(found))


def _shown(found: "Complaints") -> Any:
    from rich.console import Group

    of = f"source {found.source}" if found.source is not None else "all sources"
    documents = format_count(found.documents, "document")
    head = f"{found.critic} on {of}: {documents}, snapshot {found.snapshot}"
    if found.sampled:
        head += f"; {format_count(found.sampled, 'critique')} grouped by their words"
    rows = [
        (
            one.by,
            one.name,
            f"{one.documents:,}",
            f"{one.share:.1%}",
            "" if one.lift is None else f"{one.lift:.2f}",
            "" if one.mean_score is None else f"{one.mean_score:.2f}",
            one.examples[0][:8] if one.examples else "",
        )
        for one in found.groups
    ]
    header = ["by", "complaint", "documents", "share", "lift", "mean score", "for instance"]
    return Group(head, table(header, rows) if rows else "no complaints")
