"""The verbs of this package, from demo to doctor. Heavy imports wait inside."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.console import Output, OutputMode, table
from ixt_data.errors import MissingExtra
from ixt_tools.curate import curate_verbs as curate

if TYPE_CHECKING:
    from ixt_data.analysis import Calibration, CanaryResult


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(demo)
    app.command()(calibrate)
    app.command()(report)
    app.command()(doctor)
    curate.register(app)


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything goes; made anew.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the corpus, the mixes, the models.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps only: is everything connected?")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Play the whole way of the data on this machine, in minutes, and write report.html."""
    MissingExtra.require("train", "composer", "altair", "vl_convert")
    from ixt_tools.demo import run_demo

    out = Output(output)
    out.result(run_demo(folder, seed, out, quick))


def calibrate(
    critic: Annotated[
        list[str] | None,
        typer.Option(help="Name or id of a critic; repeat to compare. All by default."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Only documents of this corpus; may be repeated.")
    ] = None,
    at: AtOption = None,
    scale: Annotated[
        int, typer.Option(min=1, max=100, help="Kappa rounds scores to 0 .. SCALE.")
    ] = 5,
    canaries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Documents that must not move: text or doc_id, and score (lowest, highest).",
        ),
    ] = None,
    write_quantiles: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Add quantiles within the source to the critic's critiques."
        ),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with charts, too.")
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Compare critics, or the thinking samples of one: agreement, length, coverage, canaries.

    Exit code 1 if a canary's score changed or is missing.
    """
    from ixt_data.analysis import calibration, read_canaries, run_canaries
    from ixt_data.analysis import write_quantiles as write
    from ixt_data.store import Store

    if plots is not None:
        MissingExtra.require("train", "altair", "vl_convert")
    if write_quantiles is not None and (len(critic or []) != 1 or at is not None):
        raise typer.BadParameter(
            "takes one --critic, and no --at: it goes on from the newest snapshot",
            param_hint="--write-quantiles",
        )
    known = read_canaries(canaries) if canaries is not None else []
    opened, out = Store.open(store), Output(output)
    found = calibration.calibrate(opened, critic or (), corpora=corpus or (), at=at, scale=scale)
    seen = run_canaries(opened, known, [scores.critic for scores in found.critics], found.snapshot)
    record: dict[str, Any] = asdict(found)
    if canaries is not None:
        record["canaries"] = [asdict(one) for one in seen]
        record["changed_canaries"] = [one.name for one in seen if not one.has_passed]
    if plots is not None:
        from ixt_tools.report import write_page

        record["plots"] = str(write_page(found, seen, plots))
    if write_quantiles is not None:
        record["quantiles"] = asdict(write(opened, (critic or [])[0], write_quantiles))
    _print_calibration(out, record, found, seen)
    if record.get("changed_canaries"):
        out.note(f"canaries outside their expected scores: {', '.join(record['changed_canaries'])}")
        raise typer.Exit(1)


def _print_calibration(
    out: Output, record: dict[str, Any], found: "Calibration", seen: "Sequence[CanaryResult]"
) -> None:
    from rich.console import Group

    from ixt_tools.report import tables

    shown: list[Any] = []
    for content in tables(found, seen):
        shown += [f"{content.title}:"] if content.title else []
        shown += [table(content.columns, content.rows), content.note, ""]
    if written := record.get("quantiles"):
        shown.append(
            f"{written['column']}: quantiles of {written['documents']:,} documents within their "
            f"source, in snapshot {written['snapshot']}"
        )
    out.result(record, Group(*shown))


def report(
    to: Annotated[
        Path,
        typer.Option("--to", metavar="FILE.html", help="The page; as JSON beside it."),
    ] = Path("report.html"),
    corpus: Annotated[
        list[str] | None, typer.Option(help="Only this corpus; may be repeated.")
    ] = None,
    critic: Annotated[
        list[str] | None, typer.Option(help="Only this critic, by name; may be repeated.")
    ] = None,
    mix: Annotated[
        list[Path] | None,
        typer.Option(metavar="MIX.YAML", help="Plan this mix on the page, too; may be repeated."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Samples that each plan draws [each document once]."),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Show this train run's curves; may be repeated."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each chart as a PNG file, too.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Write one self-contained page on a snapshot, its critics, mixes and train runs."""
    MissingExtra.require("train", "altair", "vl_convert")
    from ixt_data.store import Store
    from ixt_tools.report import make_review, write_review

    out = Output(output)
    review = make_review(
        Store.open(store),
        at,
        corpora=corpus or (),
        critics=critic or (),
        mixes=mix or (),
        runs=run or (),
        samples=samples,
    )
    page, content, *pngs = map(str, write_review(review, to, plots))
    out.result({"report": page, "content": content, "plots": pngs, "snapshot": review.snapshot})


def doctor(
    store: StoreOption = DEFAULT_STORE,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A judge's server up to /v1; may be repeated."),
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Check this machine, the packages, the store and judges, and say how to mend each fault.

    Exit code 1 if something is broken; warnings do not count.
    """
    from ixt_tools.doctor import check_endpoint, check_machine, check_packages, check_store

    checks = [*check_packages(), *check_machine()]
    # Without a word about a store, a machine may well have none.
    if store != DEFAULT_STORE or Path(store).exists():
        checks += check_store(store)
    for url in endpoint or ():
        checks += check_endpoint(url)
    broken = [check.name for check in checks if check.state == "broken"]
    rows = [(check.state, check.name, check.what, check.remedy) for check in checks]
    record = {"ok": not broken, "broken": broken, "checks": [asdict(check) for check in checks]}
    Output(output).result(record, table(["state", "what", "found", "to mend it"], rows))
    if broken:
        raise typer.Exit(1)
