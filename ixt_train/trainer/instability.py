"""Steps whose loss is not finite or far above the losses before it."""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from ixt_data.console import Output
from ixt_data.errors import TrainingError
from ixt_train.config import InstabilityConfig
from ixt_train.runs import Rewind

_WINDOW, _FEWEST = 128, 16
_LEAST_SPREAD = 1e-3
"""The least standard deviation of losses, as a share of their mean."""


class UnstableStep(Exception):
    """A step after which the train run resumes from its last checkpoint.

    Attributes:
        step: its number.
        problem: what is wrong.
    """

    def __init__(self, step: int, problem: str) -> None:
        super().__init__(f"step {step}: {problem}")
        self.step, self.problem = step, problem


class InstabilityCallback(Callback):  # type: ignore[misc]
    """A callback that skips the update of unstable steps, or ends the train run.

    It looks at the loss over all ranks after the backward pass, before the optimizer.
    """

    def __init__(
        self, config: InstabilityConfig, out: Output | None, rewinds: Sequence[Rewind] = ()
    ) -> None:
        self._config, self._out, self._rewinds = config, out, rewinds
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._skipped = self._in_a_row = 0
        self._total: torch.Tensor | float = 0.0
        self._weight = 0.0

    def before_train_batch(self, state: State, logger: Logger) -> None:
        """Forget the step before, or one that is repeated in smaller micro-batches."""
        self._total, self._weight = 0.0, 0.0

    def after_loss(self, state: State, logger: Logger) -> None:
        """Add the loss of a micro-batch."""
        weight = float(state.batch["row_weights"].sum())
        self._total = self._total + state.loss.detach().double() * weight
        self._weight += weight

    def after_train_batch(self, state: State, logger: Logger) -> None:
        """Check the loss of the step, and drop its gradients if it is unstable.

        Raises:
            TrainingError: the loss is not finite and `non_finite` is stop, too many steps in a row
                were skipped, or there were too many rewinds.
            UnstableStep: the train run has to resume from its last checkpoint.
        """
        loss = self._loss()
        if loss is None:
            return
        step = int(state.timestamp.batch) + 1
        if any(rewind.first_dropped <= step <= rewind.step for rewind in self._rewinds):
            self._drop(state, logger, f"step {step} dropped after a rewind")
            return
        problem = self._problem(loss)
        if problem is None:
            self._losses.append(loss)
            self._in_a_row = 0
            return
        if not math.isfinite(loss) and self._config.non_finite == "stop":
            raise TrainingError(
                f"step {step}: {problem}. The last checkpoint is from before: resume with "
                "instability.non_finite=skip to drop such updates, or start again with a lower "
                "optimizer.lr"
            )
        if self._config.rewind is not None:
            if len(self._rewinds) >= self._config.max_skipped:
                raise TrainingError(
                    f"step {step}: {problem}, after {len(self._rewinds)} rewinds "
                    "(instability.max_skipped). Start again with a lower optimizer.lr"
                )
            raise UnstableStep(step, problem)
        self._in_a_row += 1
        if self._in_a_row > self._config.max_skipped:
            raise TrainingError(
                f"step {step}: {problem}, and the {self._config.max_skipped} steps before were "
                "skipped (instability.max_skipped). Start again with a lower optimizer.lr"
            )
        self._drop(state, logger, f"step {step} skipped: {problem}")

    def _drop(self, state: State, logger: Logger, message: str) -> None:
        self._skipped += 1
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if self._out is not None:
            self._out.note(message)
        logger.log_metrics({"instability/skipped": self._skipped})

    def _loss(self) -> float | None:
        """Return the loss of the batch over all ranks; None if no token of it has a loss."""
        assert isinstance(self._total, torch.Tensor)
        sums = torch.stack([self._total, torch.full_like(self._total, self._weight)])
        if dist.get_world_size() > 1:
            dist.all_reduce(sums, reduce_operation="SUM")
        total, weight = sums.tolist()
        return total / weight if weight else None

    def _problem(self, loss: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if self._config.spike is None or len(self._losses) < _FEWEST:
            return None
        mean, spread = statistics.fmean(self._losses), statistics.stdev(self._losses)
        # Equal losses have no spread but that of rounding.
        spread = max(spread, _LEAST_SPREAD * abs(mean))
        if loss <= mean + self._config.spike * spread:
            return None
        if not spread:
            return f"the loss is {loss:.4f}, after {len(self._losses)} steps with a loss of 0"
        return (
            f"the loss is {loss:.4f}, {(loss - mean) / spread:.1f} standard deviations above the "
            f"mean of {len(self._losses)} steps, {mean:.4f}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the losses of the window and the number of skipped steps."""
        return {"losses": list(self._losses), "skipped": self._skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._losses.extend(state["losses"])
        self._skipped = int(state["skipped"])
