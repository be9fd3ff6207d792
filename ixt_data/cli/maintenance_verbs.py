"""The verbs that keep a store in order: verify, compact, gc."""

from datetime import timedelta
from typing import Annotated

import typer

from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, format_count, table


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    page = "operators.md"
    add_verb(app, verify, Group.MAINTAIN, example="ixt verify --store S --repair", docs=page)
    add_verb(app, compact, Group.MAINTAIN, example="ixt compact --store S", docs=page)
    add_verb(app, gc, Group.MAINTAIN, example="ixt gc --store S --dry-run", docs=page)


def verify(
    store: StoreOption = DEFAULT_STORE,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="VERSION|TAG",
            show_default="all retained snapshots",
            help="Check the files of this snapshot only.",
        ),
    ] = None,
    fast: Annotated[bool, typer.Option(help="Check sizes only; read no contents.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, show_default="one per core", help="Files that are read at a time."),
    ] = None,
    repair: Annotated[
        bool, typer.Option(help="Rebuild indexes and checkpoints; queue lost critiques again.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Check every file against the log.

    Exit code 1 if a problem remains.
    """
    from ixt_data.maintenance import repair as repair_store
    from ixt_data.maintenance import verify as run
    from ixt_data.store import Store

    out, opened = Output(output), Store.open(store)
    with out.progress("verifying", None, "B") as bar:
        report = run(
            opened,
            at=at,
            fast=fast,
            workers=workers,
            progress=lambda done, total: bar.update(done, total=total),
        )
    if repair:
        report = repair_store(opened, report)
    summary = f"{format_count(report.files, 'file')}, {report.bytes:,} bytes: "
    summary += (
        format_count(len(report.problems), "problem") if report.problems else "all match the log"
    )
    out.result(report.to_json(), summary)
    if output is OutputMode.text and report.problems:
        rows = [(p.path, p.problem, p.documents, p.remedy) for p in report.problems]
        out.console.print(table(["path", "problem", "documents", "remedy"], rows))
    if report.unfinished:
        out.note(
            f"{format_count(len(report.unfinished), 'file')} of an unfinished ingest; the same "
            "command continues it. `ixt gc` removes them a day after its last write"
        )
    if report.orphans:
        out.note(
            f"{format_count(len(report.orphans), 'file')} that no version references; "
            "`ixt gc` removes them"
        )
    if len(report.repaired) < len(report.problems):
        raise typer.Exit(1)


def compact(
    store: StoreOption = DEFAULT_STORE,
    min_files: Annotated[
        int, typer.Option(help="Merge partitions with at least this many small files.")
    ] = 8,
    full: Annotated[bool, typer.Option(help="Merge large base files again, too.")] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Merge small Parquet files into one file per partition, sorted by document."""
    from dataclasses import asdict

    from ixt_data.maintenance import compact as run
    from ixt_data.store import Store

    out, opened = Output(output), Store.open(store)
    merges = run(opened, min_files=min_files, full=full)
    rows = [(m.table, m.partition, m.files, m.rows, m.snapshot) for m in merges]
    text = (
        table(["table", "partition", "files", "rows", "snapshot"], rows)
        if merges
        else "no partition has enough small files to merge"
    )
    record = {"merges": [asdict(m) for m in merges], "snapshot": opened.snapshot().version}
    out.result(record, text)


def gc(
    store: StoreOption = DEFAULT_STORE,
    keep_versions: Annotated[int, typer.Option(help="Latest versions to retain.")] = 100,
    keep_days: Annotated[
        float, typer.Option(help="Retain versions newer than this many days.")
    ] = 7,
    grace_hours: Annotated[
        float, typer.Option(help="Hours without a sign after which a writer counts as crashed.")
    ] = 24,
    journal_days: Annotated[
        float, typer.Option(help="Days to retain unpublished responses of a critic.")
    ] = 30,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be deleted; delete nothing.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Expire old versions and delete files that nothing references.

    Retained versions, tags and running jobs keep their files.
    """
    from ixt_data.maintenance import collect_garbage
    from ixt_data.store import Store

    out = Output(output)
    report = collect_garbage(
        Store.open(store),
        keep_versions=keep_versions,
        keep=timedelta(days=keep_days),
        grace=timedelta(hours=grace_hours),
        keep_journals=timedelta(days=journal_days),
        dry_run=dry_run,
    )
    done = "would delete" if dry_run else "deleted"
    gone = sorted([*report.deleted, *map(str, report.journals)])
    record = {
        "dry_run": dry_run,
        "files": len(gone),
        "bytes": report.bytes,
        "deleted": gone,
        "aborted": report.aborted,
        "pins": report.pins,
        "expired_pins": report.expired,
        "min_version": report.min_version,
        "snapshot": report.snapshot,
    }
    out.result(record, f"{done} {format_count(len(gone), 'file')}, {report.bytes:,} bytes")
    if dry_run and output is OutputMode.text:
        out.console.print("\n".join(gone), markup=False, highlight=False)
