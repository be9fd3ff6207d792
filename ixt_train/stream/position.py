"""The position of one rank's stream, which its process shares with its DataLoader workers."""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch.utils.data import get_worker_info

from ixt_data.storage import atomic_write

_POLL_SECONDS = 0.001
Place = tuple[int, int]
"""An epoch, and the samples of it that all processes have drawn."""


class Position:
    """The epoch that a rank reads, in a file of its local folder.

    The main process does not learn when a worker starts an epoch. The first worker of an iteration
    advances the file, and the others of the same iteration read it.
    """

    def __init__(self, local: Path, rank: int) -> None:
        self._path = local / f".position-{rank}.json"
        self._iterations = 0
        self.move((0, 0))

    def move(self, to: Place) -> None:
        """Let the next iteration start at a place."""
        self._write({"current": None, "next": to, "iteration": None})

    @property
    def current(self) -> Place | None:
        """Where the latest iteration started; None before the first one."""
        current = self._read()["current"]
        return None if current is None else (current[0], current[1])

    @property
    def next(self) -> Place:
        """Where the next iteration starts."""
        epoch, done = self._read()["next"]
        return epoch, done

    def start(self) -> Place:
        """Start an iteration, or join that of the other workers; return where it starts."""
        worker = get_worker_info()
        # Torch draws a seed per iterator; persistent workers iterate again under the same one.
        iteration = None if worker is None else [worker.seed - worker.id, self._iterations]
        self._iterations += 1
        # All workers of an iteration come here at once, and each one waits a poll or more.
        with FileLock(f"{self._path}.lock", poll_interval=_POLL_SECONDS):
            record = self._read()
            if iteration is None or record["iteration"] != iteration:
                epoch, done = record["next"]
                self._write(
                    {"current": (epoch, done), "next": (epoch + 1, 0), "iteration": iteration}
                )
                return epoch, done
        return record["current"][0], record["current"][1]

    def _read(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self._path.read_bytes())
        return record

    def _write(self, record: dict[str, Any]) -> None:
        data = json.dumps(record).encode()
        atomic_write(self._path, lambda partial: partial.write_bytes(data), durable=False)
