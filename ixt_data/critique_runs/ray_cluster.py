"""Many workers on one critique run, placed on a Ray cluster as actors that are started again.

The only module that imports Ray. Workers share the units by leases, as they do anywhere, so that
Ray decides only where they are; a dead one's units are taken by the others.
"""

import re
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

from ixt_data.critique_runs.annotation import CritiqueReport
from ixt_data.critique_runs.workers import (
    RESTARTS,
    SAY_SECONDS,
    STOPPED,
    CritiqueRunSpec,
    StatusCallback,
    WorkerStatus,
    ending_in_order,
    summed,
    work,
)
from ixt_data.errors import CriticError, IxtError, MissingExtra
from ixt_data.store import Store

PATIENCE = 10.0
"""Seconds that workers have to stop in order."""

KNOCK_SECONDS = 10.0
"""For a connection to the cluster's port."""

_ADDRESS = re.compile(r"(?:ray://)?\[?([^/\[\]]+?)\]?:(\d+)")
_PARALLEL = re.compile(r"(?:--tensor-parallel-size|--pipeline-parallel-size|-tp|-pp)[= ](\d+)")


class WorkerStopped(Exception):
    """Whoever placed this worker wants it to stop."""


class Worker:
    """One actor."""

    def __init__(self) -> None:
        self._told, self._stopped = WorkerStatus(), False

    def work(self, job: CritiqueRunSpec) -> CritiqueReport | str:
        """See `workers.work`; what it failed with, if that is for a person to mend."""
        try:
            return work(job, self._tell)
        except IxtError as error:
            return str(error)

    def _tell(self, told: WorkerStatus) -> None:
        self._told = told
        if self._stopped:
            raise WorkerStopped

    def told(self) -> WorkerStatus:
        """What it has done since it was started."""
        return self._told

    def stop(self) -> None:
        """Makes it stop at its next document."""
        self._stopped = True


def on_ray(job: CritiqueRunSpec, address: str, n: int, tell: StatusCallback) -> CritiqueReport:
    """A critique run by n actors.

    Args:
        job: what.
        address: of the cluster, as for `ray.init`; `local` starts one on this machine.
        n: how many actors.
        tell: called about twice a second with what all of them have done.

    Raises:
        MissingExtra: ray is not installed.
        IxtError: what one of them failed with; the others are stopped.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray") from None
    store = Store.open(job.store)
    job = replace(job, since=store.snapshot().version)
    # On stdout there are data, and Ray writes there who died.
    with redirect_stdout(sys.stderr):
        _connect(ray, address, n)
        try:
            # Again, since Ray has its own way to end.
            with ending_in_order():
                return summed(store, job, _placed(ray, job, n, tell))
        except SystemExit:
            # It changes the exit code on the way.
            sys.exit(STOPPED)
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str, n: int) -> None:
    """Joins a cluster, or starts one for n workers on this machine.

    Raises:
        CriticError: there is none, or it does not start.
    """
    _knock(address)
    own = {"num_cpus": n, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **own)
    # Ray gives a node 30 seconds to start, and raises a bare Exception after that.
    except Exception as error:
        raise CriticError(f"no Ray cluster at {address!r}: {error}") from None


def _knock(address: str) -> None:
    """Tries the port, if there is one in the address: Ray itself tries for many minutes."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise CriticError(
            f"no Ray cluster at {address!r}: {error}. Start one: ray start --head --port=6379"
        ) from None


def _placed(ray: Any, job: CritiqueRunSpec, n: int, tell: StatusCallback) -> list[CritiqueReport]:
    gpus = _gpus(job) if ray.cluster_resources().get("GPU") else 0
    actor = ray.remote(Worker).options(
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
        # One thread works, the other one answers.
        max_concurrency=2,
        num_cpus=1,
        num_gpus=gpus,
        scheduling_strategy="SPREAD",
    )
    actors = [actor.remote() for _ in range(n)]
    tasks = [one.work.remote(job) for one in actors]
    reports: list[CritiqueReport] = []
    try:
        waiting = list(tasks)
        while waiting:
            done, waiting = ray.wait(waiting, timeout=SAY_SECONDS)
            for task in done:
                reports.append(_report(ray, task))
            tell(sum(_told(ray, actors), WorkerStatus()))
    except BaseException:
        for one in actors:
            one.stop.remote()
        ray.wait(tasks, num_returns=n, timeout=PATIENCE)
        raise
    return reports


def _report(ray: Any, task: Any) -> CritiqueReport:
    try:
        found = ray.get(task)
    except ray.exceptions.RayError as error:
        raise CriticError(f"a worker on Ray failed: {error}") from None
    if isinstance(found, str):
        raise IxtError(found)
    assert isinstance(found, CritiqueReport)
    return found


def _told(ray: Any, actors: Sequence[Any]) -> list[WorkerStatus]:
    """What those say that answer at once: one that is being started again does not."""
    asked = [one.told.remote() for one in actors]
    time.sleep(0.05)
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=SAY_SECONDS)
    found = []
    for one in answered:
        try:
            found.append(ray.get(one))
        except ray.exceptions.RayError:
            continue
    return found


def _gpus(job: CritiqueRunSpec) -> int:
    """GPUs that a worker's own server needs."""
    if job.serve is None:
        return 0
    wanted = 1
    for number in _PARALLEL.findall(" ".join(job.serve.get("arguments", ()))):
        wanted *= int(number)
    return wanted
