"""The verbs that keep a store in order: verify, compact, gc."""

from datetime import timedelta
from typing import Annotated

import typer

from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption
from ixt_data.console import Output, OutputMode, table


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(verify)
    app.command()(compact)
    app.command()(gc)


def verify(
    store: StoreOption = DEFAULT_STORE,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="VERSION|TAG",
            help="Only what this snapshot holds; by default what any does that is kept.",
        ),
    ] = None,
    fast: Annotated[bool, typer.Option(help="Check sizes only, read nothing.")] = False,
    repair: Annotated[
        bool, typer.Option(help="Rebuild indexes and checkpoints, queue lost critiques again.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Check every file against the log; exit 1 if something is wrong and was not mended."""
    from ixt_data.maintenance import repair as mend
    from ixt_data.maintenance import verify as run
    from ixt_data.store import Store

    out, opened = Output(output), Store.open(store)
    with out.progress("verifying", None, "B") as bar:
        report = run(
            opened, at=at, fast=fast, progress=lambda done, total: bar.update(done, total=total)
        )
    if repair:
        report = mend(opened, report)
    summary = f"{report.files:,} files, {report.bytes:,} bytes: "
    summary += f"{len(report.problems)} problems" if report.problems else "all as the log says"
    out.result(report.to_json(), summary)
    if output is OutputMode.text and report.problems:
        rows = [(p.path, p.problem, p.documents, p.remedy) for p in report.problems]
        out.console.print(table(["path", "problem", "documents", "remedy"], rows))
    if report.orphans:
        out.note(f"{len(report.orphans):,} files that no version holds; `ixt gc` removes them")
    if len(report.repaired) < len(report.problems):
        raise typer.Exit(1)


def compact(
    store: StoreOption = DEFAULT_STORE,
    min_files: Annotated[int, typer.Option(help="Lanes with fewer small files are left.")] = 8,
    full: Annotated[bool, typer.Option(help="Merge large bases again too.")] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Merge small files of rows into one a lane, sorted by document."""
    from dataclasses import asdict

    from ixt_data.maintenance import compact as run
    from ixt_data.store import Store

    out, opened = Output(output), Store.open(store)
    merges = run(opened, min_files=min_files, full=full)
    rows = [(m.table, m.partition, m.files, m.rows, m.snapshot) for m in merges]
    text = (
        table(["table", "partition", "files", "rows", "snapshot"], rows)
        if merges
        else "nothing to do"
    )
    record = {"merges": [asdict(m) for m in merges], "snapshot": opened.snapshot().version}
    out.result(record, text)


def gc(
    store: StoreOption = DEFAULT_STORE,
    keep_versions: Annotated[int, typer.Option(help="Keep the newest this many.")] = 100,
    keep_days: Annotated[float, typer.Option(help="Keep versions younger than this.")] = 7,
    grace_hours: Annotated[
        float, typer.Option(help="A writer silent for longer counts as dead.")
    ] = 24,
    journal_days: Annotated[
        float, typer.Option(help="Keep a critic's unpublished answers for so long.")
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would go.")] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Let old versions go and delete what no kept version, tag or running job holds."""
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
    out.result(record, f"{done} {len(gone):,} files, {report.bytes:,} bytes")
    if dry_run and output is OutputMode.text:
        out.console.print("\n".join(gone), markup=False, highlight=False)
