"""Full-text indexes of the shards of a snapshot: each is a unit of work and one commit."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from ixt_data.errors import MissingExtra, UnitAlreadyPublished
from ixt_data.log import SEARCH, ShardInfo, family_unit
from ixt_data.records import ProgressCallback
from ixt_data.search import SEARCH_COLUMNS, build_archive, split_archive
from ixt_data.store import (
    SEARCH_FIELDS,
    Store,
    read_texts,
    search_family,
    search_sources,
    shard_number,
)
from ixt_data.worker_processes import WorkerPool, cores


@dataclass
class IndexReport:
    """Result of `build_indexes`.

    Attributes:
        shards: shards indexed now.
        skipped: shards that had an index.
        texts: texts in the shards indexed now.
        bytes: compressed bytes of the new indexes.
        removed: indexes removed, because later critiques have replaced their shards.
        snapshot: version of the snapshot afterwards.
    """

    shards: int = 0
    skipped: int = 0
    texts: int = 0
    bytes: int = 0
    removed: int = 0
    snapshot: int = 0


def build_indexes(
    store: Store,
    fields: Collection[str] = SEARCH_FIELDS,
    *,
    rebuild: bool = False,
    workers: int | None = None,
    progress: ProgressCallback = lambda done, total: None,
) -> IndexReport:
    """Index the shards that have no index yet: texts, and the latest critiques and thinking.

    Args:
        store: the store.
        fields: `text`, `critique`, `thinking`.
        rebuild: replace existing indexes.
        workers: processes that build indexes; None: one per core.
        progress: called with the shards done and in all.

    Raises:
        MissingExtra: tantivy is not installed.
        QueryError: a field does not exist.
    """
    MissingExtra.require("search", "tantivy")
    snapshot, report = store.snapshot(), IndexReport()
    pending: list[tuple[str, ShardInfo]] = []
    for source in search_sources(snapshot, fields):
        for shard in source.shards:
            is_indexed = snapshot.aligned(shard.path, search_family(shard.family)) is not None
            if is_indexed and not rebuild:
                report.skipped += 1
            else:
                pending.append((source.field, shard))
    with WorkerPool(min(workers or cores(), len(pending))) as pool:
        archives = pool.map(partial(_build, store), pending)
        for done, ((_, shard), archive) in enumerate(zip(pending, archives, strict=True)):
            progress(done, len(pending))
            try:
                report.bytes += _publish(store, shard, archive, rebuild=rebuild)
            except UnitAlreadyPublished:
                report.skipped += 1
                continue
            report.shards += 1
            report.texts += shard.samples
    progress(len(pending), len(pending))
    report.removed = _remove_stale(store, fields)
    report.snapshot = store.snapshot().version
    return report


def _remove_stale(store: Store, fields: Collection[str]) -> int:
    """Remove the indexes of shards that later critiques have replaced; return their number."""
    with store.begin("index") as txn:
        known, indexed = txn.base.shards_by_path, [[SEARCH, field] for field in fields]
        stale = [
            shard.path
            for shard in txn.base.shards
            if shard.family.split("/")[:2] in indexed and shard.aligned_with not in known
        ]
        if stale:
            txn.remove_shards(stale)
            txn.commit(removed=len(stale))
    return len(stale)


def _build(store: Store, pending: tuple[str, ShardInfo]) -> bytes:
    field, shard = pending
    return build_archive(read_texts(store, shard, field))


def _publish(store: Store, shard: ShardInfo, archive: bytes, *, rebuild: bool) -> int:
    """Commit the index of one shard; return its bytes.

    Raises:
        UnitAlreadyPublished: another process did it first.
    """
    name = search_family(shard.family)
    with store.begin("index", unit=family_unit(name, shard.path)) as txn:
        old = txn.base.aligned(shard.path, name)
        if old is not None and not rebuild:
            raise UnitAlreadyPublished(f"{txn.unit} is published")
        if old is not None:
            txn.remove_shards([old.path])
        family = txn.family(name, shard.corpus, SEARCH_COLUMNS, first=shard_number(shard))
        for sample in split_archive(archive, shard.samples):
            family.write(sample)
        written = family.cut(aligned_with=shard.path)
        txn.commit(texts=shard.samples, bytes=written.stored.bytes)
    return written.stored.bytes
