"""Train runs as processes of their own, a few side by side, with one thread each."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import IxtError


@dataclass
class DemoJob:
    """One train run.

    Attributes:
        name: what people call it.
        config: its train YAML.
        run_folder: where it writes metrics.jsonl.
        steps: how many it will do.
        seconds: how long it took, once it is done.
    """

    name: str
    config: Path
    run_folder: Path
    steps: int
    seconds: float = 0.0
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    started: float = 0.0

    @property
    def log(self) -> Path:
        """What the process says on stderr."""
        return self.config.with_suffix(".log")

    @property
    def answer(self) -> Path:
        """What the process says on stdout: one JSON object."""
        return self.config.with_suffix(".json")

    def start(self) -> None:
        """Begin; the process answers into files, so that no pipe can fill up."""
        self.started = time.monotonic()
        command = [sys.executable, "-m", "ixt_train", str(self.config), "--output", "json"]
        with self.log.open("wb") as log, self.answer.open("wb") as answer:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            )

    def finished(self) -> bool:
        """Whether it ended well.

        Raises:
            IxtError: it failed; the last line of its log is in the message.
        """
        if self.process is None or (code := self.process.poll()) is None:
            return False
        self.seconds = time.monotonic() - self.started
        if code != 0:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["no message"]
            raise IxtError(
                f"train run {self.name!r} ended with {code}: {lines[-1]} (see {self.log})"
            )
        return True

    def stop(self) -> None:
        """End it early, if it still goes."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl that are whole by now."""
        path = self.run_folder / "metrics.jsonl"
        if not path.exists():
            return []
        *lines, _ = path.read_bytes().split(b"\n")
        return [orjson.loads(line) for line in lines if line]

    def steps_done(self) -> int:
        """Steps so far, by its metrics."""
        return max((int(row["step"]) for row in self.metrics()[-3:]), default=0)


def run_jobs(jobs: Sequence[DemoJob], side_by_side: int, watch: Callable[[DemoJob], None]) -> None:
    """Run all jobs in order, at most so many at once; `watch` sees each about twice a second.

    Raises:
        IxtError: one failed; the others are stopped.
    """
    waiting, going = list(jobs), list[DemoJob]()
    try:
        while waiting or going:
            while waiting and len(going) < side_by_side:
                going.append(waiting.pop(0))
                going[-1].start()
            time.sleep(0.5)
            for job in list(going):
                if job.finished():
                    going.remove(job)
                watch(job)
    finally:
        for job in going:
            job.stop()
