"""The composition of a train run: its tokens and losses by selection, feedback and score."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ixt_data.mix import Ints, MixPlan, regimes_of, samples_of
from ixt_train.evaluation import UNSCORED, bucket_names
from ixt_train.trainer.objective import LanguageModel
from ixt_train.trainer.step_sums import StepSums

_NO_FEEDBACK, _SEVERAL = "none", "several"


class SampleGroups:
    """The groups of a plan's samples: a selection, a kind of feedback, and a bucket of scores.

    Attributes:
        names: per dimension the values; a group is one of each.
    """

    def __init__(self, plan: MixPlan, edges: Sequence[float]) -> None:
        """Number the groups from 1; 0 is padding.

        Args:
            plan: the plan.
            edges: the edges of the score buckets, ascending; the last one includes its upper edge.
        """
        selections = [part.name for part in plan.selections]
        kinds = [condition.kind for condition in plan.conditions]
        if plan.drawn_for is not None:
            selections = [part.name for part in plan.mix.selections] + [_SEVERAL]
        self.names = {
            "selection": selections,
            "feedback": list(dict.fromkeys([*kinds, _NO_FEEDBACK])),
            "score": [*bucket_names(edges), UNSCORED],
        }
        self._drawn_for, self._edges = plan.drawn_for, np.asarray(edges)
        self._kind_of_phase = np.array([self.names["feedback"].index(kind) for kind in kinds])

    def __len__(self) -> int:
        """Return the number of groups and padding."""
        return 1 + prod(map(len, self.names.values()))

    def __call__(
        self, draws: Ints, scores: npt.NDArray[np.float32], has_feedback: npt.NDArray[np.bool_]
    ) -> Ints:
        """Return the group of each draw, int64[draws]; see `MixStream`."""
        selections = np.zeros(len(draws), np.int64)
        if self._drawn_for is not None:
            selections = self._drawn_for[samples_of(draws)].astype(np.int64) - 1
        n_kinds, n_buckets = len(self.names["feedback"]), len(self.names["score"])
        none = self.names["feedback"].index(_NO_FEEDBACK)
        kinds = np.where(has_feedback, self._kind_of_phase[regimes_of(draws)[0]], none)
        buckets = np.searchsorted(self._edges, scores, "right") - 1
        # The last bucket includes its upper edge; NaN sorts behind it.
        buckets = np.clip(buckets, 0, n_buckets - 2)
        buckets[np.isnan(scores)] = n_buckets - 1
        numbers: Ints = 1 + (selections * n_kinds + kinds) * n_buckets + buckets
        return numbers

    def totals(self, values: npt.NDArray[np.float64]) -> dict[str, dict[str, float]]:
        """Return sums over groups by dimension and name.

        Args:
            values: one value per group and for padding, float64[groups + 1].
        """
        cube = values[1:].reshape([len(names) for names in self.names.values()])
        return {
            dimension: dict(zip(names, _sum_others(cube, axis).tolist(), strict=True))
            for axis, (dimension, names) in enumerate(self.names.items())
        }


def _sum_others(cube: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    totals: npt.NDArray[np.float64] = cube.sum(tuple(i for i in range(cube.ndim) if i != axis))
    return totals


class CompositionCallback(StepSums):
    """A counter of tokens and losses by group, over all ranks, between two rows of metrics."""

    def __init__(self, groups: SampleGroups, model: LanguageModel) -> None:
        """Start to count.

        Args:
            groups: the groups of the samples.
            model: the model, which has the losses of the latest micro-batch.
        """
        super().__init__((3, len(groups)))
        self._groups, self._model = groups, model

    def count(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return tokens, weighted losses and loss weights of a micro-batch by group."""
        losses, weights = self._model.token_losses, self._model.token_weights
        groups = batch["groups"].long()
        counted = losses.new_zeros(3, len(self._groups), dtype=torch.float64)
        tokens = batch["attention_mask"].double()
        counted[0].index_add_(0, groups.flatten(), tokens.flatten())
        counted[1].index_add_(0, groups[:, 1:].flatten(), losses.double().flatten())
        counted[2].index_add_(0, groups[:, 1:].flatten(), weights.double().flatten())
        return counted

    def measure(self) -> dict[str, Any]:
        """Return `tokens`, shares, and `loss`, in nats per unit of loss weight, and start again.

        Both are by dimension and name, over all ranks. Names without tokens are left out, and
        losses of names without loss weight.
        """
        sums = self.take()
        tokens, losses, weights = (self._groups.totals(part) for part in sums.numpy())
        shares: dict[str, dict[str, float]] = {}
        means: dict[str, dict[str, float]] = {}
        for dimension, counts in tokens.items():
            total = max(sum(counts.values()), 1)
            shares[dimension] = {name: round(n / total, 4) for name, n in counts.items() if n}
            means[dimension] = {
                name: round(losses[dimension][name] / weight, 6)
                for name, weight in weights[dimension].items()
                if weight
            }
        return {"tokens": shares, "loss": means}
