"""Sums over the micro-batches and ranks of a train run, between two rows of metrics."""

from abc import abstractmethod
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist


class StepSums(Callback):  # type: ignore[misc]
    """A counter of complete steps; a checkpoint has what no row of metrics has yet."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Start to count.

        Args:
            shape: shape of the sums.
        """
        self._done = torch.zeros(shape, dtype=torch.float64)
        self._step: list[torch.Tensor] = []

    @abstractmethod
    def count(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return the sums of a micro-batch after its loss, float64."""

    def before_train_batch(self, state: State, logger: Logger) -> None:
        """Forget the step before, or one that is repeated in smaller micro-batches."""
        self._step = []

    def after_loss(self, state: State, logger: Logger) -> None:
        """Count a micro-batch."""
        self._step.append(self.count(state.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        """Add the micro-batches of the step."""
        for counted in self._step:
            self._done = self._done.to(counted.device) + counted
        self._step = []

    def _over_ranks(self) -> torch.Tensor:
        sums = self._done.clone()
        if dist.get_world_size() > 1:
            dist.all_reduce(sums, reduce_operation="SUM")
        return sums.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return the sums since the last row of metrics, over all ranks."""
        return {"done": self._over_ranks()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned; the first rank counts it."""
        done = state["done"].to(torch.float64)
        self._done = done if dist.get_global_rank() == 0 else torch.zeros_like(done)

    def take(self) -> torch.Tensor:
        """Return the sums over all ranks, and start again; all ranks call this together."""
        sums = self._over_ranks()
        self._done = torch.zeros_like(sums)
        return sums
