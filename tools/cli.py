"""The verbs of this package, from demo to doctor. Heavy imports wait inside."""

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli.output import (
    DEFAULT_STORE,
    AtOption,
    Output,
    OutputMode,
    OutputOption,
    StoreOption,
    table,
)
from ixt_data.errors import MissingExtra
from ixt_tools.curate import verbs as curate

if TYPE_CHECKING:
    from ixt_data.calibrate import Calibration
    from ixt_data.canaries import Sighting


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(demo)
    app.command()(calibrate)
    app.command()(report)
    app.command()(inspect)
    app.command()(doctor)
    app.command()(serve)
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
    _needs("composer", "altair", "vl_convert")
    from ixt_tools.demo.main import run_demo

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

    Exit code 1 if a canary moved or has no score.
    """
    from ixt_data import calibrate as calibration
    from ixt_data.canaries import look, read_canaries
    from ixt_data.quantiles import write_quantiles as write
    from ixt_data.store import Store

    if plots is not None:
        _needs("altair", "vl_convert")
    if write_quantiles is not None and (len(critic or []) != 1 or at is not None):
        raise typer.BadParameter(
            "takes one --critic, and no --at: it goes on from the newest snapshot",
            param_hint="--write-quantiles",
        )
    known = read_canaries(canaries) if canaries is not None else []
    opened, out = Store.open(store), Output(output)
    found = calibration.calibrate(opened, critic or (), corpora=corpus or (), at=at, scale=scale)
    seen = look(opened, known, [scores.critic for scores in found.critics], found.snapshot)
    record: dict[str, Any] = asdict(found)
    if canaries is not None:
        record["canaries"] = [asdict(one) for one in seen]
        record["moved"] = [one.name for one in seen if not one.holds]
    if plots is not None:
        from ixt_tools.report.calibration import write_page

        record["plots"] = str(write_page(found, seen, plots))
    if write_quantiles is not None:
        record["quantiles"] = asdict(write(opened, (critic or [])[0], write_quantiles))
    _print_calibration(out, record, found, seen)
    if record.get("moved"):
        out.note(f"not where they should be: {', '.join(record['moved'])}")
        raise typer.Exit(1)


def _print_calibration(
    out: Output, record: dict[str, Any], found: "Calibration", seen: "Sequence[Sighting]"
) -> None:
    from rich.console import Group

    from ixt_tools.report.calibration import tables

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
    _needs("altair", "vl_convert")
    from ixt_data.store import Store
    from ixt_tools.report.review import make_review, write_review

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


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            help="Store, MDS folder or shard (also on S3), or a doc_id or source_id of the store."
        ),
    ],
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Random samples to show beside the first one.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the random samples.")] = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything, and compare sizes and hashes.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show whole texts.")] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Show what a store, a folder of shards, a shard or a document is made of.

    Exit code 1 if something is wrong with it. Nothing that a shard holds is ever run.
    """
    from ixt_tools.inspector.terminal.look import look, problems_of
    from ixt_tools.inspector.terminal.render import rendered
    from ixt_tools.inspector.terminal.shard import Asked

    out = Output(output)
    found = look(target, store, at, Asked(1, sample, seed, verify))
    out.result(found.to_json(), rendered(found, full) if output is OutputMode.text else None)
    if problems_of(found):
        raise typer.Exit(1)


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
    from ixt_tools.doctor.machine import check_machine
    from ixt_tools.doctor.packages import check_packages
    from ixt_tools.doctor.places import check_endpoint, check_store

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


def serve(
    store: StoreOption = DEFAULT_STORE,
    host: Annotated[
        str, typer.Option(help="Address to bind; another one than of the loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="IXT_SERVE_TOKEN",
            show_envvar=True,
            help="Secret that must be shown once, as ?token=... in the address.",
        ),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(help="Another name that the server is asked by; may be repeated."),
    ] = None,
    mixes: Annotated[
        Path | None, typer.Option(help="Folder of mixes (YAML) to show and to try out.")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of train runs to show.")] = None,
    sql_seconds: Annotated[
        int, typer.Option(min=1, max=600, help="Most seconds of a statement that is typed.")
    ] = 20,
    sql_memory: Annotated[
        int, typer.Option(min=256, help="Most memory of such a statement, in MB.")
    ] = 2048,
    output: OutputOption = OutputMode.text,
) -> None:
    """Show a store in the browser, read-only: documents, critiques, scores, mixes, runs, SQL."""
    _needs("starlette", "uvicorn", extra="serve")
    from ixt_tools.inspector.web.call import Settings
    from ixt_tools.inspector.web.serve import Address, run
    from ixt_tools.inspector.web.workers import Bounds

    for name, folder in (("--mixes", mixes), ("--runs", runs)):
        if folder is not None and not folder.is_dir():
            raise typer.BadParameter(f"{folder} is no folder", param_hint=name)
    out = Output(output)

    def ready(address: str) -> None:
        if output is OutputMode.json:
            out.result({"url": address})
        else:
            out.note(f"the store is at {address} - end with Ctrl-C")

    bounds = Bounds(seconds=sql_seconds, memory=sql_memory << 20)
    settings = Settings(store, mixes, runs, bounds)
    run(settings, Address(host, port, token, tuple(host_name or ())), ready)


def _needs(*packages: str, extra: str = "train") -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, extra)
