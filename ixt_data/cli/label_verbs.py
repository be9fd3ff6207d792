"""The verbs of people's labels: label, and labels import, export, precision."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb, add_verbs
from ixt_data.console import Output, OutputMode, format_count, printable, table
from ixt_data.export import LabelFormat, read_labels, write_documents
from ixt_data.records import Span

PAGE = "labeling.md"
_SPAN = re.compile(r"(\d+):(\d+):([^:]+)(?::([^:]*))?(?::(.*))?", re.DOTALL)

SelectionOption = Annotated[
    str | None, typer.Option(help="Saved selection, instead of --where.", metavar="NAME")
]
WhereOption = Annotated[str | None, typer.Option(help="Predicate as in a mix.")]
SeedOption = Annotated[int, typer.Option(help="Number of the random order.")]
ByOption = Annotated[
    str | None, typer.Option(envvar="IXT_REVIEWER", show_envvar=True, help="Name of the person.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    example = "ixt label page-3 --store S --score 0.2 --critique 'Ends too early.' --by ana"
    add_verb(app, label, Group.CRITIQUE, example=example, docs=PAGE)
    labels = add_verbs(
        app, "labels", Group.CRITIQUE, "Queues, files and statistics of people's labels."
    )
    example = "ixt labels queue disagreement --store S --critic rules --critic quality"
    add_verb(labels, queue, None, example=example, docs=PAGE)
    example = "ixt labels precision --store S --selection good"
    add_verb(labels, precision, None, example=example, docs=PAGE)
    example = "ixt labels export todo.jsonl --store S --format argilla --queue random"
    add_verb(labels, export, None, example=example, docs=PAGE)
    example = "ixt labels import done.jsonl --store S --format argilla --by ana"
    add_verb(labels, import_labels, None, name="import", example=example, docs=PAGE)


def label(
    document: Annotated[str, typer.Argument(help="A doc_id, its start, or a source_id.")],
    store: StoreOption = DEFAULT_STORE,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score; higher is better.")
    ] = None,
    critique: Annotated[str, typer.Option(help="What is good or wrong, in words.")] = "",
    span: Annotated[
        list[str] | None,
        typer.Option(
            metavar="START:END:VERDICT[:TAG[:COMMENT]]",
            help="Characters that are `right` or `wrong`; may be repeated.",
        ),
    ] = None,
    flag: Annotated[list[str] | None, typer.Option(help="Short label; may be repeated.")] = None,
    by: ByOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Score or correct a document as a person: a critique of the critic `human`.

    A later label of the document replaces this one, which stays in `critiques_all`.
    """
    from ixt_data.store import Store

    spans = [_parse_span(text) for text in span or ()]
    report = Store.open(store).label(
        document,
        by=_required(by),
        score=score,
        critique=critique,
        spans=spans,
        flags=flag or (),
    )
    what = "replaced the label of" if report.replaced else "labeled"
    Output(output).result(
        asdict(report), f"{what} {printable(document)}; snapshot {report.snapshot}"
    )


def queue(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="disagreement, uncertain or random.")],
    store: StoreOption = DEFAULT_STORE,
    critic: Annotated[
        list[str] | None,
        typer.Option(show_default="the only ones", help="Critic to compare; two for disagreement."),
    ] = None,
    where: WhereOption = None,
    selection: SelectionOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of documents.")] = 20,
    seed: SeedOption = 0,
    at: AtOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """List documents without a label, the most useful ones first.

    `disagreement` orders them by the difference of two critics, `uncertain` by the entropy of a
    score. `random` is a fixed random order, whose labels estimate precision without bias.
    """
    found = _queue(kind, store, critic, where, selection, limit, seed, at)
    rows = [
        (
            one.doc_id[:8],
            printable(one.source_id),
            one.corpus,
            *("-" if score is None else f"{score:.2f}" for score in one.scores.values()),
            "-" if one.value is None else f"{one.value:.2f}",
        )
        for one in found
    ]
    header = ["document", "source_id", "corpus", *(found[0].scores if found else ()), kind]
    shown: Any = table(header, rows) if rows else "no document without a label"
    out = Output(output)
    out.result({"documents": [asdict(one) for one in found]}, shown)
    if found:
        out.note(f"to label one: ixt label {found[0].doc_id[:8]} --score 0.5 --by NAME")


def precision(
    store: StoreOption = DEFAULT_STORE,
    selection: SelectionOption = None,
    where: WhereOption = None,
    critic: Annotated[
        str | None, typer.Option(show_default="the only critic", help="Critic of --where.")
    ] = None,
    good: Annotated[
        float, typer.Option(min=0, max=1, help="Score of a label from which a document is good.")
    ] = 0.5,
    seed: SeedOption = 0,
    at: AtOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Estimate how much of a selection is good, with its interval of 95%.

    Only labels in the order of the selection's random queue count, up to the first document
    without a label.
    """
    from ixt_data.analysis import estimate_precision
    from ixt_data.store import Store

    _one_of(where, selection)
    found = estimate_precision(
        Store.open(store),
        selection=selection,
        where=where,
        critic=critic,
        cut=good,
        seed=seed,
        at=at,
    )
    Output(output).result(asdict(found), str(found))


def export(
    to: Annotated[Path, typer.Argument(help="File to write: .jsonl, or .json for an array.")],
    store: StoreOption = DEFAULT_STORE,
    format: Annotated[LabelFormat, typer.Option(help="Format of the records.")] = LabelFormat.ixt,
    queue: Annotated[
        str, typer.Option(metavar="KIND", help="disagreement, uncertain or random.")
    ] = "random",
    critic: Annotated[
        list[str] | None,
        typer.Option(show_default="the only ones", help="Critic to compare; may be repeated."),
    ] = None,
    suggest: Annotated[
        str | None,
        typer.Option(metavar="CRITIC", help="Critic whose score and critique are suggested."),
    ] = None,
    where: WhereOption = None,
    selection: SelectionOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of documents.")] = 100,
    seed: SeedOption = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it exists, with its labels.")
    ] = False,
    at: AtOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Write documents of a queue for people to label, for Argilla or Label Studio.

    A suggestion influences people: for an unbiased estimate, suggest nothing.
    """
    from ixt_data.sql import choose_critic
    from ixt_data.store import Store

    opened = Store.open(store)
    if suggest is not None:
        choose_critic(opened.snapshot(at), suggest, opened.root)
    found = _queue(queue, store, critic, where, selection, limit, seed, at)
    documents = (opened.document(one.doc_id, at=at) for one in found)
    n = write_documents(to, format, documents, suggest, overwrite=overwrite)
    record = {"documents": n, "to": str(to), "format": format.value}
    Output(output).result(record, f"{format_count(n, 'document')} in {to}")


def import_labels(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="File to read.", exists=True)],
    store: StoreOption = DEFAULT_STORE,
    format: Annotated[LabelFormat, typer.Option(help="Format of the records.")] = LabelFormat.ixt,
    by: ByOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Add the labels of a file of Argilla, Label Studio or `ixt labels export`.

    Every answer is added, the last one of a document counts. Records without an answer, drafts and
    discarded answers are skipped and counted. Nothing is added if a record is not valid.
    """
    from ixt_data.store import Store, label_documents

    file = read_labels(source, format, by)
    skipped = f"{format_count(file.unlabeled, 'record')} without a label"
    if file.withheld:
        skipped += f", {format_count(file.withheld, 'answer')} not submitted (draft or discarded)"
    if not file.labels:
        raise typer.BadParameter(f"{source} has no label yet: {skipped}", param_hint="FILE")
    report = label_documents(Store.open(store), file.labels)
    record = {**asdict(report), "unlabeled": file.unlabeled, "withheld": file.withheld}
    text = f"{format_count(report.labels, 'label')}, {report.replaced:,} of them replace others; "
    Output(output).result(record, f"{text}skipped {skipped}; snapshot {report.snapshot}")


def _queue(
    kind: str,
    store: str,
    critics: list[str] | None,
    where: str | None,
    selection: str | None,
    limit: int,
    seed: int,
    at: str | None,
) -> list[Any]:
    from ixt_data.analysis import Queue, queue_documents
    from ixt_data.store import Store

    if kind not in list(Queue):
        raise typer.BadParameter(f"{kind!r}; valid: {', '.join(Queue)}", param_hint="KIND")
    if where is not None and selection is not None:
        raise typer.BadParameter("give one of them", param_hint="--where/--selection")
    return queue_documents(
        Store.open(store),
        Queue(kind),
        critics=critics or (),
        where=where,
        selection=selection,
        limit=limit,
        seed=seed,
        at=at,
    )


def _one_of(where: str | None, selection: str | None) -> None:
    if (where is None) == (selection is None):
        raise typer.BadParameter("give one of them", param_hint="--where/--selection")


def _parse_span(text: str) -> Span:
    match = _SPAN.fullmatch(text)
    if match is None:
        what = f"{text!r} is not START:END:VERDICT[:TAG[:COMMENT]], such as 0:12:wrong"
        raise typer.BadParameter(what, param_hint="--span")
    start, end, verdict, tag, comment = match.groups()
    return Span(int(start), int(end), verdict, tag or "", comment or "")


def _required(by: str | None) -> str:
    if by is None:
        raise typer.BadParameter("is missing: your name, or set IXT_REVIEWER", param_hint="--by")
    return by
