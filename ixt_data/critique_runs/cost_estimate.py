"""What a critique run would cost, by critiquing a sample of it and storing nothing."""

import random
import time
from collections.abc import Callable
from typing import Any

from ixt_data.critics import VllmCritic, critic_id
from ixt_data.critique_runs.annotation import pending
from ixt_data.critique_runs.pending_work import pending_work
from ixt_data.critique_runs.units import read_documents
from ixt_data.errors import StoreError
from ixt_data.log import CriticInfo
from ixt_data.records import OK, Document
from ixt_data.store import Store

SAMPLE = 64
"""Documents that are judged: a few rounds of a small server."""

SHARDS = 4
"""Text shards that they are taken from."""


def estimate(
    store: Store,
    corpus: str,
    critic: VllmCritic,
    gpus: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Documents, tokens, hours and GPU-hours that are left to do.

    The rate is that of a sample asked as the critique run would ask; with so few documents a
    server that takes hundreds at once is not full, so that hours are an upper bound.

    Raises:
        StoreError: there is no such corpus.
        CriticError: see `VllmCritic.run`.
    """
    snapshot = store.snapshot()
    if corpus not in snapshot.corpora:
        known = ", ".join(snapshot.corpora) or "none"
        raise StoreError(f"no corpus {corpus!r} in {store.root}; corpora: {known}")
    info = CriticInfo(critic_id(critic), critic.name, critic.config())
    shards = pending(snapshot, corpus, info.id)
    todo = pending_work(snapshot, shards, info)
    left = todo.documents
    sample = _sample(store, shards)
    before, start, ok = critic.spent.copy(), time.monotonic(), 0
    for done, critique in enumerate(critic.run(sample), 1):
        ok += critique.status == OK
        progress(done)
    seconds = time.monotonic() - start
    spent = critic.spent - before
    share = left / len(sample) if sample else 0.0
    hours = seconds * share / 3600
    return {
        "critic": info.id,
        "replaces": todo.before,
        "changed": list(todo.changed),
        "documents": left,
        "sampled": len(sample),
        "sampled_ok": ok,
        "tokens_in": round(spent["tokens_in"] * share),
        "tokens_out": round(spent["tokens_out"] * share),
        "thinking_tokens": round(spent["thinking_tokens"] * share),
        "documents_per_second": round(len(sample) / seconds, 3) if sample else 0.0,
        "hours": round(hours, 4),
        "gpu_hours": round(hours * gpus, 4),
    }


def _sample(store: Store, shards: list[Any]) -> list[Document]:
    dice = random.Random(17)
    chosen = dice.sample(shards, min(SHARDS, len(shards)))
    found: list[Document] = []
    for shard in chosen:
        documents = list(read_documents(store, shard))
        found += dice.sample(documents, min(SAMPLE // len(chosen), len(documents)))
    return found
