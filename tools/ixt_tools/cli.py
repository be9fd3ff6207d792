"""The verbs demo, calibrate, report and doctor. Heavy imports are inside."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli import DEFAULT_STORE, AtOption, Group, OutputOption, StoreOption, add_verb
from ixt_data.console import Output, OutputMode, table
from ixt_data.errors import MissingExtra
from ixt_tools.curate import curate_verbs, distill_verb, ensemble_verb

if TYPE_CHECKING:
    from ixt_data.analysis import Calibration, CanaryResult, LengthBias, PositionBias


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    add_verb(app, demo, Group.DATA, example="ixt demo --quick", docs="start.md")
    add_verb(
        app,
        calibrate,
        Group.CRITIQUE,
        example="ixt calibrate --store S --plots page.html",
        docs="critics.md",
    )
    add_verb(app, report, Group.ASK, example="ixt report --store S", docs="curators.md")
    add_verb(app, doctor, Group.MAINTAIN, example="ixt doctor --store S", docs="doctor.md")
    curate_verbs.register(app)
    distill_verb.register(app)
    ensemble_verb.register(app)


def demo(
    folder: Annotated[
        Path, typer.Option(help="Folder for all files; replaced if a demo wrote it.")
    ] = Path("demo"),
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the corpus, the mixes and the models.")
    ] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train a few steps only, as a test of the installation.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Run the end-to-end pipeline on this machine, in minutes, and write report.html."""
    MissingExtra.require("train", "composer")
    from ixt_tools.demo import run_demo

    out = Output(output)
    out.result(run_demo(folder, seed, out, quick))


def calibrate(
    critic: Annotated[
        list[str] | None,
        typer.Option(show_default="all", help="Critic to compare, by name or id; may be repeated."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    corpus: Annotated[
        list[str] | None,
        typer.Option(show_default="all corpora", help="Corpus to read; may be repeated."),
    ] = None,
    at: AtOption = None,
    scale: Annotated[
        int, typer.Option(min=1, max=100, help="Kappa rounds scores to 0..SCALE.")
    ] = 5,
    gold: Annotated[
        str | None,
        typer.Option(
            metavar="CRITIC",
            show_default="none",
            help="Critic whose scores are right; measures the length bias of the others.",
        ),
    ] = None,
    canaries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Canary documents: text or doc_id, and the range of the score.",
        ),
    ] = None,
    write_quantiles: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Write quantiles within each source as a column of the critiques.",
        ),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with charts, too.")
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Compare critics, or samples of one: agreement, length, coverage, bias, canaries.

    Exit code 1 if a canary is out of range or has no score.
    """
    from ixt_data.analysis import (
        calibration,
        list_bias_checks,
        measure_length_bias,
        measure_position_bias,
        read_canaries,
        run_canaries,
    )
    from ixt_data.analysis import write_quantiles as write
    from ixt_data.store import Store

    if write_quantiles is not None and (len(critic or []) != 1 or at is not None):
        raise typer.BadParameter(
            "requires one --critic and no --at: it writes to the latest snapshot",
            param_hint="--write-quantiles",
        )
    known = read_canaries(canaries) if canaries is not None else []
    opened, out = Store.open(store), Output(output)
    found = calibration.calibrate(opened, critic or (), corpora=corpus or (), at=at, scale=scale)
    seen = run_canaries(opened, known, [scores.critic for scores in found.critics], found.snapshot)
    record: dict[str, Any] = asdict(found)
    names = [scores.critic for scores in found.critics]
    at_version: dict[str, Any] = {"corpora": corpus or (), "at": found.snapshot}
    biases: list[LengthBias | PositionBias] = []
    if gold is not None:
        biases += measure_length_bias(opened, names, gold, **at_version)
        record["length_bias"] = _records(biases)
    positions = measure_position_bias(opened, names, **at_version)
    record["bias_checks"] = [asdict(one) for one in list_bias_checks(names, gold, positions)]
    if positions:
        biases += positions
        record["position_bias"] = _records(positions)
    if canaries is not None:
        record["canaries"] = [asdict(one) for one in seen]
        record["changed_canaries"] = [one.name for one in seen if not one.has_passed]
    if plots is not None:
        from ixt_tools.report import write_calibration_page

        record["plots"] = str(write_calibration_page(found, seen, plots, biases))
    if write_quantiles is not None:
        record["quantiles"] = asdict(write(opened, (critic or [])[0], write_quantiles))
    _print_calibration(out, record, found, seen, biases)
    _warn_of_bias(out, biases)
    if record.get("changed_canaries"):
        out.note(f"canaries out of range: {', '.join(record['changed_canaries'])}")
        raise typer.Exit(1)


def _records(biases: "Sequence[LengthBias | PositionBias]") -> list[dict[str, Any]]:
    return [asdict(one) | {"is_biased": one.is_biased} for one in biases]


def _warn_of_bias(out: Output, biases: "Sequence[LengthBias | PositionBias]") -> None:
    from ixt_data.analysis import PositionBias

    for one in (one for one in biases if one.is_biased):
        if isinstance(one, PositionBias):
            what = "first" if one.first_wins > 0.5 else "second"
            out.note(
                f"warning: {one.critic} prefers the {what} document: the first one won "
                f"{one.first_wins:.0%} of its comparisons"
            )
        else:
            what = "longer" if (one.given_gold or 0) > 0 else "shorter"
            out.note(
                f"warning: {one.critic} prefers {what} documents of the same {one.gold} score "
                f"(rank correlation {one.given_gold:.2f})"
            )


def _print_calibration(
    out: Output,
    record: dict[str, Any],
    found: "Calibration",
    seen: "Sequence[CanaryResult]",
    biases: "Sequence[LengthBias | PositionBias]",
) -> None:
    from rich.console import Group

    from ixt_tools.report import calibration_tables

    shown: list[Any] = []
    for content in calibration_tables(found, seen, biases):
        shown += [f"{content.title}:"] if content.title else []
        shown += [table(content.columns, content.rows), content.note, ""]
    rows = [list(one.values()) for one in record["bias_checks"]]
    shown += ["checks of biases:", table(["critic", "length", "position"], rows), ""]
    if written := record.get("quantiles"):
        shown.append(
            f"{written['column']}: quantiles of {written['documents']:,} documents within their "
            f"source, in snapshot {written['snapshot']}"
        )
    out.result(record, Group(*shown))


def report(
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="FILE.html",
            help="Page to write, with a JSON file of the same name; both are replaced.",
        ),
    ] = Path("report.html"),
    corpus: Annotated[
        list[str] | None,
        typer.Option(show_default="all corpora", help="Corpus to report; may be repeated."),
    ] = None,
    critic: Annotated[
        list[str] | None,
        typer.Option(show_default="all critics", help="Critic to report; may be repeated."),
    ] = None,
    mix: Annotated[
        list[Path] | None,
        typer.Option(metavar="MIX.YAML", help="Mix to plan on the page; may be repeated."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="each document once", help="Samples that each plan draws."
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Train run whose curves to show; may be repeated."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each chart as a PNG file, too.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Write one self-contained page on a snapshot, its critics, mixes and train runs."""
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
        typer.Option(metavar="URL", help="Server of a judge, up to /v1; may be repeated."),
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Check this machine, the packages, a store and judges, and print a fix for each fault.

    Exit code 1 if a check fails; a warning does not.
    """
    from ixt_tools.doctor import check_endpoint, check_machine, check_packages, check_store

    checks = [*check_packages(), *check_machine()]
    # A machine without a store is fine unless the user names one.
    if store != DEFAULT_STORE or Path(store).exists():
        checks += check_store(store)
    for url in endpoint or ():
        checks += check_endpoint(url)
    broken = [check.name for check in checks if check.state == "broken"]
    rows = [(check.state, check.name, check.what, check.remedy) for check in checks]
    record = {"ok": not broken, "broken": broken, "checks": [asdict(check) for check in checks]}
    Output(output).result(record, table(["state", "what", "result", "fix"], rows))
    if broken:
        raise typer.Exit(1)
