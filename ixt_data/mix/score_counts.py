"""Scores of a plan: documents and draws in each bin of a critic's scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.mix.plan import MixPlan
from ixt_data.sql import SCORE_STEP, SCORE_STEPS, join_clause
from ixt_data.store import Store


@dataclass(frozen=True, slots=True)
class DrawnScores:
    """Counts by bin of the score, 0 to 10; see `ixt_data.sql.SCORE_STEPS`.

    Attributes:
        documents: scored documents of the mix's corpora.
        draws: draws of the plan.
    """

    documents: Mapping[int, int]
    draws: Mapping[int, int]


def drawn_scores(store: Store, plan: MixPlan, critic: str) -> DrawnScores:
    """Return how many documents have each score, and how many draws.

    Args:
        store: the store of the plan.
        plan: the plan.
        critic: name or id of the critic, or an order such as `human,quality`.
    """
    snapshot = store.snapshot(plan.version)
    shards = snapshot.text_shards(plan.mix.corpus)
    starts = np.cumsum([0] + [shard.samples for shard in shards])
    places = dict(zip((shard.path for shard in shards), starts.tolist(), strict=False))
    draws = np.zeros(int(starts[-1]), np.int64)
    counts = np.sum([order.counts for order in plan.orders], axis=0, dtype=np.int64)
    begin = 0
    for shard, _ in plan.shards:
        own = draws[places[shard.path] :][: shard.samples]
        own += counts[begin : begin + shard.samples]
        begin += shard.samples
    bins = np.full(len(draws), -1, np.int8)
    sql = (
        f"SELECT start + row AS place, {SCORE_STEP} AS step FROM ("
        f"SELECT documents.shard AS shard, documents.row AS row, score "
        f"{join_clause(snapshot, critic)} WHERE score IS NOT NULL AND status = 'ok') "
        "JOIN (SELECT unnest($1::VARCHAR[]) AS shard, unnest($2::BIGINT[]) AS start) USING (shard)"
    )
    catalog = store.catalog(snapshot.version)
    try:
        for batch in catalog.batches(sql, [list(places), list(places.values())]):
            at = batch.column("place").to_numpy(zero_copy_only=False)
            bins[at] = batch.column("step").to_numpy(zero_copy_only=False)
    finally:
        catalog.close()
    is_scored = bins >= 0
    return DrawnScores(
        _by_bin(np.bincount(bins[is_scored], minlength=SCORE_STEPS)),
        _by_bin(np.bincount(bins[is_scored], draws[is_scored], SCORE_STEPS)),
    )


def _by_bin(counts: npt.NDArray[Any]) -> dict[int, int]:
    return {step: int(n) for step, n in enumerate(counts)}
