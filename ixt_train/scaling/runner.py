"""Parallel train runs, each in a separate process that starts with its imports loaded."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from ixt_data.errors import IxtError
from ixt_train.runs import environment_variables

_UPDATE_SECONDS = 0.5


@dataclass(eq=False)
class TrainJob:
    """One train run, identified by the object itself.

    Attributes:
        name: name in messages.
        config: its train YAML.
        log: file for stdout and stderr of the process.
        run_folder: its run folder.
        seconds: time since the process started, or its total time.
        is_finished: whether the process has ended without an error.
    """

    name: str
    config: Path
    log: Path
    run_folder: Path
    seconds: float = 0.0
    is_finished: bool = False


Job = TypeVar("Job", bound=TrainJob)


def run_jobs(jobs: Iterable[Job], parallel: int, on_update: Callable[[Job], None]) -> None:
    """Run train jobs in order, a limited number in parallel with one thread each.

    A fork of a process that has imported torch and Composer starts in a tenth of a second. A new
    process takes as long as a small train run.

    Args:
        jobs: the jobs; each is taken from the iterable when a process is free for it.
        parallel: maximum number of processes.
        on_update: called for every running job about twice per second, and once after its end.

    Raises:
        IxtError: a job failed; the message has the last line of its log. The running jobs are
            terminated, and the others are not started.
    """
    with environment_variables(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false"):
        _run_jobs(jobs, parallel, on_update)


def _run_jobs(jobs: Iterable[Job], parallel: int, on_update: Callable[[Job], None]) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ixt_train.trainer.training"])
    pending, running = iter(jobs), dict[Job, tuple[BaseProcess, float]]()
    try:
        while True:
            while len(running) < parallel and (job := next(pending, None)) is not None:
                started = context.Process(target=_train, args=(job.config, job.log), name=job.name)
                started.start()
                running[job] = started, time.monotonic()
            if not running:
                return
            wait([process.sentinel for process, _ in running.values()], _UPDATE_SECONDS)
            for job, (process, start) in list(running.items()):
                job.seconds = time.monotonic() - start
                if process.exitcode is not None:
                    del running[job]
                    _check_exit(job, process.exitcode)
                    job.is_finished = True
                on_update(job)
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _check_exit(job: TrainJob, code: int) -> None:
    if code == 0:
        return
    lines = list[str]()
    with suppress(FileNotFoundError):
        lines = job.log.read_text(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "no message"
    raise IxtError(f"train run {job.name!r} failed with exit code {code}: {reason} (see {job.log})")


def _train(config: Path, log: Path) -> None:
    """Train in the process of a job; write stdout and stderr into its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    from ixt_train.config import load_train_config
    from ixt_train.trainer import reuse_freed_memory, train

    reuse_freed_memory()
    train(load_train_config(config))
