"""The model with its weighted loss for Composer, and the counting and splitting of batches."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from composer.core import DataSpec
from composer.models import ComposerModel
from torch import Tensor, nn

from ixt_train.inference import (
    DocumentMask,
    LossHead,
    TokenLosses,
    logits_and_router_loss,
    logits_of,
    router_loss_weight,
    row_losses,
    weighted_token_losses,
)
from ixt_train.stream import batch_samples

Batch = dict[str, Any]
_NO_WEIGHT = 1e-9


class LanguageModel(ComposerModel):  # type: ignore[misc]
    """A causal language model under the loss sum(ce x w) / sum(w).

    Attributes:
        model: the Hugging Face model.
        documents: what separates the documents of a row; see `separate_documents`.
        token_losses: the weighted loss of each token but the first of a row, of the latest
            micro-batch, float32[B, T - 1].
        token_weights: the weights of these losses.
    """

    token_losses: Tensor
    token_weights: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        cpu_bf16: bool = False,
        compiled: bool = False,
        losses: TokenLosses | None = None,
        z_loss: float = 0.0,
    ) -> None:
        """Wrap a Hugging Face model.

        Args:
            model: the model.
            cpu_bf16: use bfloat16 where torch's autocast for CPUs does; Composer has none.
            compiled: compile the loss.
            losses: computes the losses of tokens at the model's head; None takes complete logits.
            z_loss: weight of the z-loss; `losses` has its own.

        Raises:
            ConfigError: the family does not work with `losses`.
        """
        super().__init__()
        self.model, self._cpu_bf16 = model, cpu_bf16
        self.documents: DocumentMask = "positions"
        self._router_weight = router_loss_weight(model)
        self._router_loss: Tensor | float = 0.0
        self._z_loss = z_loss
        self._loss_parts = torch.compile(loss_parts) if compiled else loss_parts
        self._head = None if losses is None else LossHead(model, losses)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits, float[B, T, V]; with `losses`, in training, losses, float[B, T, 1]."""
        at_head: AbstractContextManager[None] = nullcontext()
        if self.training and self._head is not None:
            at_head = self._head.losses_for(batch["input_ids"])
        with torch.autocast("cpu", torch.bfloat16, enabled=self._cpu_bf16), at_head:
            if not (self.training and self._router_weight):
                return logits_of(self.model, batch, self.documents)
            logits, self._router_loss = logits_and_router_loss(self.model, batch, self.documents)
            return logits

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean weighted loss of the micro-batch, in nats per unit of weight.

        That of a model with experts includes its router loss.
        """
        weights = batch["loss_weights"]
        if self._head is None:
            ids = batch["input_ids"]
            total, weight, losses = self._loss_parts(outputs, ids, weights, self._z_loss)
        else:
            weights = weights[:, 1:]
            losses = outputs[:, :-1, 0] * weights
            total, weight = losses.sum(), weights.sum()
        self.token_losses, self.token_weights = losses.detach(), batch["loss_weights"][:, 1:]
        return self._mean(total, weight)

    def row_nats(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the sum of the weighted losses of each row's tokens, float32[B]."""
        if self.training and self._head is not None:
            at_head: Tensor = outputs[:, :-1, 0] * batch["loss_weights"][:, 1:]
            return at_head.sum(1)
        return row_losses(outputs, batch["input_ids"], batch["loss_weights"])[0]

    def _mean(self, total: Tensor, weight: Tensor) -> Tensor:
        """Return the mean loss, with the router loss of a model with experts."""
        router_loss, self._router_loss = self._router_weight * self._router_loss, 0.0
        return total / weight.clamp_min(torch.finfo(weight.dtype).tiny) + router_loss


def loss_parts(
    logits: Tensor, input_ids: Tensor, weights: Tensor, z_loss: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of weighted losses and of weights, and the weighted loss of each token."""
    losses, own = weighted_token_losses(logits, input_ids, weights, z_loss)
    return losses.sum(1).sum(), own.sum(1).sum(), losses


def count_rows(batch: Batch) -> Batch:
    """Add tokens and loss weight of each row as arrays, while the batch is on the CPU.

    A GPU would have to finish its work before it answers.
    """
    tokens = batch["attention_mask"].sum(1).numpy()
    weights = batch["loss_weights"][:, 1:].sum(1, dtype=torch.float64).numpy()
    return batch | {"row_tokens": tokens, "row_weights": weights}


def count_tokens(batch: Batch) -> dict[str, Any]:
    """Return a batch's tokens, and its loss weight, by which Composer scales micro-batches.

    With the weight as `loss_generating`, the gradient is that of sum(ce x w) / sum(w) over the
    complete global batch, however it is split. Composer divides by it, so that of a batch without
    a target is not quite 0; its loss is.
    """
    weight = float(batch["row_weights"].sum())
    return {"total": int(batch["row_tokens"].sum()), "loss_generating": weight or _NO_WEIGHT}


def split_batch(batch: Batch, units: int | float, rows_of_unit: int = 1) -> list[Batch]:
    """Split a batch into micro-batches: what the model reads, and the counts.

    Args:
        batch: the batch.
        units: rows of a micro-batch, or groups of `rows_of_unit` rows that stay together.
        rows_of_unit: number of rows of a group.
    """
    size, total = int(units) * rows_of_unit, len(batch["input_ids"])
    parts = {k: v for k, v in batch.items() if isinstance(v, Tensor | np.ndarray)}
    return [
        {key: part[start : start + size] for key, part in parts.items()}
        for start in range(0, total, size)
    ]


def data_spec(
    loader: Iterable[Batch],
    equalize: Callable[[Batch], Batch] | None = None,
    *,
    count: Callable[[Batch], Batch] = count_rows,
    rows_of_unit: int = 1,
) -> DataSpec:
    """Wrap a loader for Composer, with source documents as samples in any packing.

    Args:
        loader: a loader of batches of `Collator`.
        equalize: gives the batches of all ranks the same number of rows.
        count: adds the counts of rows; see `count_rows`.
        rows_of_unit: number of rows that stay together in a micro-batch.
    """

    def transform(batch: Batch) -> Batch:
        return count(batch if equalize is None else equalize(batch))

    return DataSpec(
        loader,
        batch_transforms=transform,
        split_batch=partial(split_batch, rows_of_unit=rows_of_unit),
        get_num_samples_in_batch=batch_samples,
        get_num_tokens_in_batch=count_tokens,
    )
