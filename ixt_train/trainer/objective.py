"""The model with its weighted loss for Composer, and the counting and splitting of batches."""

from collections.abc import Iterable
from typing import Any

import torch
from composer.core import DataSpec
from composer.models import ComposerModel
from torch import Tensor, nn

from ixt_train.inference import logits_of, weighted_loss
from ixt_train.stream import batch_samples, batch_tokens

Batch = dict[str, Any]
_NO_WEIGHT = 1e-9


class LanguageModel(ComposerModel):  # type: ignore[misc]
    """A causal language model under the loss sum(ce x w) / sum(w)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """Return logits, float[B, T, V]."""
        return logits_of(self.model, batch)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean weighted loss of the micro-batch, in nats per unit of weight."""
        total, weight = weighted_loss(outputs, batch["input_ids"], batch["loss_weights"])
        return total / weight.clamp_min(torch.finfo(weight.dtype).tiny)


def count_tokens(batch: Batch) -> dict[str, Any]:
    """Return a batch's tokens, and its loss weight, by which Composer scales micro-batches.

    With the weight as `loss_generating`, the gradient is that of sum(ce x w) / sum(w) over the
    complete global batch, however it is split. Composer divides by it, so that of a batch without
    a target is not quite 0; its loss is.
    """
    weight = float(batch["loss_weights"][:, 1:].sum())
    return {"total": int(batch_tokens(batch)), "loss_generating": weight or _NO_WEIGHT}


def split_batch(batch: Batch, rows: int | float) -> list[Batch]:
    """Split a batch into micro-batches of `rows` rows: only the tensors that the model reads."""
    tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
    parts = {key: torch.split(value, int(rows)) for key, value in tensors.items()}
    count = len(next(iter(parts.values())))
    return [{key: part[i] for key, part in parts.items()} for i in range(count)]


def data_spec(loader: Iterable[Batch]) -> DataSpec:
    """Wrap a loader for Composer, with source documents as samples in any packing."""
    return DataSpec(
        loader,
        split_batch=split_batch,
        get_num_samples_in_batch=batch_samples,
        get_num_tokens_in_batch=count_tokens,
    )
