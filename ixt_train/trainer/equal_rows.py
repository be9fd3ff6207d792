"""Batches with the same number of rows on all ranks, which sharded models need."""

from typing import Any

import torch
from torch import distributed

from ixt_train.stream import IGNORED, host_group

Batch = dict[str, Any]


class RowPadding:
    """A transform that adds rows of padding, up to the largest number of rows of any rank.

    Packing gives each rank its own number of rows. Ranks of a sharded model exchange weights in
    each forward pass, and wait forever for a rank that has one pass less. Padding has no loss.
    """

    def __init__(self, pad_id: int) -> None:
        """Set the token of padding, on all ranks together."""
        self._pad_id = pad_id
        self._group = host_group()

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with as many rows as the largest one; all ranks call this together."""
        if self._group is None:
            return batch
        rows = torch.tensor(len(batch["input_ids"]))
        distributed.all_reduce(rows, distributed.ReduceOp.MAX, group=self._group)
        return pad_rows(batch, int(rows), self._pad_id)


def pad_rows(batch: Batch, rows: int, pad_id: int) -> Batch:
    """Return a batch of `Collator` with rows of padding at its end, `rows` in total."""
    missing = rows - len(batch["input_ids"])
    if not missing:
        return batch
    filling = {"input_ids": pad_id, "labels": IGNORED}
    padded = {
        key: torch.cat([value, value.new_full((missing, value.shape[1]), filling.get(key, 0))])
        for key, value in batch.items()
        if isinstance(value, torch.Tensor)
    }
    per_row: dict[str, list[Any]] = {"doc_ids": [b""] * missing, "rejected": [[]] * missing}
    return batch | padded | {key: [*batch[key], *more] for key, more in per_row.items()}
