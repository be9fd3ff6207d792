"""The speed of a train run: tokens per second, row fill, use of the GPU, memory."""

from typing import Any

import torch
from composer.callbacks.speed_monitor import get_gpu_flops_available
from composer.core import State

from ixt_train.inference import ModelSize


class SpeedMeter:
    """A meter of the steps between two rows of metrics, of one process.

    Model FLOPs utilization (MFU; Chowdhery et al. 2022, arXiv 2204.02311) counts the operations
    that the tokens need, without padding and repeated activations, as a share of the GPU's peak.
    """

    def __init__(self, size: ModelSize | None, separate_documents: bool) -> None:
        """Start to measure.

        Args:
            size: the size of the model; None measures no MFU.
            separate_documents: whether a token attends only to its own document.
        """
        self._size, self._separate_documents = size, separate_documents
        self._peak: float | None = None
        self._since = 0.0
        self._start()

    def _start(self) -> None:
        self._tokens = self._places = self._sequences = 0

    def add(self, batch: dict[str, Any], documents: int) -> None:
        """Count the batch of a step."""
        rows = batch["input_ids"]
        self._tokens += int(batch["row_tokens"].sum())
        self._places += rows.numel()
        self._sequences += documents if self._separate_documents else len(rows)

    def resume(self, state: State) -> None:
        """Start again from the clock of `state`."""
        self._since = state.timestamp.total_wct.total_seconds()
        self._start()

    def measure(self, state: State) -> dict[str, float]:
        """Return the speed since the last call, and start again.

        Returns:
            `tokens_per_second`, without padding, of this process; `row_fill`, the share of places
            that hold a token; on a GPU `memory_gib`, the most that tensors took at once, and `mfu`
            where the GPU's peak is known.
        """
        seconds = state.timestamp.total_wct.total_seconds() - self._since
        tokens = self._tokens
        speed = {"row_fill": round(tokens / max(self._places, 1), 4)}
        if seconds > 0:
            speed["tokens_per_second"] = round(tokens / seconds, 1)
        if torch.cuda.is_available():
            speed["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
            if self._peak is None:
                self._peak = float(get_gpu_flops_available(state))
            if self._peak and self._size is not None and seconds > 0:
                operations = tokens * self._size.per_token(tokens / max(self._sequences, 1))
                speed["mfu"] = round(operations / seconds / self._peak, 4)
        self.resume(state)
        return speed
