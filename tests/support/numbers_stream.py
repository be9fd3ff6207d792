"""A mix over a store of numbered documents, and the draws of its stream."""

from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from ixt_data.mix import Mix, MixPlan
from ixt_data.store.store import Store
from ixt_train.stream.mix_stream import MixStream

MIX = Mix(
    critic="numbers",
    selections=[
        {"name": "high", "where": "score >= 0.8", "weight": 0.6, "max_repeats": 6},
        {"name": "rest", "where": "score < 0.8 OR score IS NULL", "weight": 0.4},
    ],
)
N = 400


def stream(store: Store, plan: MixPlan, local: Path, batch_size: int = 8, **options) -> MixStream:
    return MixStream(plan, None, store=store.root, local=local, batch_size=batch_size, **options)


def draws(ds: MixStream, workers: int = 0, epochs: int | None = None) -> list[int]:
    loader = DataLoader(ds, batch_size=ds.batch_size, num_workers=workers, collate_fn=list)
    found = []
    for _ in range(ds.plan.epochs if epochs is None else epochs):
        batches = iter(loader)
        try:
            found += [sample["draw"] for batch in batches for sample in batch]
        finally:
            # Torch would keep the workers for as long as the error's traceback is looked at.
            if workers:
                batches._shutdown_workers()
    return found


def planned(plan: MixPlan) -> list[int]:
    return np.concatenate([plan.order(epoch) for epoch in range(plan.epochs)]).tolist()
