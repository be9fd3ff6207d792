"""Running a critic for the command line: progress, the summary, and the reasons of failures."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ixt_data.console import Output, format_count, table
from ixt_data.errors import Terminated

if TYPE_CHECKING:
    from ixt_data.critics import Critic
    from ixt_data.critique_runs import (
        CritiqueReport,
        CritiqueRunSpec,
        StatusCallback,
        WorkerStatus,
    )
    from ixt_data.store import Store


def run_critique(
    out: Output,
    store: "Store",
    job: "CritiqueRunSpec",
    workers: int | None,
    ray: str | None,
    metrics: tuple[str, int | None],
    max_failed: float,
) -> None:
    """Run a critic over the pending documents and print the summary.

    Args:
        out: destination of progress, notes and result.
        store: the store of the run.
        job: the critique run.
        workers: number of processes, or of actors on Ray; None: one or one per core, by critic.
        ray: address of a Ray cluster, None without one.
        metrics: host and port for Prometheus; the port is None without metrics.
        max_failed: share of failed documents, 0 to 1, above which the exit code is 1.

    Raises:
        typer.Exit: too many documents failed.
    """
    from ixt_data.critics import critic_class
    from ixt_data.critique_runs import PendingWork, count_succeeded, exiting_on_sigterm

    if workers is None:
        workers = 1 if ray is not None else _default_workers(store, job)
    starts_server = job.serve is not None or job.critic == "llama"
    if starts_server and workers > 1 and ray is None:
        what = (
            "the critic's server allows one worker per machine. For more, start a server and give "
            "--critic vllm --endpoint"
        )
        raise typer.BadParameter(what, param_hint="--workers")
    judge, known = critic_class(job.critic), store.snapshot().corpora.get(job.corpus)
    documents = known.documents if known else None
    with (
        out.progress("critiquing", documents, "documents") as bar,
        _serve_metrics(out, job, documents or 0, *metrics) as note,
        exiting_on_sigterm(),
    ):
        pending: list[PendingWork] = []

        def show(status: "WorkerStatus") -> None:
            note(status)
            if status.pending is not None and not pending:
                pending.append(status.pending)
                for line in status.judge:
                    out.note(f"judge {line}")
                if status.pending.previous_critic is not None:
                    out.note(f"note: {status.pending}")
            total = status.pending.documents if status.pending else None
            bar.update(status.documents, _note(status), total)

        try:
            report = _run_workers(job, workers, ray, show)
        except (KeyboardInterrupt, Terminated):
            out.note(
                "interrupted; finished units are committed"
                + (" and each response is journaled" if getattr(judge, "journaled", False) else "")
                + ". The same command continues"
            )
            raise
    ok = count_succeeded(report)
    out.result(
        {
            "critic": report.critic,
            "run": report.run,
            "documents": report.documents,
            "ok": ok,
            "failed": report.documents - ok,
            "statuses": {**_all_statuses(judge), **report.statuses},
            "reused": report.reused,
            **with_cost(report.usage),
            "units": report.units,
            "skipped_units": report.skipped,
            "snapshot": report.snapshot,
        }
    )
    if report.documents > ok and not job.retry_failed and getattr(judge, "journaled", False):
        out.note("to critique the failed documents again, repeat the command with --retry-failed")
    if report.documents > ok:
        _show_reasons(out, store, report)
    if report.documents and (not ok or report.documents - ok > max_failed * report.documents):
        share = (report.documents - ok) / report.documents
        out.note(f"{share:.0%} of the documents failed (--max-failed {max_failed:g})")
        raise typer.Exit(1)


WORKER_DOCUMENTS = 4096
"""Documents for which one more process saves more time than its start takes."""


def _default_workers(store: "Store", job: "CritiqueRunSpec") -> int:
    """Return a number of processes that pays for the critic and the corpus."""
    from ixt_data.critics import critic_class
    from ixt_data.worker_processes import cores

    known = store.snapshot().corpora.get(job.corpus)
    if known is None or not getattr(critic_class(job.critic), "one_per_core", False):
        return 1
    return max(1, min(cores(), known.shards, 1 + known.documents // WORKER_DOCUMENTS))


def _show_reasons(out: Output, store: "Store", report: "CritiqueReport") -> None:
    """Print one line per status of failure, with a document and its error."""
    rows = store.sql(
        "SELECT status, count(*) AS documents, arg_min(doc_id, doc_id)::VARCHAR AS doc_id, "
        "arg_min(error, doc_id) AS error FROM critiques_all WHERE critic_id = $critic "
        "AND status <> 'ok' GROUP BY status ORDER BY documents DESC",
        parameters={"critic": report.critic},
        at=report.snapshot,
    ).fetchall()
    if rows:
        header = ["status", "documents", "for instance", "reason"]
        out.log.print(table(header, rows), markup=False)


@contextmanager
def _serve_metrics(
    out: Output, job: "CritiqueRunSpec", documents: int, host: str, port: int | None
) -> "Iterator[StatusCallback]":
    """Serve the run's metrics to Prometheus if a port is given; yield their receiver."""
    if port is None:
        yield lambda status: None
        return
    from ixt_data.critique_runs import WorkerMetrics, serve_metrics

    metrics = WorkerMetrics(job, documents)
    with serve_metrics(metrics, host, port) as url:
        out.note(f"metrics: {url}")
        yield metrics.update


def _run_workers(
    job: "CritiqueRunSpec", workers: int, ray: str | None, report: "StatusCallback"
) -> "CritiqueReport":
    """Run the critic in this process, in several, or on Ray."""
    from ixt_data.critique_runs import run_locally, run_worker

    if ray is not None:
        from ixt_data.critique_runs import run_on_ray

        return run_on_ray(job, ray, workers, report)
    return run_worker(job, report) if workers == 1 else run_locally(job, workers, report)


def _all_statuses(critic: type["Critic"]) -> dict[str, int]:
    """Return all statuses that a critic may produce, each with count 0."""
    return dict.fromkeys(getattr(critic, "statuses", ()), 0)


def with_cost(usage: Mapping[str, int]) -> dict[str, float]:
    """Return a critic's usage with its cost in the unit of the prices, if there are prices."""
    from ixt_data.critics import COST

    return {
        ("cost" if key == COST else key): value / 1e6 if key == COST else value
        for key, value in usage.items()
    }


def _note(status: "WorkerStatus") -> str:
    total = status.statuses.total()
    shares = ", ".join(f"{name} {n / total:.0%}" for name, n in status.statuses.most_common(3))
    tokens = status.usage["tokens_in"] + status.usage["tokens_out"]
    cost = with_cost(status.usage).get("cost")
    parts = [shares, format_count(tokens, "token") if tokens else ""]
    return "; ".join(filter(None, [*parts, "" if cost is None else f"cost {cost:.4g}"]))
