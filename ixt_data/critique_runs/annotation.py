"""Critique runs: each text shard without critiques by a critic is one unit of work.

A unit publishes its aligned critique shard, its rows, and a thinking shard where the critic emits
reasoning traces, in one commit. If two workers finish the same unit, it is published once. The
critiques of a slow critic are in a journal until then. A critic never judges a document again that
it has judged before.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ixt_data.console import Output, OutputMode
from ixt_data.critics import Critic, critic_id
from ixt_data.critique_runs.pending_work import PendingWork, find_pending_work
from ixt_data.critique_runs.reuse import units_with_failures
from ixt_data.critique_runs.unit_worker import CritiqueCallback, OpenUnit, UnitWorker, usage_of
from ixt_data.errors import CriticError
from ixt_data.log import CriticInfo, ShardInfo, Snapshot
from ixt_data.records import OK
from ixt_data.store import Store, check_name, unit_name


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
    if not callable(getattr(critic, "run", None)):
        raise CriticError(f"{critic!r} is not a critic; create one by load_critic({critic!r})")
    snapshot = store.snapshot(since)
    snapshot.check_corpora([corpus], store.root)
    if hasattr(critic, "shared_source_ids"):
        critic.shared_source_ids = _shared_source_ids(store, corpus, snapshot.version)
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
    report = CritiqueReport(info.id, run or uuid.uuid4().hex, skipped=n_skipped)

    def count(unit: OpenUnit) -> None:
        report.units += 1
        report.reused += unit.reused
        report.documents += len(unit.documents)
        report.statuses.update(unit.critiques[d.doc_id].status for d in unit.documents)

    with _progress_callback(progress, pending.documents) as callback:
        worker = UnitWorker(store, critic, info, report.run, callback, count, retry_failed)
        worker.work(shards, replaced)
    report.skipped += worker.skipped
    report.usage = dict(usage_of(critic))
    report.snapshot = store.snapshot().version
    return report


def _shared_source_ids(store: Store, corpus: str, version: int) -> frozenset[str]:
    """Return the source ids that several documents of a corpus have."""
    rows = store.sql(
        "SELECT source_id FROM documents WHERE corpus = ? GROUP BY source_id "
        "HAVING count(DISTINCT doc_id) > 1",
        at=version,
        parameters=[corpus],
    )
    return frozenset(row[0] for row in rows)


@contextmanager
def _progress_callback(
    progress: CritiqueCallback | bool | None, documents: int
) -> Iterator[CritiqueCallback]:
    if progress is not True:
        yield progress or (lambda done, critique: None)
        return
    with Output(OutputMode.text).progress("critiquing", documents, "documents") as bar:
        yield lambda done, critique: bar.update(done)


def count_succeeded(report: CritiqueReport) -> int:
    """Return the number of documents with the status `ok`."""
    return report.statuses[OK]
