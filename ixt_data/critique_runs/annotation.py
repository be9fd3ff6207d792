"""Critique runs: each text shard without critiques by a critic becomes one unit of work.

A unit publishes its aligned critique shard, its thinking shard where the critic thinks aloud, and
its rows in one commit. Two workers on one unit publish once. Answers of a slow critic are kept in
a journal until then, and no document that this critic has judged before is asked about again.
"""

import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ixt_data.critics import Critic, critic_id
from ixt_data.critique_runs.journal import Journal, journal_folder
from ixt_data.critique_runs.leases import Lease, LeaseConflict, LeaseHeld, Leases
from ixt_data.critique_runs.pending_work import PendingWork, pending_work
from ixt_data.critique_runs.reuse import good_critiques, units_with_failures
from ixt_data.critique_runs.units import aligned, home_rows, publish, read_documents, unit_name
from ixt_data.errors import CriticError, StoreError, UnitAlreadyPublished
from ixt_data.log import CriticInfo, ShardInfo, Snapshot
from ixt_data.records import OK, Critique, Document
from ixt_data.store import Store, check_name

NO_ANSWER = "no_answer"
POLL_SECONDS = 1.0

CritiqueCallback = Callable[[int, Critique], None]


@dataclass
class CritiqueReport:
    """What a critique run did.

    Attributes:
        critic: the critic's id.
        run: an id of this critique run, as in the view `critique_runs`.
        documents: how many are in the units that it published, of each status in `statuses`.
        reused: how many of them were not asked about: from a journal, or known before.
        units: text shards published now.
        skipped: text shards that this critic had done before.
        spent: what the critic counts, for instance `tokens_in`; also for what is not published.
        snapshot: the version after it.
    """

    critic: str
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    documents: int = 0
    reused: int = 0
    units: int = 0
    skipped: int = 0
    spent: dict[str, int] = field(default_factory=dict)
    snapshot: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


def pending(snapshot: Snapshot, corpus: str, critic: str) -> list[ShardInfo]:
    """The text shards of a corpus that the critic of this id has not published."""
    shards = snapshot.text_shards({corpus})
    return [shard for shard in shards if unit_name(critic, shard) not in snapshot.units]


def annotate(
    store: Store,
    corpus: str,
    critic: Critic,
    progress: CritiqueCallback = lambda done, critique: None,
    *,
    retry_failed: bool = False,
    run: str | None = None,
    since: int | None = None,
    begin: Callable[[PendingWork], None] = lambda todo: None,
) -> CritiqueReport:
    """Critiques every document of a corpus that this critic has not critiqued.

    Args:
        store: where the corpus is.
        corpus: its name.
        critic: who judges.
        progress: called after each document with the number done so far.
        retry_failed: ask again about those documents that have no good critique.
        run: an id of this critique run, the same one for all workers that share it.
        since: the version that they all begin from; the newest by default.
        begin: called with what there is to do, before anything is asked.

    Raises:
        StoreError: there is no such corpus.
        CriticError: the critic answers against its contract.
    """
    snapshot = store.snapshot(since)
    if corpus not in snapshot.corpora:
        known = ", ".join(snapshot.corpora) or "none"
        raise StoreError(f"no corpus {corpus!r} in {store.root}; corpora: {known}")
    info = CriticInfo(critic_id(critic), check_name(critic.name, "critic"), critic.config())
    worker = _Worker(store, critic, info, progress, retry_failed)
    worker.report.run = run or worker.report.run
    shards = pending(snapshot, corpus, info.id)
    worker.report.skipped = snapshot.corpora[corpus].shards - len(shards)
    if retry_failed:
        again = units_with_failures(store, snapshot, corpus, info.id)
        worker.report.skipped -= len(again)
        shards = [*shards, *again]
    begin(pending_work(snapshot, shards, info))
    replaced = {shard.path: snapshot.units.get(unit_name(info.id, shard)) for shard in shards}
    worker.work(shards, replaced)
    worker.report.spent = dict(spent(critic))
    worker.report.snapshot = store.snapshot().version
    return worker.report


def spent(critic: Critic) -> Counter[str]:
    """What a critic counts of its own costs, nothing if it does not."""
    return Counter(getattr(critic, "spent", None) or {})


class _Worker:
    """One worker of a critique run: units, one after the other."""

    def __init__(
        self,
        store: Store,
        critic: Critic,
        info: CriticInfo,
        progress: CritiqueCallback,
        again: bool,
    ) -> None:
        self._store, self._critic, self._info = store, critic, info
        self._progress, self._again = progress, again
        self._leases = Leases(store.storage, info.id)
        self._known = store.snapshot()
        self.report = CritiqueReport(info.id)

    def work(self, shards: Iterable[ShardInfo], replaced: dict[str, str | None]) -> None:
        """Does the units; those that another worker is at come last, in case it dies."""
        queue, busy = deque(shards), 0
        self._leases.look()
        while queue:
            shard = queue.popleft()
            try:
                self.report.skipped += not self._unit(shard, replaced[shard.path])
                busy = 0
                continue
            except LeaseConflict:
                # Workers that began together part here.
                queue.rotate(-random.randrange(len(queue) + 1))
                busy = 0
            except LeaseHeld:
                busy += 1
            queue.append(shard)
            if busy >= len(queue):
                busy = 0
                time.sleep(POLL_SECONDS)
                self._leases.look()
                self._known = self._store.snapshot()

    def _unit(self, shard: ShardInfo, replaces: str | None) -> bool:
        """Does one unit; returns whether it was left to do.

        Raises:
            Busy: another worker is at it, or took it over.
        """
        name = unit_name(self._info.id, shard)
        if self._known.units.get(name) != replaces:
            return False
        with self._leases.take(name) as lease, ExitStack() as stack:
            journal = None
            if getattr(self._critic, "journaled", False):
                folder = journal_folder(self._store)
                journal = stack.enter_context(Journal(folder, self._info.id, name, replaces))
            self._known = self._store.snapshot()
            if self._known.units.get(name) == replaces:
                done = self._judge(self._known, shard, replaces, journal, lease)
            else:
                done = False
            if journal is not None:
                journal.remove()
            return done

    def _judge(
        self,
        snapshot: Snapshot,
        shard: ShardInfo,
        replaces: str | None,
        journal: Journal | None,
        lease: Lease,
    ) -> bool:
        started, before = datetime.now(UTC), spent(self._critic)
        samples = list(read_documents(self._store, shard))
        home = home_rows(self._store, snapshot, shard)
        documents = samples if home is None else [samples[row] for row in sorted(home)]
        answers: dict[bytes, Critique] = {}
        if replaces is not None or self._is_elsewhere(snapshot, shard):
            answers = good_critiques(self._store, snapshot, shard, self._info)
        if journal is not None:
            kept = journal.answers.items()
            answers |= {i: c for i, c in kept if c.status == OK or not self._again or replaces}
        asked = {d.doc_id: d for d in documents if d.doc_id not in answers}
        reused = len({d.doc_id for d in documents}) - len(asked)
        with closing(self._answers(list(asked.values()))) as made:
            for done, critique in enumerate(made, 1):
                if journal is not None:
                    journal.append(critique)
                answers[critique.doc_id] = critique
                self._progress(self.report.documents + reused + done, critique)
                lease.check()
        critiques = [answers[document.doc_id] for document in documents]
        summary = self._summary(shard, started, spent(self._critic) - before, reused)
        try:
            publish(
                self._store,
                shard,
                self._info,
                aligned(samples, home, critiques),
                replaces,
                **summary,
            )
        except UnitAlreadyPublished:
            return False
        self.report.units += 1
        self.report.reused += reused
        self.report.documents += len(critiques)
        self.report.statuses.update(critique.status for critique in critiques)
        return True

    def _is_elsewhere(self, snapshot: Snapshot, shard: ShardInfo) -> bool:
        """Whether this critic has judged another corpus, which may hold the same documents."""
        family = snapshot.family(f"critique/{self._info.id}")
        return any(other.corpus != shard.corpus for other in family)

    def _summary(
        self, shard: ShardInfo, started: datetime, costs: Counter[str], reused: int
    ) -> dict[str, Any]:
        return {
            "run": self.report.run,
            "corpus": shard.corpus,
            "started": started.isoformat(timespec="milliseconds"),
            "reused": reused,
            "usage": dict(costs),
        }

    def _answers(self, documents: list[Document]) -> Generator[Critique]:
        """Exactly one critique per document, as they come."""
        missing = {document.doc_id for document in documents}
        asked = frozenset(missing)
        for critique in self._critic.run(documents) if documents else ():
            if critique.doc_id not in asked:
                raise CriticError(
                    f"critic {self._critic.name} answered for a document it was not given"
                )
            missing.discard(critique.doc_id)
            yield _checked(self._critic, critique)
        for doc_id in [d.doc_id for d in documents if d.doc_id in missing]:
            yield Critique(doc_id, NO_ANSWER, error="the critic gave no answer")


def _checked(critic: Critic, critique: Critique) -> Critique:
    score = critique.score
    if score is not None and not 0 <= score <= 1:
        raise CriticError(f"critic {critic.name} gave the score {score}; scores are 0 to 1")
    return critique


def succeeded(report: CritiqueReport) -> int:
    """How many documents got a critique."""
    return report.statuses[OK]
