"""Measurements of pairs: while training, and on held-out pairs."""

from collections.abc import Sequence
from typing import Any

import torch

from ixt_train.conditioning import PairConditioner
from ixt_train.evaluation import HeldOut
from ixt_train.stream import PairCollator, World, gather_from_all_ranks, is_distributed
from ixt_train.trainer.preference_model import PAIR_SUMS, PreferenceModel
from ixt_train.trainer.step_sums import StepSums

_PAIRS_AT_ONCE = 16


def pair_means(sums: torch.Tensor) -> dict[str, float | int | None]:
    """Return the number of pairs, and their means, from the sums `PAIR_SUMS`.

    `loss`; `accuracy`, the share of pairs whose better answer has the higher reward; `margin`,
    `better_reward` and `worse_reward`, see `PreferenceConfig`. Without a pair they are None.
    """
    pairs, *totals = sums.tolist()
    means = [round(total / pairs, 6) if pairs else None for total in totals]
    return {"pairs": round(pairs), **dict(zip(PAIR_SUMS[1:], means, strict=True))}


class PairCallback(StepSums):
    """A counter of rewards, over all ranks, between two rows of metrics."""

    def __init__(self, model: PreferenceModel) -> None:
        """Start to count.

        Args:
            model: the model, which has the sums of the latest micro-batch.
        """
        super().__init__((len(PAIR_SUMS),))
        self._model = model

    def count(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return the sums of a micro-batch."""
        return self._model.pair_sums

    def measure(self) -> dict[str, float | int | None]:
        """Return `pair_means` since the last call; all ranks call this together."""
        return pair_means(self.take())


class HeldOutPairs:
    """A repeated measurement of a model on the same held-out pairs, tokenized once.

    Attributes:
        rejected: number of held-out pairs that the chat template rejects, or whose answers do not
            fit. They are left out.
    """

    def __init__(self, conditioner: PairConditioner, documents: Sequence[HeldOut]) -> None:
        """Tokenize pairs.

        Args:
            conditioner: the conditioner of training.
            documents: their better conversations.
        """
        encoded = [conditioner.encode_or_reject(one.text) for one in documents]
        self.rejected = sum(bool(pair.rejected) for pair in encoded)
        self._samples: list[dict[str, Any]] = [
            {
                "input_ids": pair.input_ids,
                "loss_weights": pair.loss_weights,
                "worse_from": pair.worse_from,
                "doc_id": one.doc_id,
            }
            for pair, one in zip(encoded, documents, strict=True)
            if not pair.rejected
        ]
        # Pairs of similar length share a batch, to keep padding small.
        self._samples.sort(key=lambda sample: len(sample["input_ids"]))
        self._collate = PairCollator(conditioner.tokenizer.pad_token_id, conditioner.max_length)

    def measure(self, model: PreferenceModel) -> dict[str, float | int | None]:
        """Return `pair_means` of a model in evaluation mode; all ranks call this together."""
        world = World.detect() if is_distributed() else World()
        device = next(model.parameters()).device
        sums = torch.zeros(len(PAIR_SUMS), dtype=torch.float64)
        starts = range(0, len(self._samples), _PAIRS_AT_ONCE)
        for start in starts[world.rank :: world.size]:
            batch = self._collate(self._samples[start : start + _PAIRS_AT_ONCE])
            tensors = {k: v.to(device) for k, v in batch.items() if isinstance(v, torch.Tensor)}
            sums += model.measure_pairs(tensors).cpu()
        return pair_means(torch.stack(gather_from_all_ranks(sums)).sum(0))
