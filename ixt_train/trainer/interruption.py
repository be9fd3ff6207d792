"""The end of a train run by a signal, as schedulers send it before they take a machine away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class InterruptionCallback(Callback):  # type: ignore[misc]
    """A callback that ends the train run after the step in which a signal came.

    All ranks agree on the step, so the checkpoint of that step is complete. A second signal ends
    the process at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """Number of the signal that ended the train run on some rank; None if none came."""
        self._own = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals within the context; Python allows it only in the main thread."""
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._own:
            raise SystemExit(128 + number)
        self._own = number

    def batch_end(self, state: State, logger: Logger) -> None:
        """Stop training if a signal came; the checkpoint follows this event."""
        received = self._own
        if dist.get_world_size() > 1:
            number = state.device.tensor_to_device(torch.tensor(received))
            dist.all_reduce(number, reduce_operation="MAX")
            received = int(number.item())
        if received:
            self.received = received
            state.stop_training()
