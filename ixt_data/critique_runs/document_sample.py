"""A random sample of documents, from a bounded number of text shards."""

import random
from collections.abc import Sequence

from ixt_data.critique_runs.units import read_documents
from ixt_data.log import ShardInfo, Snapshot
from ixt_data.records import Document
from ixt_data.store import Store


def sample_documents(
    store: Store,
    snapshot: Snapshot,
    shards: Sequence[ShardInfo],
    n: int,
    *,
    max_shards: int,
    seed: int = 17,
) -> list[Document]:
    """Return documents that are chosen at random, each once, in the order of their shards.

    Args:
        store: contains the shards.
        snapshot: version of the rows.
        shards: text shards to choose from.
        n: maximum of documents.
        max_shards: maximum of shards to read; they are chosen at random.
        seed: of the choice.
    """
    dice = random.Random(seed)
    chosen = dice.sample(list(shards), min(max_shards, len(shards)))
    names = ", ".join("?" * len(chosen)) or "NULL"
    rows = store.sql(
        "SELECT min(shard) AS shard, min_by(row, shard) AS row FROM documents "
        f"WHERE shard IN ({names}) GROUP BY doc_id ORDER BY doc_id",
        at=snapshot.version,
        parameters=[shard.path for shard in chosen],
    ).fetchall()
    wanted = set(dice.sample(rows, min(n, len(rows))))
    return [
        document
        for shard in chosen
        for row, document in enumerate(read_documents(store, shard))
        if (shard.path, row) in wanted
    ]
