"""The result of a train run, from the records in its run folder."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ixt_data.mix import MixPlan
from ixt_train.runs import count_rejections, newest_checkpoint, read_metrics, run_folder


@dataclass(frozen=True)
class TrainResult:
    """The result of a train run.

    Attributes:
        steps, tokens, samples: totals of the train run.
        losses: `train`, of the last step; `eval`, held out, under each document's own feedback if
            the model uses any; None if nothing was held out. In nats per token; in stage preference
            the loss of pairs.
        rejected: conversations that the chat template rejects; they have no loss.
        tasks: share of problems solved, by task.
        checkpoint: path of the last checkpoint.
        run_folder: path of the run folder.
        seconds: training time over all resumes, without evaluation.
        digest: digest of the plan.
        snapshot: version of the snapshot.
    """

    steps: int
    tokens: int
    samples: int
    losses: dict[str, float | None]
    rejected: int
    tasks: dict[str, float]
    checkpoint: str
    run_folder: str
    seconds: float
    digest: str
    snapshot: int

    def record(self) -> dict[str, Any]:
        """Return the result as the JSON object that `ixt train` prints."""
        return asdict(self)


def read_train_result(folder: Path, plan: MixPlan) -> TrainResult:
    """Read the result of the train run in a folder.

    Raises:
        TrainingError: the chat template rejected every conversation.
    """
    rows = read_metrics(folder / run_folder.METRICS)
    last = next(row for row in reversed(rows) if "loss" in row)
    evaluation: dict[str, Any] = next((row["eval"] for row in reversed(rows) if "eval" in row), {})
    losses = evaluation.get("loss", {})
    held_out = losses.get("observed") or losses.get("none") or {}
    pairs = evaluation.get("preference", {})
    latest = newest_checkpoint(folder)
    return TrainResult(
        steps=last["step"],
        tokens=last["tokens"],
        samples=last["samples"],
        losses={"train": last["loss"], "eval": pairs.get("loss", held_out.get("all"))},
        rejected=count_rejections(folder),
        tasks=evaluation.get("tasks", {}),
        checkpoint=str(latest),
        run_folder=str(folder),
        seconds=last["seconds"],
        digest=plan.digest,
        snapshot=plan.version,
    )
