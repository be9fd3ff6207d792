"""The recorder of conversations that the chat template rejects."""

from pathlib import Path

from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from ixt_data.console import Output, format_count
from ixt_train.runs import Rejection, RejectionWriter
from ixt_train.stream import gather_from_all_ranks


class RejectionCallback(Callback):  # type: ignore[misc]
    """A recorder of the rejected conversations of every step, over all ranks."""

    def __init__(self, run_folder: Path, out: Output | None) -> None:
        """Set the folder of rejected.jsonl, and where to print a note; None prints none."""
        self._writer, self._out = RejectionWriter(run_folder), out
        self._waiting: list[tuple[int, list[Rejection]]] = []

    def fit_start(self, state: State, logger: Logger) -> None:
        """Drop the records of an interrupted train run after the checkpoint."""
        if dist.get_global_rank() == 0:
            self._writer.resume_after(int(state.timestamp.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        """Record one step."""
        if rejected := [one for row in state.batch["rejected"] for one in row]:
            self._waiting.append((int(state.timestamp.batch), rejected))

    def count(self) -> int:
        """Return the documents rejected so far, exact on the first rank; all ranks call this."""
        before = len(self._writer)
        parts = sorted(part for parts in gather_from_all_ranks(self._waiting) for part in parts)
        self._waiting = []
        for step, rejected in parts:
            self._writer.add(step, rejected)
        if self._out is not None and not before and len(self._writer):
            step, rejected = parts[0]
            self._out.note(
                f"step {step:,}: {rejected[0].reason}. Rejected conversations have no loss; each "
                f"one is in {self._writer.path}"
            )
        return len(self._writer)

    def flush(self) -> None:
        """Flush the records to the disk; all ranks call this together."""
        self.count()
        if dist.get_global_rank() == 0:
            self._writer.flush()

    def fit_end(self, state: State, logger: Logger) -> None:
        """Print how many there are."""
        if self._out is not None and len(self._writer):
            rejected = format_count(len(self._writer), "conversation")
            self._out.note(f"{rejected} rejected, each with its reason: {self._writer.path}")
