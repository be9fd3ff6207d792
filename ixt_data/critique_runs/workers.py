"""Many workers on one critique run: local processes, which share the units by leases.

A killed worker is restarted and continues with its journal; until then the other workers do its
units. The totals of the critique run come from the log, so a crash does not change them.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from ixt_data.critics import (
    ChunkOptions,
    Critic,
    StatsByEndpoint,
    load_critic,
    merge_stats,
    reporting_stats,
)
from ixt_data.critique_runs.annotation import CritiqueReport, annotate
from ixt_data.critique_runs.pending_work import PendingWork
from ixt_data.critique_runs.unit_worker import usage_of
from ixt_data.errors import CriticError, IxtError, Terminated
from ixt_data.records import Critique
from ixt_data.store import Store

MAX_RESTARTS = 10
"""A worker that was killed more often is not restarted."""

REPORT_SECONDS = 0.5
"""Seconds between two status messages of a worker."""

STOPPED = 128 + signal.SIGTERM
"""Exit code of a worker that received SIGTERM."""


@dataclass(frozen=True)
class CritiqueRunSpec:
    """One critique run, as each of its workers needs it.

    Attributes:
        store: root of the store.
        corpus: name of the corpus.
        critic, options, parts: see `load_critic`.
        serve: arguments of a `Server` that each worker starts for itself, None for no server.
        name: name for the critic instead of its own.
        retry_failed: see `annotate`.
        run: id of the critique run.
        since: version that all workers start from.
        folder: working folder of the command; a custom critic may be in it.
    """

    store: str
    corpus: str
    critic: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: ChunkOptions | None = None
    serve: Mapping[str, Any] | None = None
    name: str | None = None
    retry_failed: bool = False
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    since: int | None = None
    folder: str = field(default_factory=os.getcwd)

    def load(self) -> Critic:
        """Create the critic; close it afterwards, see `closing_critic`.

        Raises:
            CriticError: see `load_critic`.
        """
        options = dict(self.options)
        if self.serve is not None:
            from ixt_data.critics import Server

            options["server"] = Server(**self.serve)
        critic = load_critic(self.critic, options=options, parts=self.parts)
        critic.name = self.name or critic.name
        return critic


@dataclass
class WorkerStatus:
    """Status of a running worker.

    Attributes:
        documents: number of finished documents.
        statuses: finished documents by status; only those that the critic judged in this run.
        usage: the critic's own counts, see `CritiqueReport`.
        endpoint_stats: statistics of the critic's endpoints.
        pending: work at its start, for all workers together; None before that.
        judge: what the critic's servers take and give, one line each.
    """

    documents: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    endpoint_stats: StatsByEndpoint = field(default_factory=dict)
    pending: PendingWork | None = None
    judge: tuple[str, ...] = ()

    def __add__(self, other: "WorkerStatus") -> "WorkerStatus":
        """Return the status of both workers together."""
        return WorkerStatus(
            self.documents + other.documents,
            self.statuses + other.statuses,
            self.usage + other.usage,
            merge_stats(self.endpoint_stats, other.endpoint_stats),
            self.pending or other.pending,
            self.judge or other.judge,
        )


StatusCallback = Callable[[WorkerStatus], None]
"""Function that receives the status of one worker, or of all workers together."""


def run_worker(spec: CritiqueRunSpec, report: StatusCallback) -> CritiqueReport:
    """Do the pending work of a critique run, until all units are published by any worker.

    Args:
        spec: the critique run.
        report: called once at the start, and after each document.

    Raises:
        StoreError, CriticError: see `annotate`.
    """
    with suppress(OSError):
        os.chdir(spec.folder)
    critic, status = spec.load(), WorkerStatus()

    def progress(done: int, critique: Critique) -> None:
        status.documents, status.usage = done, usage_of(critic)
        status.statuses[critique.status] += 1
        report(status)

    def set_pending(pending: PendingWork) -> None:
        status.pending = pending
        status.judge = tuple(critic.describe() if hasattr(critic, "describe") else ())
        report(status)

    def set_endpoint_stats(endpoint_stats: StatsByEndpoint) -> None:
        status.endpoint_stats = endpoint_stats

    store = Store.open(spec.store)
    report(status)
    with closing_critic(critic), reporting_stats(critic, set_endpoint_stats):
        return annotate(
            store,
            spec.corpus,
            critic,
            progress,
            retry_failed=spec.retry_failed,
            run=spec.run,
            since=spec.since,
            on_start=set_pending,
        )


@contextmanager
def closing_critic(critic: Critic) -> Iterator[None]:
    """Close a critic that has connections or a server at the end of the block."""
    with closing(critic) if hasattr(critic, "close") else nullcontext():  # type: ignore[type-var]
        yield


@contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM inside the block, so leases and servers are released."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        raise Terminated(STOPPED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def total_report(
    store: Store, spec: CritiqueRunSpec, reports: list[CritiqueReport]
) -> CritiqueReport:
    """Return the totals of all workers of a critique run, from the log.

    Args:
        store: contains the log.
        spec: the critique run.
        reports: of the workers that finished.
    """
    total = CritiqueReport(reports[0].critic, spec.run)
    snapshot, usage = store.snapshot(), Counter[str]()
    for entry in store.log.entries((spec.since or 0) + 1, snapshot.version):
        if entry.op == "critique" and entry.summary.get("run") == spec.run:
            total.units += 1
            total.documents += entry.summary["documents"]
            total.reused += entry.summary["reused"]
            total.statuses.update(entry.summary["statuses"])
            usage.update(entry.summary["usage"])
    total.usage, total.snapshot = dict(usage), snapshot.version
    total.skipped = snapshot.corpora[spec.corpus].shards - total.units
    return total


def run_locally(spec: CritiqueRunSpec, n: int, report: StatusCallback) -> CritiqueReport:
    """Run a critique run with n processes on this machine.

    Args:
        spec: the critique run.
        n: number of processes.
        report: called twice per second with the status of all processes together.

    Raises:
        IxtError: the error of one process; the others are stopped.
    """
    store = Store.open(spec.store)
    spec = replace(spec, since=store.snapshot().version)
    workers = [_Process(spec) for _ in range(n)]
    try:
        while any(worker.result is None for worker in workers):
            wait([worker.pipe for worker in workers if worker.result is None], REPORT_SECONDS)
            for worker in workers:
                worker.listen()
            report(sum((worker.status for worker in workers), WorkerStatus()))
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
    return total_report(store, spec, [worker.result for worker in workers if worker.result])


class _Process:
    """One worker process, restarted when it is killed."""

    def __init__(self, spec: CritiqueRunSpec) -> None:
        self._spec, self._starts, self._previous = spec, 0, WorkerStatus()
        self._current = WorkerStatus()
        self.result: CritiqueReport | None = None
        self._start()

    @property
    def status(self) -> WorkerStatus:
        """Its status, over all restarts."""
        return self._previous + self._current

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=_run_process, args=(self._spec, child_pipe))
        self.process.start()
        child_pipe.close()
        self._starts += 1

    def listen(self) -> None:
        """Read its messages; restart it if it was killed.

        Raises:
            IxtError: it failed, or was killed too often.
        """
        while self.result is None and self.pipe.poll():
            try:
                message = self.pipe.recv()
            except (EOFError, OSError):
                self._restart()
                return
            if isinstance(message, WorkerStatus):
                self._current = message
            elif isinstance(message, CritiqueReport):
                self.result = message
            else:
                raise IxtError(message)

    def _restart(self) -> None:
        self.process.join()
        code = self.process.exitcode
        if code is None or (code >= 0 and code != STOPPED):
            raise CriticError(f"a worker exited with code {code}; its output is above")
        if self._starts > MAX_RESTARTS:
            raise CriticError(
                f"a worker was killed {self._starts} times, last with exit code {code}"
            )
        self._previous, self._current = self.status, WorkerStatus()
        self._start()


def _run_process(spec: CritiqueRunSpec, pipe: Connection) -> None:
    """Run a worker in this process and send its messages to the parent."""
    threading.Thread(target=_exit_with_parent, args=(pipe,), daemon=True).start()
    last = 0.0

    def report(status: WorkerStatus) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= REPORT_SECONDS:
            last = now
            pipe.send(status)

    try:
        with exiting_on_sigterm():
            pipe.send(run_worker(spec, report))
    except IxtError as error:
        pipe.send(str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _exit_with_parent(pipe: Connection) -> None:
    """Terminate this process when its parent is gone; the parent never sends anything."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)


__all__ = [
    "CritiqueRunSpec",
    "WorkerStatus",
    "closing_critic",
    "exiting_on_sigterm",
    "run_locally",
    "run_worker",
    "total_report",
]
