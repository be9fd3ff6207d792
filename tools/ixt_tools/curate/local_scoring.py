"""A critique run by a critic that needs no server: processes, and how its result is shown."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ixt_data.console import Output, table

if TYPE_CHECKING:
    from ixt_data.critique_runs import CritiqueReport, WorkerStatus
    from ixt_data.store import Store
    from ixt_tools.curate.score_agreement import ScoreAgreement

DOCUMENTS_PER_PROCESS = 10_000
"""A process takes about 2 s to start, in which another one scores this many documents."""


def score_corpus(
    out: Output,
    store: "Store",
    corpus: str,
    critic: str,
    options: Mapping[str, Any],
    name: str,
    *,
    workers: int | None = None,
    retry_failed: bool = False,
) -> "CritiqueReport":
    """Score the documents of a corpus that this critic has not scored.

    Args:
        out: destination of the progress.
        store: contains the corpus.
        corpus: its name.
        critic: see `load_critic`.
        options: of the critic.
        name: name of the critic.
        workers: number of processes; by default one per core, fewer for few documents.
        retry_failed: see `annotate`.
    """
    from ixt_data.critique_runs import CritiqueRunSpec, exiting_on_sigterm, run_locally, run_worker
    from ixt_data.worker_processes import cores

    job = CritiqueRunSpec(store.root, corpus, critic, options, name=name, retry_failed=retry_failed)
    with out.progress("scoring", None, "documents") as bar, exiting_on_sigterm():

        def show(status: "WorkerStatus") -> None:
            total = status.pending.documents if status.pending else None
            bar.update(status.documents, total=total)

        documents = store.snapshot().corpora[corpus].documents
        n = workers or min(cores(), 1 + documents // DOCUMENTS_PER_PROCESS)
        return run_worker(job, show) if n == 1 else run_locally(job, n, show)


def run_record(report: "CritiqueReport") -> dict[str, Any]:
    """Return the fields of a critique run that a verb prints."""
    return {
        "critic": report.critic,
        "documents": report.documents,
        "units": report.units,
        "skipped_units": report.skipped,
        "snapshot": report.snapshot,
    }


def agreement_table(label: str, agreements: Iterable[tuple[str, "ScoreAgreement"]]) -> Any:
    """Return a table of agreements on held-out documents.

    Args:
        label: header of the names.
        agreements: each with its name.
    """
    header = [label, "held out", "Spearman (95%)", "cut", "AUC (95%)", "mean error"]
    rows = [
        (
            name,
            f"{one.documents:,}",
            _measured(one.spearman, one.spearman_interval),
            f"{one.cut:.2f}",
            _measured(one.auc, one.auc_interval),
            f"{one.mean_error:.3f}",
        )
        for name, one in agreements
    ]
    return table(header, rows)


def _measured(value: float | None, interval: Any) -> str:
    """Return a measure with its 95% interval for a reader, `-` where it is undefined."""
    if value is None or interval is None:
        return "-"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
