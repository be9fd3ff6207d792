"""The verb ensemble: a critic out of several critics."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ixt_data.cli import DEFAULT_STORE, Group, OutputOption, StoreOption, add_verb
from ixt_data.console import Output, OutputMode, fields
from ixt_tools.curate.local_scoring import agreement_table, run_record, score_corpus

if TYPE_CHECKING:
    from ixt_tools.curate.ensembles import Ensemble


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    add_verb(
        app,
        ensemble,
        Group.CRITIQUE,
        example="ixt ensemble --store S --corpus web --critic rules --critic judge",
        docs="ensembles.md",
    )


def ensemble(
    corpus: Annotated[str, typer.Option(help="Corpus to score.")],
    critic: Annotated[
        list[str], typer.Option(help="Critic to combine, by name or id; may be repeated.")
    ],
    store: StoreOption = DEFAULT_STORE,
    method: Annotated[
        Literal["mean", "logistic", "isotonic"],
        typer.Option(help="How to combine; all but mean are fitted to --gold."),
    ] = "mean",
    gold: Annotated[
        str | None,
        typer.Option(
            metavar="CRITIC",
            show_default="none",
            help="Critic whose scores are right, such as people's labels, by name or id.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the ensemble, which is a critic.")
    ] = "ensemble",
    min_scores: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="all",
            help="Scores that a document needs; the missing ones are estimated.",
        ),
    ] = None,
    cut: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            show_default="the middle of the gold scores",
            help="Gold score from which a document is good.",
        ),
    ] = None,
    share_held_out: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.9, help="Share of the gold documents to measure agreement on."
        ),
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the held-out documents.")] = 0,
    retry_failed: Annotated[
        bool, typer.Option(help="Score documents again that had too few scores.")
    ] = False,
    max_failed: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of documents without a score above which to exit with 1."
        ),
    ] = 0.5,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="one per core, fewer for few documents",
            help="Processes that score.",
        ),
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Combine the scores of several critics to a critic of its own.

    With --gold, the agreement is measured on documents that a fit does not see. The same command
    continues after a kill.
    """
    from ixt_data.critique_runs import count_succeeded
    from ixt_data.store import Store
    from ixt_tools.curate.ensemble_critic import ENSEMBLE
    from ixt_tools.curate.ensembles import build_ensemble

    if method != "mean" and gold is None:
        raise typer.BadParameter(f"{method} is fitted to gold scores", param_hint="--gold")
    if cut is not None and gold is None:
        raise typer.BadParameter("requires --gold", param_hint="--cut")
    out, opened = Output(output), Store.open(store)
    built = build_ensemble(
        opened,
        corpus,
        critic,
        method=method,
        gold=gold,
        cut=cut,
        min_scores=min_scores,
        name=name,
        share_held_out=share_held_out,
        seed=seed,
    )
    report = score_corpus(
        out,
        opened,
        corpus,
        ENSEMBLE,
        {"store": opened.root, "config": built.config},
        built.name,
        workers=workers,
        retry_failed=retry_failed,
    )
    ok = count_succeeded(report)
    record = run_record(report) | {
        "members": list(built.members),
        "missing_scores": built.missing,
        "combination": built.config["combination"],
        "ok": ok,
        "failed": report.documents - ok,
        "agreement": built.agreement and asdict(built.agreement),
        "member_agreements": [asdict(one) for one in built.member_agreements],
    }
    out.result(record, _shown(record, built))
    if report.documents > ok:
        out.note(
            "documents without a score have the status missing_scores. Give --min-scores, or let "
            "the critics score them and repeat the command with --retry-failed"
        )
    if report.documents and (not ok or report.documents - ok > max_failed * report.documents):
        raise typer.Exit(1)


def _shown(record: dict[str, Any], built: "Ensemble") -> Any:
    from rich.console import Group as Lines

    combination = {key: value for key, value in record["combination"].items() if value}
    if knots := combination.pop("knots", None):
        combination["knots"] = len(knots)
    hidden = ("agreement", "member_agreements")
    shown = {key: value for key, value in record.items() if key not in hidden}
    lines: list[Any] = [fields(shown | {"combination": combination})]
    if built.agreement is not None:
        names = (built.name, *built.members)
        agreements = (built.agreement, *built.member_agreements)
        rows = agreement_table("critic", zip(names, agreements, strict=True))
        lines += ["", "agreement with the gold scores:", rows]
    return Lines(*lines)
