"""A critique run by a critic that needs no server, on as many cores as it is worth."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ixt_data.console import Output

if TYPE_CHECKING:
    from ixt_data.critique_runs import CritiqueReport, WorkerStatus
    from ixt_data.store import Store

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
