"""Cost estimates of critique runs: critiques of a sample that are not stored."""

import time
from collections.abc import Callable
from typing import Any

from ixt_data.critics import COST, VllmCritic, critic_id
from ixt_data.critique_runs.annotation import pending_shards
from ixt_data.critique_runs.document_sample import sample_documents
from ixt_data.critique_runs.pending_work import find_pending_work
from ixt_data.log import CriticInfo
from ixt_data.records import OK
from ixt_data.store import Store

SAMPLE_DOCUMENTS = 64
"""Documents in the sample: a few rounds of a small server."""

SAMPLE_SHARDS = 4
"""Text shards that the sample is from."""


def estimate_cost(
    store: Store,
    corpus: str,
    critic: VllmCritic,
    gpus: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Estimate the cost of critiquing the pending documents of a corpus.

    The rate is that of a sample, requested as the critique run requests it. So few documents do not
    saturate a server that handles hundreds concurrently, so the hours are an upper bound.

    Args:
        store: contains the corpus.
        corpus: its name.
        critic: the judge.
        gpus: GPUs of the judge's servers, for GPU-hours.
        progress: called after each document with the number of finished ones.

    Returns:
        `critic`, `previous_critic`, `changed_keys`, `documents`, `sampled`, `sampled_ok`,
        `tokens_in`, `tokens_out`, `thinking_tokens`, `cost` (None without prices),
        `documents_per_second`, `hours`, `gpu_hours`.

    Raises:
        StoreError: the corpus does not exist.
        CriticError: see `VllmCritic.run`.
    """
    snapshot = store.snapshot()
    snapshot.check_corpora([corpus], store.root)
    info = CriticInfo(critic_id(critic), critic.name, critic.config())
    shards = pending_shards(snapshot, corpus, info.id)
    pending = find_pending_work(snapshot, shards, info)
    remaining = pending.documents
    sample = sample_documents(store, snapshot, shards, SAMPLE_DOCUMENTS, max_shards=SAMPLE_SHARDS)
    before, start, n_ok = critic.usage.copy(), time.monotonic(), 0
    for done, critique in enumerate(critic.run(sample), 1):
        n_ok += critique.status == OK
        progress(done)
    seconds = time.monotonic() - start
    usage = critic.usage - before
    share = remaining / len(sample) if sample else 0.0
    hours = seconds * share / 3600
    return {
        "critic": info.id,
        "previous_critic": pending.previous_critic,
        "changed_keys": list(pending.changed_keys),
        "documents": remaining,
        "sampled": len(sample),
        "sampled_ok": n_ok,
        "tokens_in": round(usage["tokens_in"] * share),
        "tokens_out": round(usage["tokens_out"] * share),
        "thinking_tokens": round(usage["thinking_tokens"] * share),
        "cost": round(usage[COST] * share / 1e6, 6) if usage[COST] else None,
        "documents_per_second": round(len(sample) / seconds, 3) if sample else 0.0,
        "hours": round(hours, 4),
        "gpu_hours": round(hours * gpus, 4),
    }
