"""The curator's verbs: dedupe, complaints."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.console import Output, OutputMode, table

if TYPE_CHECKING:
    from ixt_tools.curate.complaint_terms import Complaints


class ClusterChoice(StrEnum):
    """Which document of a cluster is kept."""

    longest = "longest"
    best = "best"
    first = "first"


class Grouping(StrEnum):
    """What makes a group of critiques."""

    flags = "flags"
    tags = "tags"
    words = "words"


CorpusOption = Annotated[
    list[str] | None, typer.Option(help="Only documents of this corpus; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(dedupe)
    app.command()(complaints)


def dedupe(
    store: StoreOption = DEFAULT_STORE,
    corpus: CorpusOption = None,
    threshold: Annotated[
        float, typer.Option(help="Least overlap of the runs of 5 words of two documents.")
    ] = 0.8,
    column: Annotated[
        str, typer.Option(help="Column to write, and COLUMN_keep beside it.")
    ] = "near_dup",
    keep: Annotated[
        ClusterChoice, typer.Option(help="Which document of a cluster is kept.")
    ] = ClusterChoice.longest,
    critic: Annotated[
        str | None, typer.Option(help="Whose scores, for --keep best [the only critic's].")
    ] = None,
    permutations: Annotated[
        int, typer.Option(min=16, max=1024, help="Numbers of a signature.")
    ] = 128,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell, write nothing.")] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Find near-duplicates, and write their clusters as columns of documents."""
    from ixt_data.store import Store
    from ixt_tools.curate.near_duplicates import dedupe as run

    out, opened = Output(output), Store.open(store)
    with out.progress("comparing", None, "documents") as bar:
        report = run(
            opened,
            corpus or (),
            threshold=threshold,
            column=column,
            keep=keep.value,
            critic=critic,
            permutations=permutations,
            dry_run=dry_run,
            progress=lambda done, total: bar.update(done, total=total),
        )
    out.result(asdict(report))
    if report.columns:
        out.note(f"to leave the others out of a selection: where {report.columns[1]}")


def complaints(
    source: Annotated[str | None, typer.Option(help="Only documents of this source.")] = None,
    critic: Annotated[str | None, typer.Option(help="Whose critiques [the only critic's].")] = None,
    store: StoreOption = DEFAULT_STORE,
    corpus: CorpusOption = None,
    at: AtOption = None,
    below: Annotated[float | None, typer.Option(help="Only documents with a lower score.")] = None,
    by: Annotated[
        Grouping | None, typer.Option(help="[flags and tags, and words if there are neither]")
    ] = None,
    groups: Annotated[int, typer.Option(min=1, help="Groups to make of words.")] = 8,
    sample: Annotated[
        int, typer.Option(min=2, help="Critiques to group by words, at most.")
    ] = 20_000,
    output: OutputOption = OutputMode.text,
) -> None:
    """Tell what is wrong with a source: critiques grouped by what they complain of."""
    from ixt_data.store import Store
    from ixt_tools.curate.complaint_terms import complaints as run

    out = Output(output)
    with out.progress("reading spans", None, "shards") as bar:
        found = run(
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
    head = f"{found.critic} on {of}: {found.documents:,} documents, snapshot {found.snapshot}"
    if found.sampled:
        head += f"; {found.sampled:,} critiques grouped by their words"
    rows = [
        (
            one.by,
            one.name,
            f"{one.documents:,}",
            f"{one.share:.1%}",
            "" if one.lift is None else f"{one.lift:.2f}",
            "" if one.mean_score is None else f"{one.mean_score:.2f}",
            one.examples[0] if one.examples else "",
        )
        for one in found.groups
    ]
    header = ["by", "complaint", "documents", "share", "lift", "mean score", "for instance"]
    return Group(head, table(header, rows) if rows else "no complaints")
