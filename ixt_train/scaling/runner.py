"""Parallel train runs, each in a separate process that starts with its imports loaded."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from ixt_data.errors import IxtError


@dataclass(frozen=True)
class TrainJob:
    """One train run.

    Attributes:
        name: name in messages.
        config: its train YAML.
        log: file for stdout and stderr of the process.
        run_folder: its run folder.
    """

    name: str
    config: Path
    log: Path
    run_folder: Path


def run_jobs(jobs: Iterable[TrainJob], side_by_side: int, done: Callable[[TrainJob], None]) -> None:
    """Run jobs in order, at most so many at once with a thread each; `done` hears of each end.

    A fork of a process that has torch and Composer imported starts in a tenth of a second, where
    a new process takes as long as a small train run.

    Raises:
        IxtError: one failed; those that were not begun are left out.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ixt_train.trainer.training"])
    waiting, going = iter(jobs), dict[Future[None], TrainJob]()
    with ProcessPoolExecutor(side_by_side, context, max_tasks_per_child=1) as pool:
        while True:
            while len(going) < side_by_side and (job := next(waiting, None)) is not None:
                going[pool.submit(_train, job)] = job
            if not going:
                return
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                job = going.pop(future)
                if (error := future.exception()) is not None:
                    raise IxtError(f"train run {job.name!r} failed: {error} (see {job.log})")
                done(job)


def _train(job: TrainJob) -> None:
    """Train in the process of a job; write stdout and stderr into its log."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    from ixt_train.config import load_train_config
    from ixt_train.trainer import train

    try:
        train(load_train_config(job.config))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stderr.flush()
