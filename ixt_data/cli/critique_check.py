"""`ixt critique --check` and `--estimate`: what a judge can do and costs, before a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ixt_data.console import Output, format_count, printable, table

if TYPE_CHECKING:
    from ixt_data.critics import Rubric
    from ixt_data.critique_runs import CritiqueRunSpec
    from ixt_data.store import Store


def check_critic(
    out: Output, job: "CritiqueRunSpec", rubric: "Rubric", canaries: Path | None, min_auc: float
) -> None:
    """Check a critic and print the verdict.

    Args:
        out: destination of progress and result.
        job: names the critic; nothing is critiqued.
        rubric: contains the examples.
        canaries: file with canaries, None without.
        min_auc: lower bound of the AUC that is enough.

    Raises:
        typer.Exit: the critic cannot tell good from bad.
        ConfigError: see `check_judge`.
    """
    from ixt_data.analysis import check_judge, read_canaries
    from ixt_data.critique_runs import closing_critic

    read = read_canaries(canaries) if canaries is not None else []
    critic = job.load()
    total = len(rubric.examples) + len(read)
    with closing_critic(critic), out.progress("checking", total, "documents") as bar:
        result = check_judge(critic, rubric, read, min_auc, lambda done: bar.update(done))
    rows = [
        ("good" if one.is_good else "bad", one.status, one.score, printable(one.text))
        for one in result.documents
    ]
    record = {
        "auc": round(result.auc, 4),
        "auc_low": round(result.low, 4),
        "auc_high": round(result.high, 4),
        "min_auc": min_auc,
        "documents": len(rows),
        "failed": result.failures,
        "passed": result.has_passed,
    }
    names = ("expected", "status", "score", "text")
    out.log.print(table(names, rows), markup=False)
    out.result(record)
    if not result.has_passed:
        out.note(
            f"warning: this judge cannot tell good documents from bad ones: over "
            f"{format_count(len(rows), 'example')} the AUC is {result.auc:.2f}, and its lower "
            f"bound {result.low:.2f} is below {min_auc:g} (--min-auc). Use a better judge or rubric"
        )
        raise typer.Exit(1)


def estimate_critique(out: Output, store: "Store", job: "CritiqueRunSpec", gpus: int) -> None:
    """Estimate the cost of a critique run from a sample, and print it.

    Args:
        out: destination of progress and result.
        store: the store of the run.
        job: names the judge and the corpus.
        gpus: number of GPUs of the judge's servers.
    """
    from ixt_data.critique_runs import closing_critic, estimate_cost

    judge: Any = job.load()
    with closing_critic(judge), out.progress("sampling", None, "documents") as bar:
        costs = estimate_cost(store, job.corpus, judge, gpus, lambda done: bar.update(done))
    out.result(costs)
