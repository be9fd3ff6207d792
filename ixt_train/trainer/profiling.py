"""A trace of some steps."""

from pathlib import Path
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist
from torch.profiler import ProfilerActivity

from ixt_train.config import ProfileConfig
from ixt_train.runs import run_folder


class ProfilerCallback(Callback):  # type: ignore[misc]
    """A recorder of a Chrome trace of each rank, which ui.perfetto.dev shows."""

    def __init__(self, folder: Path, config: ProfileConfig) -> None:
        self._folder, self._config = folder / run_folder.PROFILE, config
        self._profiler: Any = None

    def batch_start(self, state: State, logger: Logger) -> None:
        """Start before the first step of the trace."""
        if int(state.timestamp.batch) + 1 != self._config.steps[0]:
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(
            activities=activities,
            record_shapes=True,
            profile_memory=self._config.memory,
            with_stack=self._config.stacks,
        )
        self._profiler.start()

    def batch_end(self, state: State, logger: Logger) -> None:
        """Write the trace after its last step, or at the end of training."""
        is_last = int(state.timestamp.batch) >= self._config.steps[1]
        if self._profiler is None or not (is_last or state.timestamp >= state.max_duration):
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        self._folder.mkdir(exist_ok=True)
        first, last = self._config.steps
        name = f"steps-{first}-{last}.rank{dist.get_global_rank()}.json.gz"
        profiler.export_chrome_trace(str(self._folder / name))

    def close(self, state: State, logger: Logger) -> None:
        """End the trace of a train run that failed."""
        if self._profiler is not None:
            self._profiler.stop()
