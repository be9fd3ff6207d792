"""The train runs of the demo: their progress and metrics while they run."""

from dataclasses import dataclass
from typing import Any

from ixt_train.runs import read_metrics, run_folder
from ixt_train.scaling import TrainJob


@dataclass(eq=False)
class DemoJob(TrainJob):
    """One train run of the demo.

    Attributes:
        steps: number of steps at its end.
    """

    steps: int = 0

    def metrics(self) -> list[dict[str, Any]]:
        """Return the complete rows of metrics.jsonl so far; none before the run starts."""
        return read_metrics(self.run_folder / run_folder.METRICS)

    def steps_done(self) -> int:
        """Return the number of steps so far, by its metrics."""
        return max((int(row["step"]) for row in self.metrics()[-3:]), default=0)
