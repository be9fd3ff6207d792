"""One worker of a critique run: it opens units, feeds their documents to the critic, publishes.

The documents of a pipelined critic are one stream over units: the next unit opens while the last
documents of the previous ones are in flight, and a thread publishes finished units. So a judge's
servers do not idle at the end of each unit.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ixt_data.critics import Critic
from ixt_data.critique_runs.journal import Journal, journal_folder
from ixt_data.critique_runs.leases import Lease, LeaseConflict, LeaseHeld, Leases
from ixt_data.critique_runs.reuse import good_critiques
from ixt_data.critique_runs.units import (
    align_critiques,
    publish,
    read_documents,
    target_rows,
)
from ixt_data.errors import CriticError, IxtError, Terminated, UnitAlreadyPublished
from ixt_data.log import CriticInfo, ShardInfo, Snapshot
from ixt_data.records import ID_BYTES, OK, Critique, Document, format_id
from ixt_data.store import Store, unit_name

NO_ANSWER = "no_answer"
FIRST_POLL_SECONDS, MAX_POLL_SECONDS = 0.05, 1.0
"""Pauses between two looks at units of other workers: the pause doubles."""

MAX_PUBLISHING = 4
"""Finished units that may wait for their commit before the worker waits for one."""

CritiqueCallback = Callable[[int, Critique], None]
"""Function that receives the number of finished documents and the last critique."""


@dataclass(eq=False)
class OpenUnit:
    """A unit that this worker has the lease of, until it is published.

    Attributes:
        shard: the text shard.
        replaced_txn: the transaction that published it before, if any.
        lease: renewed until the unit closes.
        journal: of a journaled critic.
        samples: all samples of the shard.
        target: rows to critique; None means all.
        documents: the documents of these rows.
        critiques: by doc_id, as far as they exist.
        missing: doc_ids without a critique.
        reused: documents that had a critique when the unit was opened.
        started: time of the opening, UTC.
        resources: lease and journal, to be closed.
    """

    shard: ShardInfo
    replaced_txn: str | None
    lease: Lease
    journal: Journal | None
    samples: list[Document]
    target: set[int] | None
    documents: list[Document]
    critiques: dict[bytes, Critique]
    missing: set[bytes]
    reused: int
    resources: ExitStack
    started: datetime = field(default_factory=lambda: datetime.now(UTC))


def usage_of(critic: Critic) -> Counter[str]:
    """Return a critic's own counts of its costs, empty if it counts none."""
    return Counter(getattr(critic, "usage", None) or {})


class UnitWorker:
    """One worker of a critique run.

    Args:
        store: the store.
        critic: the critic; its documents form one stream over units if it is `pipelined`.
        info: the critic as the log records it.
        run: id of the critique run.
        progress: receives each critique.
        on_published: receives each unit that this worker published.
        retry_failed: critique documents again whose critique failed.
    """

    def __init__(
        self,
        store: Store,
        critic: Critic,
        info: CriticInfo,
        run: str,
        progress: CritiqueCallback,
        on_published: Callable[[OpenUnit], None],
        retry_failed: bool,
    ) -> None:
        self._store, self._critic, self._info, self._run = store, critic, info, run
        self._progress, self._on_published = progress, on_published
        self._retry_failed = retry_failed
        self._is_pipelined = bool(getattr(critic, "pipelined", False))
        self._leases = Leases(store.storage, info.id)
        self._known = store.snapshot()
        # Of its own: this thread reads the store while the other one commits.
        self._publisher_store = Store(store.storage)
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="ixt-publish")
        self._publishing: deque[tuple[OpenUnit, Future[bool]]] = deque()
        self._open: list[OpenUnit] = []
        self._waiting: dict[bytes, list[OpenUnit]] = {}
        self._accounted: Counter[str] = usage_of(critic)
        self._done = 0
        self._has_requested = False
        self.skipped = 0

    def work(self, shards: Iterable[ShardInfo], replaced: dict[str, str | None]) -> None:
        """Do the units; those that another worker holds come last, in case it crashes.

        Args:
            shards: text shards to critique.
            replaced: by path, the transaction that published a unit before.

        Raises:
            CriticError: the critic violates its protocol, or every further document would fail.
        """
        queue, pause = deque(shards), FIRST_POLL_SECONDS
        self._leases.refresh()
        try:
            while queue:
                self._run_critic(queue, replaced)
                self._collect(wait=not queue)
                if queue and not self._is_available(queue):
                    self._leases.report_waiting(unit_name(self._info.id, s) for s in queue)
                    time.sleep(pause)
                    pause = min(MAX_POLL_SECONDS, 2 * pause)
                    self._leases.refresh()
                    self._known = self._store.snapshot()
            self._collect(wait=True)
        finally:
            for unit in self._open:
                unit.resources.close()
            self._publisher.shutdown(wait=True)

    def _is_available(self, queue: "deque[ShardInfo]") -> bool:
        return any(not self._leases.is_held(unit_name(self._info.id, shard)) for shard in queue)

    def _run_critic(self, queue: "deque[ShardInfo]", replaced: dict[str, str | None]) -> None:
        """Feed one stream of documents to the critic, and take its critiques.

        Raises:
            CriticError: the critic raised an exception, or it requested no document.
        """
        self._has_requested = False
        with closing(self._critiques(self._documents(queue, replaced))) as critiques:
            for critique in critiques:
                self._receive(critique, queue)
        # Documents that the critic did not request wait, too: it ended before them.
        for unit in self._open:
            for doc_id in unit.missing:
                units = self._waiting.setdefault(doc_id, [])
                if unit not in units:
                    units.append(unit)
        for doc_id in list(self._waiting):
            self._receive(Critique(doc_id, NO_ANSWER, error="the critic gave no critique"), queue)
        if not self._has_requested:
            raise CriticError(f"critic {self._critic.name} ended without a request for a document")

    def _critiques(self, documents: Iterator[Document]) -> Generator[Critique, None, None]:
        """Yield the critic's critiques; an exception in the critic names the critic."""
        try:
            yield from self._critic.run(documents)
        except (IxtError, OSError, Terminated):
            raise
        # A critic that calls sys.exit() must not end the run as if it were complete.
        except (Exception, SystemExit) as error:
            raise CriticError(
                f"critic {self._critic.name} raised {type(error).__name__}: {error}. "
                "Finished units are stored. `ixt --debug critique ...` prints the traceback"
            ) from error

    def _documents(
        self, queue: "deque[ShardInfo]", replaced: dict[str, str | None]
    ) -> Iterator[Document]:
        """Open units as the critic asks for documents; yield those without a critique."""
        self._has_requested = True
        while (unit := self._open_next(queue, replaced)) is not None:
            self._open.append(unit)
            self._done += unit.reused
            requested = [d for d in unit.documents if d.doc_id in unit.missing]
            if not requested:
                self._finish(unit)
                continue
            for document in {d.doc_id: d for d in requested}.values():
                if unit not in self._open:
                    # Its lease was lost: another worker does the rest.
                    break
                # Another open unit may have the same document: it is judged once.
                units = self._waiting.setdefault(document.doc_id, [])
                units.append(unit)
                if len(units) == 1:
                    yield document
            if not self._is_pipelined:
                return

    def _open_next(
        self, queue: "deque[ShardInfo]", replaced: dict[str, str | None]
    ) -> OpenUnit | None:
        """Open the next unit that no other worker holds; None if there is none."""
        n_held = 0
        while queue and n_held < len(queue):
            shard = queue.popleft()
            try:
                unit = self._open_unit(shard, replaced[shard.path])
            except LeaseConflict:
                # Workers that started together diverge here.
                queue.rotate(-random.randrange(len(queue) + 1))
                n_held = 0
                queue.append(shard)
            except LeaseHeld:
                n_held += 1
                queue.append(shard)
            else:
                if unit is not None:
                    return unit
                self.skipped += 1
                n_held = 0
        return None

    def _open_unit(self, shard: ShardInfo, replaced_txn: str | None) -> OpenUnit | None:
        """Open a unit; None if it is not pending.

        Raises:
            LeaseHeld: another worker holds its lease.
        """
        name = unit_name(self._info.id, shard)
        if self._known.units.get(name) != replaced_txn:
            return None
        with ExitStack() as stack:
            lease = stack.enter_context(self._leases.acquire(name))
            journal = None
            if getattr(self._critic, "journaled", False):
                folder = journal_folder(self._store)
                journal = stack.enter_context(Journal(folder, self._info.id, name, replaced_txn))
            self._known = snapshot = self._store.snapshot()
            if snapshot.units.get(name) != replaced_txn:
                if journal is not None:
                    journal.remove()
                return None
            samples = list(read_documents(self._store, shard))
            target = target_rows(self._store, snapshot, shard)
            documents = samples if target is None else [samples[row] for row in sorted(target)]
            critiques = self._existing(snapshot, shard, replaced_txn, journal)
            missing = {d.doc_id for d in documents} - critiques.keys()
            return OpenUnit(
                shard,
                replaced_txn,
                lease,
                journal,
                samples,
                target,
                documents,
                critiques,
                missing,
                reused=len({d.doc_id for d in documents}) - len(missing),
                resources=stack.pop_all(),
            )

    def _existing(
        self,
        snapshot: Snapshot,
        shard: ShardInfo,
        replaced_txn: str | None,
        journal: Journal | None,
    ) -> dict[bytes, Critique]:
        """Return critiques that need no request: from the store, and from the unit's journal."""
        found: dict[bytes, Critique] = {}
        family = snapshot.family(f"critique/{self._info.id}")
        if replaced_txn is not None or any(other.corpus != shard.corpus for other in family):
            found = good_critiques(self._store, snapshot, shard, self._info)
        for doc_id, critique in journal.critiques.items() if journal is not None else ():
            if critique.status == OK or not self._retry_failed or replaced_txn:
                found[doc_id] = critique
        return found

    def _receive(self, critique: Critique, queue: "deque[ShardInfo]") -> None:
        """Journal a critique in the units that wait for it; finish those that are complete."""
        if not isinstance(critique, Critique):
            raise CriticError(
                f"critic {self._critic.name} gave an object of type {type(critique).__name__}; "
                "run() must yield ixt_data.records.Critique"
            )
        units = self._waiting.pop(critique.doc_id, None)
        if units is None:
            raise CriticError(
                f"critic {self._critic.name} gave a critique for document "
                f"{_name(critique.doc_id)}, which it was not given, or a second one. run() must "
                "yield exactly one critique per document. Finished units are stored"
            )
        _check_score(self._critic, critique)
        for unit in units:
            if unit not in self._open:
                continue
            if unit.journal is not None:
                unit.journal.append(critique)
            unit.critiques[critique.doc_id] = critique
            unit.missing.discard(critique.doc_id)
            self._done += 1
            self._progress(self._done, critique)
            try:
                unit.lease.check()
            except LeaseHeld:
                self._open.remove(unit)
                unit.resources.close()
                queue.append(unit.shard)
                continue
            if not unit.missing:
                self._finish(unit)

    def _finish(self, unit: OpenUnit) -> None:
        """Hand a complete unit to the thread that publishes."""
        self._open.remove(unit)
        usage = usage_of(self._critic)
        spent, self._accounted = usage - self._accounted, usage
        summary = {
            "run": self._run,
            "corpus": unit.shard.corpus,
            "started": unit.started.isoformat(timespec="milliseconds"),
            "reused": unit.reused,
            "usage": dict(spent),
        }
        future = self._publisher.submit(self._publish, unit, summary)
        self._publishing.append((unit, future))
        # Without a pipeline, a unit is committed before the next one opens.
        self._collect(wait=not self._is_pipelined)

    def _publish(self, unit: OpenUnit, summary: dict[str, Any]) -> bool:
        """Commit a unit; return whether this worker was the first. Runs in the other thread."""
        with unit.resources:
            critiques = [unit.critiques[document.doc_id] for document in unit.documents]
            aligned = align_critiques(unit.samples, unit.target, critiques)
            try:
                publish(
                    self._publisher_store,
                    unit.shard,
                    self._info,
                    aligned,
                    unit.replaced_txn,
                    **summary,
                )
                is_first = True
            except UnitAlreadyPublished:
                is_first = False
            if unit.journal is not None:
                unit.journal.remove()
            return is_first

    def _collect(self, wait: bool) -> None:
        """Count the units whose commit is done; wait for all of them, or if many are waiting."""
        while self._publishing:
            unit, future = self._publishing[0]
            if not wait and not future.done() and len(self._publishing) <= MAX_PUBLISHING:
                return
            self._publishing.popleft()
            if future.result():
                self._on_published(unit)
            else:
                self.skipped += 1


def _name(doc_id: Any) -> str:
    is_id = isinstance(doc_id, bytes) and len(doc_id) == ID_BYTES
    return format_id(doc_id) if is_id else repr(doc_id)


def _check_score(critic: Critic, critique: Critique) -> None:
    score = critique.score
    if score is not None and not 0 <= score <= 1:
        raise CriticError(
            f"critic {critic.name} gave the score {score}; a score must be between 0 and 1"
        )
