"""One unit of a critique run: a text shard read, its critiques published in one commit."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from ixt_data.errors import CommitError, UnitAlreadyPublished
from ixt_data.log import CriticInfo, Entry, ShardInfo, Snapshot
from ixt_data.mds import CRITIQUE_COLUMNS, THINKING_COLUMNS
from ixt_data.records import Critique, Document
from ixt_data.store import Store, Transaction

ORPHAN = "orphan"
"""Status of a placeholder for a sample that is no document; it has no row."""


class _Superseded(CommitError):
    """Critiques of perhaps the same documents landed meanwhile: their order must be set anew."""


def unit_name(critic: str, shard: ShardInfo) -> str:
    """The name of one unit of work."""
    return f"critique/{critic}:{shard.path}"


def read_documents(store: Store, shard: ShardInfo) -> Iterator[Document]:
    """The documents of a text shard, in order."""
    for row in store.shard(shard).rows():
        yield Document(row["doc_id"], row["text"], row["source"], row["source_id"])


def home_rows(store: Store, snapshot: Snapshot, shard: ShardInfo) -> set[int] | None:
    """The rows of a text shard that are documents, None if all are."""
    if not shard.orphans:
        return None
    sql = "SELECT row FROM documents WHERE shard = ?"
    found = store.sql(sql, at=snapshot.version, parameters=[shard.path])
    return set(found["row"].to_pylist())


def aligned(
    samples: list[Document], home: set[int] | None, critiques: list[Critique]
) -> list[Critique]:
    """One critique a sample: those of the documents, and a placeholder for each orphan."""
    if home is None:
        return critiques
    made = iter(critiques)
    return [
        next(made) if row in home else Critique(sample.doc_id, ORPHAN)
        for row, sample in enumerate(samples)
    ]


def publish(
    store: Store,
    shard: ShardInfo,
    critic: CriticInfo,
    critiques: list[Critique],
    replaces: str | None = None,
    **summary: Any,
) -> int:
    """Commits one unit: the critiques of all documents of a text shard, in its order.

    Args:
        store: where.
        shard: the text shard.
        critic: whose critiques.
        critiques: one a sample.
        replaces: the transaction that published this unit before, if it is done again.
        summary: figures for people, kept in the log entry beside the statuses.

    Raises:
        AlreadyDone: another worker published it first.
    """
    while True:
        with store.begin("critique", unit=unit_name(critic.id, shard)) as txn:
            if txn.base.units.get(txn.entry.unit or "") != replaces:
                raise UnitAlreadyPublished(f"{txn.entry.unit} is published")
            if replaces is not None:
                txn.entry.shards_remove = [old.path for old in published(txn.base, shard, critic)]
            txn.add_critic(critic)
            written = _write_shards(txn, shard, critic, critiques)
            again = replaces is not None
            number = generation(store, txn.base, shard, critic, again=again)
            _write_rows(txn, written, critic, critiques, number)
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
    # Names the file after the text shard's, for people; adopted ones may have any name.
    number = int((re.findall(r"\d+", PurePosixPath(shard.path).name) or ["0"])[0][:9])
    family = txn.family(f"critique/{critic.id}", shard.corpus, CRITIQUE_COLUMNS, first=number)
    for critique in critiques:
        family.write(critique_sample(critique))
    if any(critique.thinking is not None for critique in critiques):
        thinking = txn.family(f"thinking/{critic.id}", shard.corpus, THINKING_COLUMNS, first=number)
        for critique in critiques:
            thinking.write({"doc_id": critique.doc_id, "thinking": critique.thinking or ""})
        thinking.cut(aligned_with=shard.path)
    return family.cut(aligned_with=shard.path)


def critique_sample(critique: Critique) -> dict[str, object]:
    """The record of the critique family; a critique that failed is a placeholder with a status."""
    return {
        "doc_id": critique.doc_id,
        "status": critique.status,
        "critique": critique.critique,
        "score": math.nan if critique.score is None else critique.score,
        "scores": dict(critique.scores),
        "spans": [span.to_json() for span in critique.spans],
    }


def _write_rows(
    txn: Transaction,
    shard: ShardInfo,
    critic: CriticInfo,
    critiques: list[Critique],
    generation: int,
) -> None:
    import pyarrow as pa

    # A document that landed twice in one shard has two samples and one row.
    homes = [(i, c) for i, c in enumerate(critiques) if c.status != ORPHAN]
    rows = list({c.doc_id: (i, c) for i, c in reversed(homes)}.values())
    rows.sort(key=lambda row: row[0])
    n, all_of = len(rows), [critique for _, critique in rows]
    doc_ids = pa.array([c.doc_id for c in all_of], pa.binary(16))
    columns = {
        "doc_id": pa.ExtensionArray.from_storage(pa.uuid(), doc_ids),
        "critic": pa.array([critic.name] * n, pa.string()),
        "critic_id": pa.array([critic.id] * n, pa.string()),
        "status": pa.array([c.status for c in all_of], pa.string()),
        "score": pa.array([c.score for c in all_of], pa.float64()),
        "scores": pa.array(
            [list(c.scores.items()) for c in all_of], pa.map_(pa.string(), pa.float64())
        ),
        "expected": pa.array([c.expected for c in all_of], pa.float64()),
        "entropy": pa.array([c.entropy for c in all_of], pa.float64()),
        "critique": pa.array([c.critique for c in all_of], pa.string()),
        "n_thinking_tokens": pa.array([c.n_thinking_tokens for c in all_of], pa.int64()),
        "flags": pa.array([list(c.flags) for c in all_of], pa.list_(pa.string())),
        "n_spans": pa.array([len(c.spans) for c in all_of], pa.int32()),
        "error": pa.array([c.error for c in all_of], pa.string()),
        "attempts": pa.array([c.attempts for c in all_of], pa.int32()),
        "shard": pa.array([shard.path] * n, pa.string()),
        "row": pa.array([i for i, _ in rows], pa.int32()),
    }
    txn.add_rows("critiques", critic.id, pa.table(columns), generation)


def _others(shards: tuple[ShardInfo, ...], ids: set[str], shard: ShardInfo, own: str) -> bool:
    """Whether some shards may hold critiques, by the same name, of the same documents."""
    families = {f"critique/{critic}" for critic in ids}
    mine = (f"critique/{own}", shard.corpus)
    return any(s.family in families and (s.family, s.corpus) != mine for s in shards)


def published(snapshot: Snapshot, shard: ShardInfo, critic: CriticInfo) -> list[ShardInfo]:
    """The shards that hold a critic's critiques and thinking of a text shard."""
    families = (f"critique/{critic.id}", f"thinking/{critic.id}")
    found = (snapshot.aligned(shard.path, family) for family in families)
    return [info for info in found if info is not None]


def generation(
    store: Store, base: Snapshot, shard: ShardInfo, critic: CriticInfo, *, again: bool = False
) -> int:
    """One above the highest generation of critiques by this name of this shard's documents."""
    ids = set(base.critic_ids(critic.name))
    if unit_name(critic.id, shard) in base.requeued:
        again = True
    if not again and not _others(base.shards, ids, shard, critic.id):
        return 0
    found = store.sql(
        "SELECT coalesce(max(generation), -1) + 1 AS generation FROM critiques_all "
        "JOIN documents USING (doc_id) WHERE critic = ? AND documents.shard = ?",
        at=base.version,
        parameters=[critic.name, shard.path],
    )
    return int(found["generation"][0].as_py())


def _refuse_overlap(shard: ShardInfo, critic: CriticInfo) -> Callable[[Entry], None]:
    def check(newer: Entry) -> None:
        ids = {c.id for c in newer.critics if c.name == critic.name} | {critic.id}
        families = [s for s in newer.shards_add if s.family.startswith(f"critique/{critic.name}-")]
        ids |= {s.family.removeprefix("critique/") for s in families}
        if _others(tuple(newer.shards_add), ids, shard, critic.id):
            raise _Superseded(f"critiques by {critic.name} landed in version {newer.version}")

    return check
