"""The verb distill: a small scorer that learns from a judge."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli import DEFAULT_STORE, Group, OutputOption, StoreOption, add_verb
from ixt_data.console import Output, OutputMode
from ixt_tools.curate.local_scoring import agreement_table, run_record, score_corpus

if TYPE_CHECKING:
    from ixt_data.critique_runs import CritiqueReport
    from ixt_data.store import Store
    from ixt_tools.curate.distillation import Distillation


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    add_verb(
        app,
        distill,
        Group.CRITIQUE,
        example="ixt distill --store S --corpus web --critic judge",
        docs="distill.md",
    )


def distill(
    corpus: Annotated[str, typer.Option(help="Corpus to score, or to choose documents from.")],
    critic: Annotated[
        str | None,
        typer.Option(show_default=False, help="Judge to learn from, by name or id."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    name: Annotated[
        str | None,
        typer.Option(show_default="JUDGE-distilled", help="Name of the scorer, which is a critic."),
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CORPUS",
            show_default="all corpora",
            help="Corpus whose judged documents to learn from; may be repeated.",
        ),
    ] = None,
    share_held_out: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.9, help="Share of the judged documents to measure agreement on."
        ),
    ] = 0.2,
    cut: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            show_default="the middle of the judge's scores",
            help="Score of the judge from which a document is good, for the AUC.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the held-out documents and the draws.")
    ] = 0,
    next_documents: Annotated[
        int | None,
        typer.Option(
            "--next",
            min=1,
            max=10_000,
            help="Score nothing; select N documents that the judge should see next.",
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="SELECTION", show_default="NAME-next", help="Selection that --next saves."
        ),
    ] = None,
    apply: Annotated[
        str | None,
        typer.Option(
            metavar="SCORER",
            show_default=False,
            help="Train nothing; score with this scorer of the store, by name or id.",
        ),
    ] = None,
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
    """Train a small scorer on a judge's scores, and score a corpus with it.

    The agreement with the judge is measured on judged documents that the scorer does not learn
    from. The same command continues after a kill.
    """
    from ixt_data.store import Store

    if (critic is None) == (apply is None):
        raise typer.BadParameter("give one of --critic and --apply", param_hint="--critic")
    if apply is not None and next_documents is not None:
        raise typer.BadParameter("is for --critic, not for --apply", param_hint="--next")
    if save is not None and next_documents is None:
        raise typer.BadParameter("requires --next", param_hint="--save")
    out, opened = Output(output), Store.open(store)
    opened.snapshot().check_corpora([corpus], opened.root)
    if apply is not None:
        from ixt_tools.curate.distillation import scorer_info

        info = scorer_info(opened, apply)
        report = _score(out, opened, corpus, info.name, info.config, workers)
        out.result(_record(report, info.config["agreement"]))
        return
    assert critic is not None
    from ixt_tools.curate import distillation

    with out.progress("reading judged documents", None, "shards") as bar:
        judged = distillation.read_judged(
            opened, critic, sample or (), lambda done, total: bar.update(done, total=total)
        )
    found = distillation.distill(
        opened, judged, name=name, share_held_out=share_held_out, cut=cut, seed=seed
    )
    if next_documents is not None:
        with out.progress("comparing", None, "shards") as bar:
            chosen = distillation.choose_next(
                opened,
                corpus,
                judged,
                next_documents,
                seed=seed,
                progress=lambda done, total: bar.update(done, total=total),
            )
        _save(out, opened, judged.name, found, chosen, save or f"{found.name}-next")
        return
    report = _score(out, opened, corpus, found.name, found.config, workers)
    record = _record(report, asdict(found.agreement)) | {
        "rounds": [asdict(one) for one in found.rounds],
        "has_converged": found.has_converged,
    }
    out.result(record, _shown(record, found))
    _advise(out, found)


def _score(
    out: Output,
    store: "Store",
    corpus: str,
    name: str,
    config: dict[str, Any],
    workers: int | None,
) -> "CritiqueReport":
    from ixt_tools.curate.distilled_critic import DISTILLED

    return score_corpus(out, store, corpus, DISTILLED, {"config": config}, name, workers=workers)


def _record(report: "CritiqueReport", agreement: dict[str, Any]) -> dict[str, Any]:
    return run_record(report) | {"agreement": agreement}


def _save(
    out: Output,
    store: "Store",
    judge: str,
    found: "Distillation",
    chosen: list[bytes],
    selection: str,
) -> None:
    from ixt_data.store import save_selection
    from ixt_tools.curate.distillation import documents_predicate

    saved = save_selection(
        store,
        selection,
        documents_predicate(chosen),
        critic=judge,
        note=f"documents to judge next, chosen by ixt distill --next for {found.name}",
    )
    out.result(
        {
            "selection": saved.name,
            "documents": len(chosen),
            "snapshot": saved.version,
            "agreement": asdict(found.agreement),
            "rounds": [asdict(one) for one in found.rounds],
            "has_converged": found.has_converged,
        }
    )
    _advise(out, found)


def _advise(out: Output, found: "Distillation") -> None:
    if found.has_converged:
        out.note(
            "the agreement did not rise over an earlier round: more judged documents hardly help"
        )


def _shown(record: dict[str, Any], found: "Distillation") -> Any:
    from rich.console import Group

    from ixt_data.console import fields

    shown = {k: v for k, v in record.items() if k not in ("agreement", "rounds", "has_converged")}
    rounds = enumerate([*found.rounds, found.agreement], 1)
    lines = agreement_table("round", ((str(number), one) for number, one in rounds))
    return Group(fields(shown), "", "agreement with the judge:", lines)
