"""The model under a loss of pairs: a better and a worse answer, against the initial weights."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ixt_train.config import PreferenceConfig
from ixt_train.inference import without_adapters
from ixt_train.trainer.objective import Batch, LanguageModel, count_rows

PAIR_SUMS = ("pairs", "loss", "accuracy", "margin", "better_reward", "worse_reward")
"""The sums of `PreferenceModel.pair_sums`, in order."""


def preference_losses(better: Tensor, worse: Tensor, config: PreferenceConfig) -> Tensor:
    """Return the loss of each pair, float32[P]; `PreferenceConfig.loss` has the sources.

    Args:
        better: logarithm of the better answer's probability over its probability by the initial
            weights, float32[P]; for `ipo`, its mean per token.
        worse: likewise of the worse answer.
        config: the kind of loss, and its scale.
    """
    difference, beta = better - worse, config.beta
    if config.loss == "ipo":
        return (difference - 1 / (2 * beta)).square()
    losses = -functional.logsigmoid(beta * difference)
    if config.loss == "robust":
        share = config.label_smoothing
        flipped = -functional.logsigmoid(-beta * difference)
        losses = ((1 - share) * losses - share * flipped) / (1 - 2 * share)
    return losses


class PreferenceModel(LanguageModel):
    """A causal language model under the mean of `preference_losses` over pairs.

    The rows of a batch are those of `PairCollator`.

    Attributes:
        pair_sums: of the latest micro-batch, float64[PAIR_SUMS].
    """

    pair_sums: Tensor

    def __init__(
        self,
        model: Any,
        config: PreferenceConfig,
        initial: LanguageModel | None,
        **options: Any,
    ) -> None:
        """Wrap a Hugging Face model.

        Args:
            model: the model.
            config: the loss.
            initial: the model with the initial weights; None for a model with adapters, whose
                other weights do not change.
            options: see `LanguageModel`.
        """
        super().__init__(model, **options)
        if initial is not None:
            initial.model.eval().requires_grad_(False)
        # In a tuple: it belongs neither to the checkpoint nor to the optimizer.
        self._config, self._initial = config, (initial,)
        self._initial_nats: Tensor | None = None

    def forward(self, batch: Batch) -> Tensor:
        """Return what `LanguageModel.forward` does, and keep the answers' initial nats."""
        self._initial_nats = self._nats_of_initial(batch)
        return super().forward(batch)

    @torch.no_grad()
    def _nats_of_initial(self, batch: Batch) -> Tensor:
        (initial,) = self._initial
        if initial is not None:
            initial.to(batch["input_ids"].device)
            # Only the mode of the inner model decides dropout; this one is for losses at the head.
            initial.train(self.training)
            initial.model.eval()
            return initial.row_nats(initial(batch), batch)
        self.model.eval()
        try:
            with without_adapters(self.model):
                return self.row_nats(super().forward(batch), batch)
        finally:
            self.model.train(self.training)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of the pairs of the micro-batch; a rejected pair has none.

        That of a model with experts includes its router loss.
        """
        losses, has_loss = self._compare(outputs, batch)
        total, pairs = losses.sum(), has_loss.sum()
        # At the first token that the loss of a better row can be at: one value per pair.
        self.token_losses, self.token_weights = (
            torch.zeros_like(batch["loss_weights"][:, 1:]) for _ in range(2)
        )
        self.token_losses[::2, 0], self.token_weights[::2, 0] = losses.detach(), has_loss
        return self._mean(total, pairs)

    def _compare(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of each pair, 0 if it is rejected, and 1 for those with a loss."""
        assert self._initial_nats is not None
        gains = self._initial_nats - self.row_nats(outputs, batch)
        tokens = batch["loss_weights"][:, 1:].sum(1)
        has_loss = (tokens > 0).view(-1, 2).all(1).to(gains.dtype)
        per_unit = gains / tokens.clamp_min(1) if self._config.loss == "ipo" else gains
        losses = preference_losses(per_unit[::2], per_unit[1::2], self._config) * has_loss
        rewards = (self._config.beta * gains.detach()).view(-1, 2) * has_loss[:, None]
        margins = rewards[:, 0] - rewards[:, 1]
        values = (has_loss, losses.detach(), margins > 0, margins, rewards[:, 0], rewards[:, 1])
        self.pair_sums = torch.stack([value.double().sum() for value in values])
        return losses, has_loss

    @torch.no_grad()
    def measure_pairs(self, batch: Batch) -> Tensor:
        """Return the `pair_sums` of a batch."""
        self._compare(self(batch), batch)
        return self.pair_sums


def count_pairs(batch: Batch) -> Batch:
    """Add what `count_rows` does; the loss weight of a pair is 1, that of its better row."""
    batch = count_rows(batch)
    has_loss = (batch["row_weights"].reshape(-1, 2) > 0).all(1)
    weights = batch["row_weights"] * 0
    weights[::2] = has_loss
    return batch | {"row_weights": weights}
