"""`ixt critique --pairwise`: a judge compares documents in pairs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from ixt_data.cli.critique_summary import with_cost
from ixt_data.console import Output, format_count, table

if TYPE_CHECKING:
    from ixt_data.critics import VllmCritic
    from ixt_data.critique_runs import CritiqueRunSpec, PairwiseOptions, PairwiseReport
    from ixt_data.store import Store


def run_comparisons(
    out: Output,
    store: "Store",
    job: "CritiqueRunSpec",
    options: "PairwiseOptions",
    retry_failed: bool,
    max_failed: float,
    comparisons: Path | None,
) -> None:
    """Compare documents, publish their scores, and print the summary.

    Args:
        out: destination of progress, notes and result.
        store: the store of the run.
        job: names the judge and the corpus.
        options: the pairs.
        retry_failed: request comparisons again that failed.
        max_failed: share of failed comparisons, 0 to 1, above which the exit code is 1.
        comparisons: file for the comparisons, None without.

    Raises:
        typer.Exit: too many comparisons failed.
    """
    from ixt_data.critics import comparison_rubric
    from ixt_data.critique_runs import closing_critic, exiting_on_sigterm, run_pairwise
    from ixt_data.critique_runs import write_comparisons as write

    rubric = comparison_rubric(options.rubric)
    judge = cast("VllmCritic", replace(job, options={**job.options, "rubric": rubric}).load())
    with closing_critic(judge), exiting_on_sigterm():
        with out.progress("comparing", None, "comparisons") as bar:
            total = 0

            def start(documents: int, pairs: int, requests: int) -> None:
                nonlocal total
                total = requests
                for line in judge.describe():
                    out.note(f"judge {line}")
                out.note(
                    f"{documents:,} documents in {format_count(pairs, 'pair')}: "
                    f"{requests:,} comparisons to request"
                )

            try:
                report = run_pairwise(
                    store,
                    job.corpus,
                    judge,
                    options,
                    name=job.name or "pairwise",
                    retry_failed=retry_failed,
                    on_start=start,
                    progress=lambda done: bar.update(done, total=total),
                )
            except KeyboardInterrupt:
                out.note("interrupted; each comparison is journaled. The same command continues")
                raise
        record = _record(report, judge)
        if comparisons is not None:
            with comparisons.open("wb") as file:
                record["written"] = write(store, job.corpus, judge, options, file)
    out.result(record)
    _note_position(out, report)
    if report.errors:
        rows = [(name, report.statuses[name], error) for name, error in report.errors.items()]
        out.log.print(table(["status", "comparisons", "for instance"], rows), markup=False)
        out.note("to request failed comparisons again, repeat the command with --retry-failed")
    if report.failed > max_failed * 2 * report.pairs:
        out.note(
            f"{report.failed / (2 * report.pairs):.0%} of the comparisons failed "
            f"(--max-failed {max_failed:g})"
        )
        raise typer.Exit(1)


def _record(report: "PairwiseReport", judge: "VllmCritic") -> dict[str, Any]:
    decided = report.consistent + report.inconsistent
    wins = report.first_wins + report.second_wins
    return {
        "critic": report.scored.critic,
        "documents": report.documents,
        "pairs": report.pairs,
        "requested": report.requested,
        "failed": report.failed,
        "statuses": report.statuses,
        "consistent_pairs": report.consistent,
        "inconsistent_pairs": report.inconsistent,
        "inconsistent_share": round(report.inconsistent / decided, 4) if decided else None,
        "tied_pairs": report.tied,
        "first_wins_share": round(report.first_wins / wins, 4) if wins else None,
        "excerpted": report.excerpted,
        **with_cost(judge.usage),
        "scored": report.scored.documents,
        "units": report.scored.units,
        "skipped_units": report.scored.skipped,
        "snapshot": report.scored.snapshot,
    }


def _note_position(out: Output, report: "PairwiseReport") -> None:
    decided = report.consistent + report.inconsistent
    if decided and report.inconsistent > decided / 2:
        out.note(
            f"warning: this judge contradicts itself in {report.inconsistent:,} of {decided:,} "
            "pairs when their order is swapped: the scores say little"
        )
