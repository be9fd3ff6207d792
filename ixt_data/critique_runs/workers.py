"""Many workers on one critique run: processes of this machine, which share the units by leases.

A worker that is killed is started again and goes on with its journal; until then the others take
its units. What the critique run did is added up from the log, so that nobody's death changes it.
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

from ixt_data.critics import ChunkOptions, Critic, Meters, added, load_critic, watching
from ixt_data.critique_runs.annotation import CritiqueReport, annotate, spent
from ixt_data.critique_runs.pending_work import PendingWork
from ixt_data.errors import CriticError, IxtError
from ixt_data.records import Critique
from ixt_data.store import Store

RESTARTS = 10
"""A worker that is killed more often is not started again."""

SAY_SECONDS = 0.5
"""Seconds between a worker's messages."""

STOPPED = 128 + signal.SIGTERM
"""Exit code of a worker that was asked to end."""


@dataclass(frozen=True)
class CritiqueRunSpec:
    """One critique run, as each of its workers needs to know it.

    Attributes:
        store: its root.
        corpus: what is critiqued.
        critic, options, parts: see `load_critic`.
        serve: arguments of a `vllm serve` that each worker starts for itself, if any.
        name: of the critic, if it is not its own.
        retry_failed: see `annotate`.
        run: the id of the critique run.
        since: the version that all its workers begin from.
        folder: where the command was given; a critic of the user's own may be there.
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
        """The critic; to be closed if it can be."""
        options = dict(self.options)
        if self.serve is not None:
            from ixt_data.critics import Server

            options["server"] = Server(**self.serve)
        critic = load_critic(self.critic, options=options, parts=self.parts)
        critic.name = self.name or critic.name
        return critic


@dataclass
class WorkerStatus:
    """What a worker says of itself while it is at work.

    Attributes:
        documents: done so far, `statuses` by status: only those that it asked about.
        spent: see `spent`.
        meters: of its critic's servers.
        todo: what there was to do when it began, for all workers together; None before that.
    """

    documents: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    spent: Counter[str] = field(default_factory=Counter)
    meters: Meters = field(default_factory=dict)
    todo: PendingWork | None = None

    def __add__(self, other: "WorkerStatus") -> "WorkerStatus":
        """Of both workers together."""
        return WorkerStatus(
            self.documents + other.documents,
            self.statuses + other.statuses,
            self.spent + other.spent,
            added(self.meters, other.meters),
            self.todo or other.todo,
        )


StatusCallback = Callable[[WorkerStatus], None]


def work(job: CritiqueRunSpec, tell: StatusCallback) -> CritiqueReport:
    """Does what is left of a critique run, until all of it is published by somebody.

    Args:
        job: what.
        tell: called at first, and after each document.
    """
    with suppress(OSError):
        os.chdir(job.folder)
    critic, told = job.load(), WorkerStatus()

    def progress(done: int, critique: Critique) -> None:
        told.documents, told.spent = done, spent(critic)
        told.statuses[critique.status] += 1
        tell(told)

    def begun(todo: PendingWork) -> None:
        told.todo = todo
        tell(told)

    def watched(meters: Meters) -> None:
        told.meters = meters

    store = Store.open(job.store)
    tell(told)
    with closed(critic), watching(critic, watched):
        return annotate(
            store,
            job.corpus,
            critic,
            progress,
            retry_failed=job.retry_failed,
            run=job.run,
            since=job.since,
            begin=begun,
        )


@contextmanager
def closed(critic: Critic) -> Iterator[None]:
    """Closes a critic that holds connections or a server."""
    with closing(critic) if hasattr(critic, "close") else nullcontext():  # type: ignore[type-var]
        yield


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Makes SIGTERM end what runs inside as Ctrl-C does: leases and servers are given back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def summed(store: Store, job: CritiqueRunSpec, reports: list[CritiqueReport]) -> CritiqueReport:
    """What all workers of a critique run did, from the log.

    Args:
        store: where.
        job: the critique run.
        reports: of those workers that came to an end.
    """
    total = CritiqueReport(reports[0].critic, job.run)
    snapshot, costs = store.snapshot(), Counter[str]()
    for entry in store.log.entries((job.since or 0) + 1, snapshot.version):
        if entry.op == "critique" and entry.summary.get("run") == job.run:
            total.units += 1
            total.documents += entry.summary["documents"]
            total.reused += entry.summary["reused"]
            total.statuses.update(entry.summary["statuses"])
            costs.update(entry.summary["usage"])
    total.spent, total.snapshot = dict(costs), snapshot.version
    total.skipped = snapshot.corpora[job.corpus].shards - total.units
    return total


def on_this_machine(job: CritiqueRunSpec, n: int, tell: StatusCallback) -> CritiqueReport:
    """A critique run by n processes.

    Args:
        job: what.
        n: how many.
        tell: called twice a second with what all of them have done.

    Raises:
        IxtError: what one of them failed with; the others are stopped.
    """
    store = Store.open(job.store)
    job = replace(job, since=store.snapshot().version)
    workers = [_Process(job) for _ in range(n)]
    try:
        while any(worker.report is None for worker in workers):
            wait([worker.pipe for worker in workers if worker.report is None], SAY_SECONDS)
            for worker in workers:
                worker.listen()
            tell(sum((worker.told for worker in workers), WorkerStatus()))
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
    return summed(store, job, [worker.report for worker in workers if worker.report])


class _Process:
    """One worker, started again when it is killed."""

    def __init__(self, job: CritiqueRunSpec) -> None:
        self._job, self._starts, self._before = job, 0, WorkerStatus()
        self._now = WorkerStatus()
        self.report: CritiqueReport | None = None
        self._start()

    @property
    def told(self) -> WorkerStatus:
        """What it has done, in all its lives."""
        return self._before + self._now

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_main, args=(self._job, theirs))
        self.process.start()
        theirs.close()
        self._starts += 1

    def listen(self) -> None:
        """Takes in what it has said; starts it again if it was killed.

        Raises:
            IxtError: it failed, or was killed too often.
        """
        while self.report is None and self.pipe.poll():
            try:
                said = self.pipe.recv()
            except (EOFError, OSError):
                self._ended()
                return
            if isinstance(said, WorkerStatus):
                self._now = said
            elif isinstance(said, CritiqueReport):
                self.report = said
            else:
                raise IxtError(said)

    def _ended(self) -> None:
        self.process.join()
        code = self.process.exitcode
        if code is None or (code >= 0 and code != STOPPED):
            raise CriticError(f"a worker ended with exit code {code}; what it wrote is above")
        if self._starts > RESTARTS:
            raise CriticError(f"a worker was killed {self._starts} times, at last with {code}")
        self._before, self._now = self.told, WorkerStatus()
        self._start()


def _main(job: CritiqueRunSpec, pipe: Connection) -> None:
    """The life of one process."""
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    last = 0.0

    def tell(told: WorkerStatus) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= SAY_SECONDS:
            last = now
            pipe.send(told)

    try:
        with ending_in_order():
            pipe.send(work(job, tell))
    except IxtError as error:
        pipe.send(str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end_with_parent(pipe: Connection) -> None:
    """Ends this process when the one that started it is gone: nothing else is ever received."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)


__all__ = [
    "CritiqueRunSpec",
    "WorkerStatus",
    "closed",
    "ending_in_order",
    "on_this_machine",
    "summed",
    "work",
]
