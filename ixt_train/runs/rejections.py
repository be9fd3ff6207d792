"""The conversations that the chat template of a train run rejects: rejected.jsonl."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ixt_data.errors import TrainingError
from ixt_data.records import format_id
from ixt_data.storage import atomic_write
from ixt_train.runs.draws import read_draws

REJECTED = "rejected.jsonl"


class Rejection(NamedTuple):
    """A conversation that the chat template rejects.

    Attributes:
        doc_id: its id, 16 bytes.
        reason: why it is rejected.
    """

    doc_id: bytes
    reason: str


class RejectionWriter:
    """A writer of rejected.jsonl, with a line per document: doc_id, first step, reason.

    Attributes:
        path: the file.
    """

    def __init__(self, run_folder: Path) -> None:
        self.path = run_folder / REJECTED
        self._known: set[str] = set()
        self._waiting: list[bytes] = []

    def __len__(self) -> int:
        """Return the number of documents, flushed or not."""
        return len(self._known)

    def resume_after(self, step: int) -> None:
        """Drop the lines of later steps, and a line that a crash cut off."""
        if not self.path.exists():
            return
        kept = [row for row in _rows(self.path) if row["step"] <= step]
        data = b"".join(orjson.dumps(row) + b"\n" for row in kept)
        atomic_write(self.path, lambda partial: partial.write_bytes(data))
        self._known = {row["doc_id"] for row in kept}

    def add(self, step: int, rejections: Iterable[Rejection]) -> None:
        """Record the rejections of a step or sample, except of documents that are recorded."""
        for doc_id, reason in rejections:
            name = format_id(doc_id)
            if name not in self._known:
                self._known.add(name)
                row = {"doc_id": name, "step": step, "reason": reason}
                self._waiting.append(orjson.dumps(row) + b"\n")

    def flush(self) -> None:
        """Append what was recorded since the last flush, and wait until it is on the disk."""
        if self._waiting:
            with self.path.open("ab") as file:
                file.write(b"".join(self._waiting))
                file.flush()
                os.fsync(file.fileno())
            self._waiting = []


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        # A crash may have cut off the last line.
        yield from (orjson.loads(line) for line in file if line.endswith(b"\n"))


def count_rejections(run_folder: Path) -> int:
    """Return the number of documents whose conversation was rejected.

    Raises:
        TrainingError: every document that was drawn is one of them.
    """
    path = run_folder / REJECTED
    reasons = {row["doc_id"]: row["reason"] for row in _rows(path)} if path.exists() else {}
    if reasons and all(name in reasons for _, drawn in read_draws(run_folder) for name in drawn):
        raise TrainingError(
            f"every conversation was rejected, so the model learned nothing; see {path}. "
            f"The first one: {next(iter(reasons.values()))}"
        )
    return len(reasons)
