"""One unit of a critique run: read a text shard, publish its critiques in one commit."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ixt_data.errors import CommitError, UnitAlreadyPublished
from ixt_data.log import CriticInfo, Entry, ShardInfo, Snapshot
from ixt_data.mds import CRITIQUE_COLUMNS, THINKING_COLUMNS
from ixt_data.records import Critique, Document
from ixt_data.store import (
    ORPHAN,
    Store,
    Transaction,
    critique_sample,
    critique_table,
    shard_number,
    unit_name,
)


class _Superseded(CommitError):
    """Another commit may have critiques of the same documents: recompute the generation."""


def read_documents(store: Store, shard: ShardInfo) -> Iterator[Document]:
    """Yield the documents of a text shard, in order."""
    for row in store.shard(shard).rows():
        yield Document(row["doc_id"], row["text"], row["source"], row["source_id"])


def target_rows(store: Store, snapshot: Snapshot, shard: ShardInfo) -> set[int] | None:
    """Return the rows of a text shard that are documents, None if all of them are."""
    if not shard.orphans:
        return None
    sql = "SELECT row FROM documents WHERE shard = ?"
    rows = store.sql(sql, at=snapshot.version, parameters=[shard.path]).arrow()
    return set(rows["row"].to_pylist())


def align_critiques(
    samples: list[Document], target: set[int] | None, critiques: list[Critique]
) -> list[Critique]:
    """Return one critique per sample: those of the documents, and placeholders for orphans."""
    if target is None:
        return critiques
    remaining = iter(critiques)
    return [
        next(remaining) if row in target else Critique(sample.doc_id, ORPHAN)
        for row, sample in enumerate(samples)
    ]


def publish(
    store: Store,
    shard: ShardInfo,
    critic: CriticInfo,
    critiques: list[Critique],
    replaced_txn: str | None = None,
    **summary: Any,
) -> int:
    """Commit one unit: the critiques of all documents of a text shard, in its order.

    Args:
        store: contains the text shard.
        shard: the text shard.
        critic: the critic.
        critiques: one per sample.
        replaced_txn: transaction that published this unit before, if this is a retry.
        summary: further fields of the log entry's summary, with the statuses.

    Returns:
        The new version.

    Raises:
        UnitAlreadyPublished: another worker published it first.
    """
    while True:
        with store.begin("critique", unit=unit_name(critic.id, shard)) as txn:
            if txn.base.units.get(txn.unit or "") != replaced_txn:
                raise UnitAlreadyPublished(f"{txn.unit} is already published")
            if replaced_txn is not None:
                txn.remove_shards(old.path for old in published_shards(txn.base, shard, critic))
            txn.add_critic(critic)
            critique_shard = _write_shards(txn, shard, critic, critiques)
            is_retry = replaced_txn is not None
            number = next_generation(store, txn.base, shard, critic, is_retry=is_retry)
            _write_rows(txn, critique_shard, critic, critiques, number)
            statuses = Counter(c.status for c in critiques if c.status != ORPHAN)
            try:
                return txn.commit(
                    _refuse_overlap(shard, critic),
                    critic=critic.id,
                    documents=statuses.total(),
                    statuses=dict(statuses),
                    **summary,
                )
            except _Superseded:
                continue


def _write_shards(
    txn: Transaction, shard: ShardInfo, critic: CriticInfo, critiques: list[Critique]
) -> ShardInfo:
    number = shard_number(shard)
    family = txn.family(f"critique/{critic.id}", shard.corpus, CRITIQUE_COLUMNS, first=number)
    for critique in critiques:
        family.write(critique_sample(critique))
    if any(critique.thinking is not None for critique in critiques):
        thinking = txn.family(f"thinking/{critic.id}", shard.corpus, THINKING_COLUMNS, first=number)
        for critique in critiques:
            thinking.write({"doc_id": critique.doc_id, "thinking": critique.thinking or ""})
        thinking.cut(aligned_with=shard.path)
    return family.cut(aligned_with=shard.path)


def _write_rows(
    txn: Transaction,
    shard: ShardInfo,
    critic: CriticInfo,
    critiques: list[Critique],
    next_generation: int,
) -> None:
    # A document that is twice in one shard has two samples and one row.
    documents = [(i, c) for i, c in enumerate(critiques) if c.status != ORPHAN]
    rows = list({c.doc_id: (i, c) for i, c in reversed(documents)}.values())
    rows.sort(key=lambda row: row[0])
    table = critique_table(shard, critic, rows)
    txn.add_rows("critiques", critic.id, table, next_generation)


def _may_overlap(shards: tuple[ShardInfo, ...], ids: set[str], shard: ShardInfo, own: str) -> bool:
    """Return whether shards may contain critiques of the same documents by the same name."""
    families = {f"critique/{critic}" for critic in ids}
    mine = (f"critique/{own}", shard.corpus)
    return any(s.family in families and (s.family, s.corpus) != mine for s in shards)


def published_shards(snapshot: Snapshot, shard: ShardInfo, critic: CriticInfo) -> list[ShardInfo]:
    """Return the shards with a critic's critiques and thinking of a text shard."""
    families = (f"critique/{critic.id}", f"thinking/{critic.id}")
    shards = (snapshot.aligned(shard.path, family) for family in families)
    return [info for info in shards if info is not None]


def next_generation(
    store: Store, base: Snapshot, shard: ShardInfo, critic: CriticInfo, *, is_retry: bool = False
) -> int:
    """Return 1 plus the highest generation of critiques by this name of this shard's documents."""
    ids = set(base.critic_ids(critic.name))
    if unit_name(critic.id, shard) in base.requeued:
        is_retry = True
    if not is_retry and not _may_overlap(base.shards, ids, shard, critic.id):
        return 0
    result = store.sql(
        "SELECT coalesce(max(generation), -1) + 1 AS generation FROM critiques_all "
        "JOIN documents USING (doc_id) WHERE critic = ? AND documents.shard = ?",
        at=base.version,
        parameters=[critic.name, shard.path],
    ).arrow()
    return int(result["generation"][0].as_py())


def _refuse_overlap(shard: ShardInfo, critic: CriticInfo) -> Callable[[Entry], None]:
    def check(newer: Entry) -> None:
        ids = {c.id for c in newer.critics if c.name == critic.name} | {critic.id}
        families = [s for s in newer.shards_add if s.family.startswith(f"critique/{critic.name}-")]
        ids |= {s.family.removeprefix("critique/") for s in families}
        if _may_overlap(tuple(newer.shards_add), ids, shard, critic.id):
            raise _Superseded(f"version {newer.version} has critiques by {critic.name}")

    return check
