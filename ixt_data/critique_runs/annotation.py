"""Critique runs: each text shard without critiques by a critic is one unit of work.

A unit publishes its aligned critique shard, its rows, and a thinking shard where the critic emits
reasoning traces, in one commit. If two workers finish the same unit, it is published once. The
critiques of a slow critic are in a journal until then. A critic never judges a document again that
it has judged before.
"""

import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ixt_data.console import Output, OutputMode
from ixt_data.critics import Critic, critic_id
from ixt_data.critique_runs.journal import Journal, journal_folder
from ixt_data.critique_runs.leases import Lease, LeaseConflict, LeaseHeld, Leases
from ixt_data.critique_runs.pending_work import PendingWork, find_pending_work
from ixt_data.critique_runs.reuse import good_critiques, units_with_failures
from ixt_data.critique_runs.units import (
    align_critiques,
    publish,
    read_documents,
    target_rows,
    unit_name,
)
from ixt_data.errors import CriticError, StoreError, UnitAlreadyPublished
from ixt_data.log import CriticInfo, ShardInfo, Snapshot
from ixt_data.records import OK, Critique, Document
from ixt_data.store import Store, check_name

NO_ANSWER = "no_answer"
POLL_SECONDS = 1.0

CritiqueCallback = Callable[[int, Critique], None]
"""Function that receives the number of finished documents and the last critique."""


@dataclass
class CritiqueReport:
    """Result of a critique run.

    Attributes:
        critic: the critic's id.
        run: id of this critique run, as in the view `critique_runs`.
        documents: number of documents in the units that it published; by status in `statuses`.
        reused: how many of them already had a critique, from a journal or in the store.
        units: number of text shards that it published.
        skipped: number of text shards that this critic had done before.
        usage: the critic's own counts, for instance `tokens_in`; unpublished work counts, too.
        snapshot: latest version after it.
        statuses: number of documents by status.
    """

    critic: str
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    documents: int = 0
    reused: int = 0
    units: int = 0
    skipped: int = 0
    usage: dict[str, int] = field(default_factory=dict)
    snapshot: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


def pending_shards(snapshot: Snapshot, corpus: str, critic: str) -> list[ShardInfo]:
    """Return the text shards of a corpus that a critic, by its id, has not published."""
    shards = snapshot.text_shards({corpus})
    return [shard for shard in shards if unit_name(critic, shard) not in snapshot.units]


def annotate(
    store: Store,
    corpus: str,
    critic: Critic,
    progress: CritiqueCallback | bool | None = None,
    *,
    retry_failed: bool = False,
    run: str | None = None,
    since: int | None = None,
    on_start: Callable[[PendingWork], None] = lambda pending: None,
) -> CritiqueReport:
    """Critique every document of a corpus that this critic has not critiqued.

    It commits one text shard at a time and continues an interrupted run. Other workers may run it
    at the same time; they share the text shards.

    Args:
        store: contains the corpus.
        corpus: its name.
        critic: see `load_critic`.
        progress: True shows a progress bar on stderr. A function is called after each critique
            with the number of finished documents and the critique. None or False shows nothing.
        retry_failed: critique documents again whose critique is not `ok`.
        run: id of this critique run, shared by all of its workers; a new id by default.
        since: version that all workers start from; the latest by default.
        on_start: called with the pending work before the critic gets a document.

    Returns:
        Counts of this worker, and the critic's usage.

    Raises:
        StoreError: the corpus does not exist.
        CriticError: the critic violates its protocol, or every further document would fail.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ixt_data.critics import load_critic
        >>> from ixt_data.critique_runs import annotate
        >>> from ixt_data.ingestion import ingest
        >>> from ixt_data.store import Store
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "sums.jsonl").write_text('{"text": "9 + 5 = 14 ;"}')
        >>> store = Store.init(folder / "store")
        >>> _ = ingest(store, "sums", [folder / "sums.jsonl"])
        >>> report = annotate(store, "sums", load_critic("arithmetic"))
        >>> report.documents, dict(report.statuses)
        (1, {'ok': 1})
        >>> store.sql("SELECT critique, score FROM critiques").fetchall()
        [('every step is correct', 1.0)]
    """
    snapshot = store.snapshot(since)
    if corpus not in snapshot.corpora:
        known = ", ".join(snapshot.corpora) or "none"
        raise StoreError(f"no corpus {corpus!r} in {store.root}; corpora: {known}")
    info = CriticInfo(critic_id(critic), check_name(critic.name, "critic"), critic.config())
    shards = pending_shards(snapshot, corpus, info.id)
    n_skipped = snapshot.corpora[corpus].shards - len(shards)
    if retry_failed:
        retries = units_with_failures(store, snapshot, corpus, info.id)
        n_skipped -= len(retries)
        shards = [*shards, *retries]
    pending = find_pending_work(snapshot, shards, info)
    on_start(pending)
    replaced = {shard.path: snapshot.units.get(unit_name(info.id, shard)) for shard in shards}
    with _progress_callback(progress, pending.documents) as callback:
        worker = _Worker(store, critic, info, callback, retry_failed)
        worker.report.run = run or worker.report.run
        worker.report.skipped = n_skipped
        worker.work(shards, replaced)
    worker.report.usage = dict(usage_of(critic))
    worker.report.snapshot = store.snapshot().version
    return worker.report


@contextmanager
def _progress_callback(
    progress: CritiqueCallback | bool | None, documents: int
) -> Iterator[CritiqueCallback]:
    if progress is not True:
        yield progress or (lambda done, critique: None)
        return
    with Output(OutputMode.text).progress("critiquing", documents, "documents") as bar:
        yield lambda done, critique: bar.update(done)


def usage_of(critic: Critic) -> Counter[str]:
    """Return a critic's own counts of its costs, empty if it counts none."""
    return Counter(getattr(critic, "usage", None) or {})


class _Worker:
    """One worker of a critique run; it does units sequentially."""

    def __init__(
        self,
        store: Store,
        critic: Critic,
        info: CriticInfo,
        progress: CritiqueCallback,
        retry_failed: bool,
    ) -> None:
        self._store, self._critic, self._info = store, critic, info
        self._progress, self._retry_failed = progress, retry_failed
        self._leases = Leases(store.storage, info.id)
        self._known = store.snapshot()
        self.report = CritiqueReport(info.id)

    def work(self, shards: Iterable[ShardInfo], replaced: dict[str, str | None]) -> None:
        """Do the units; those that another worker holds come last, in case it crashes."""
        queue, n_held = deque(shards), 0
        self._leases.refresh()
        while queue:
            shard = queue.popleft()
            try:
                self.report.skipped += not self._do_unit(shard, replaced[shard.path])
                n_held = 0
                continue
            except LeaseConflict:
                # Workers that started together diverge here.
                queue.rotate(-random.randrange(len(queue) + 1))
                n_held = 0
            except LeaseHeld:
                n_held += 1
            queue.append(shard)
            if n_held >= len(queue):
                n_held = 0
                time.sleep(POLL_SECONDS)
                self._leases.refresh()
                self._known = self._store.snapshot()

    def _do_unit(self, shard: ShardInfo, replaced_txn: str | None) -> bool:
        """Do one unit; return whether it was pending.

        Raises:
            LeaseHeld: another worker holds its lease, or took it over.
        """
        name = unit_name(self._info.id, shard)
        if self._known.units.get(name) != replaced_txn:
            return False
        with self._leases.acquire(name) as lease, ExitStack() as stack:
            journal = None
            if getattr(self._critic, "journaled", False):
                folder = journal_folder(self._store)
                journal = stack.enter_context(Journal(folder, self._info.id, name, replaced_txn))
            self._known = self._store.snapshot()
            if self._known.units.get(name) == replaced_txn:
                is_published = self._judge(self._known, shard, replaced_txn, journal, lease)
            else:
                is_published = False
            if journal is not None:
                journal.remove()
            return is_published

    def _judge(
        self,
        snapshot: Snapshot,
        shard: ShardInfo,
        replaced_txn: str | None,
        journal: Journal | None,
        lease: Lease,
    ) -> bool:
        started, before = datetime.now(UTC), usage_of(self._critic)
        samples = list(read_documents(self._store, shard))
        target = target_rows(self._store, snapshot, shard)
        documents = samples if target is None else [samples[row] for row in sorted(target)]
        by_id: dict[bytes, Critique] = {}
        if replaced_txn is not None or self._has_other_corpora(snapshot, shard):
            by_id = good_critiques(self._store, snapshot, shard, self._info)
        if journal is not None:
            for doc_id, critique in journal.critiques.items():
                if critique.status == OK or not self._retry_failed or replaced_txn:
                    by_id[doc_id] = critique
        requested = {d.doc_id: d for d in documents if d.doc_id not in by_id}
        reused = len({d.doc_id for d in documents}) - len(requested)
        with closing(self._run_critic(list(requested.values()))) as results:
            for done, critique in enumerate(results, 1):
                if journal is not None:
                    journal.append(critique)
                by_id[critique.doc_id] = critique
                self._progress(self.report.documents + reused + done, critique)
                lease.check()
        critiques = [by_id[document.doc_id] for document in documents]
        summary = self._summary(shard, started, usage_of(self._critic) - before, reused)
        try:
            publish(
                self._store,
                shard,
                self._info,
                align_critiques(samples, target, critiques),
                replaced_txn,
                **summary,
            )
        except UnitAlreadyPublished:
            return False
        self.report.units += 1
        self.report.reused += reused
        self.report.documents += len(critiques)
        self.report.statuses.update(critique.status for critique in critiques)
        return True

    def _has_other_corpora(self, snapshot: Snapshot, shard: ShardInfo) -> bool:
        """Return whether this critic judged another corpus, maybe with the same documents."""
        family = snapshot.family(f"critique/{self._info.id}")
        return any(other.corpus != shard.corpus for other in family)

    def _summary(
        self, shard: ShardInfo, started: datetime, usage: Counter[str], reused: int
    ) -> dict[str, Any]:
        return {
            "run": self.report.run,
            "corpus": shard.corpus,
            "started": started.isoformat(timespec="milliseconds"),
            "reused": reused,
            "usage": dict(usage),
        }

    def _run_critic(self, documents: list[Document]) -> Generator[Critique]:
        """Yield exactly one critique per document, in the critic's order."""
        missing = {document.doc_id for document in documents}
        requested = frozenset(missing)
        for critique in self._critic.run(documents) if documents else ():
            if critique.doc_id not in requested:
                raise CriticError(
                    f"critic {self._critic.name} gave a critique for a document it was not given"
                )
            missing.discard(critique.doc_id)
            yield _checked(self._critic, critique)
        for doc_id in [d.doc_id for d in documents if d.doc_id in missing]:
            yield Critique(doc_id, NO_ANSWER, error="the critic gave no critique")


def _checked(critic: Critic, critique: Critique) -> Critique:
    score = critique.score
    if score is not None and not 0 <= score <= 1:
        raise CriticError(
            f"critic {critic.name} gave the score {score}; a score must be between 0 and 1"
        )
    return critique


def count_succeeded(report: CritiqueReport) -> int:
    """Return the number of documents with the status `ok`."""
    return report.statuses[OK]
