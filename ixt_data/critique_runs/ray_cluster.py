"""Workers of one critique run as actors on a Ray cluster.

The only module that imports Ray. Ray only places and restarts the workers. They share the units by
leases like any workers, so the others do the units of one that crashed.
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
    MAX_RESTARTS,
    REPORT_SECONDS,
    STOPPED,
    CritiqueRunSpec,
    StatusCallback,
    WorkerStatus,
    exiting_on_sigterm,
    run_worker,
    total_report,
)
from ixt_data.errors import CriticError, IxtError, MissingExtra
from ixt_data.store import Store

STOP_SECONDS = 10.0
"""Seconds that workers get to stop gracefully."""

CONNECT_SECONDS = 10.0
"""Timeout of the connection to the cluster's port."""

_ADDRESS = re.compile(r"(?:ray://)?\[?([^/\[\]]+?)\]?:(\d+)")
_PARALLEL = re.compile(r"(?:--tensor-parallel-size|--pipeline-parallel-size|-tp|-pp)[= ](\d+)")


class WorkerStopped(Exception):
    """The driver stops this worker."""


class Worker:
    """One Ray actor."""

    def __init__(self) -> None:
        self._status, self._is_stopped = WorkerStatus(), False

    def run(self, spec: CritiqueRunSpec) -> CritiqueReport | str:
        """Run a worker; return the message of an error that the user can fix."""
        try:
            return run_worker(spec, self._report_status)
        except IxtError as error:
            return str(error)

    def _report_status(self, status: WorkerStatus) -> None:
        self._status = status
        if self._is_stopped:
            raise WorkerStopped

    def status(self) -> WorkerStatus:
        """Return its status since it was started."""
        return self._status

    def stop(self) -> None:
        """Stop it at its next document."""
        self._is_stopped = True


def run_on_ray(
    spec: CritiqueRunSpec, address: str, n: int, report: StatusCallback
) -> CritiqueReport:
    """Run a critique run on n Ray actors.

    Args:
        spec: the critique run.
        address: of the cluster, as for `ray.init`; `local` starts one on this machine.
        n: number of actors.
        report: called about twice per second with the status of all actors together.

    Raises:
        MissingExtra: ray is not installed.
        CriticError: the cluster is not reachable, or an actor failed.
        IxtError: the error of one actor; the others are stopped.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray") from None
    store = Store.open(spec.store)
    spec = replace(spec, since=store.snapshot().version)
    # Stdout is for data, but Ray reports crashed actors on it.
    with redirect_stdout(sys.stderr):
        _connect(ray, address, n)
        try:
            # Again, because ray.init replaces the handler of SIGTERM.
            with exiting_on_sigterm():
                return total_report(store, spec, _run_actors(ray, spec, n, report))
        except SystemExit:
            # Ray changes the exit code.
            sys.exit(STOPPED)
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str, n: int) -> None:
    """Connect to a cluster, or start one for n workers on this machine.

    Raises:
        CriticError: the cluster is not reachable, or does not start.
    """
    check_reachable(address)
    options = {"num_cpus": n, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **options)
    # Ray gives a node 30 seconds to start, and raises a bare Exception after that.
    except Exception as error:
        raise CriticError(f"no Ray cluster at {address!r}: {error}") from None


def check_reachable(address: str) -> None:
    """Connect to the port in the address, if there is one: Ray itself tries for many minutes."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return
    try:
        socket.create_connection((match[1], int(match[2])), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise CriticError(
            f"no Ray cluster at {address!r}: {error}. Start one: ray start --head --port=6379"
        ) from None


def _run_actors(
    ray: Any, spec: CritiqueRunSpec, n: int, report: StatusCallback
) -> list[CritiqueReport]:
    gpus = _gpus(spec) if ray.cluster_resources().get("GPU") else 0
    actor = ray.remote(Worker).options(
        max_restarts=MAX_RESTARTS,
        max_task_retries=MAX_RESTARTS,
        # One thread critiques, the other one reports the status.
        max_concurrency=2,
        num_cpus=1,
        num_gpus=gpus,
        scheduling_strategy="SPREAD",
    )
    actors = [actor.remote() for _ in range(n)]
    tasks = [one.run.remote(spec) for one in actors]
    reports: list[CritiqueReport] = []
    try:
        waiting = list(tasks)
        while waiting:
            done, waiting = ray.wait(waiting, timeout=REPORT_SECONDS)
            for task in done:
                reports.append(_get_result(ray, task))
            report(sum(_collect_status(ray, actors), WorkerStatus()))
    except BaseException:
        for one in actors:
            one.stop.remote()
        ray.wait(tasks, num_returns=n, timeout=STOP_SECONDS)
        raise
    return reports


def _get_result(ray: Any, task: Any) -> CritiqueReport:
    try:
        result = ray.get(task)
    except ray.exceptions.RayError as error:
        raise CriticError(f"a worker on Ray failed: {error}") from None
    if isinstance(result, str):
        raise IxtError(result)
    assert isinstance(result, CritiqueReport)
    return result


def _collect_status(ray: Any, actors: Sequence[Any]) -> list[WorkerStatus]:
    """Return the status of the actors that respond at once; a restarting one does not."""
    pending = [one.status.remote() for one in actors]
    time.sleep(0.05)
    ready, _ = ray.wait(pending, num_returns=len(pending), timeout=REPORT_SECONDS)
    statuses = []
    for one in ready:
        try:
            statuses.append(ray.get(one))
        except ray.exceptions.RayError:
            continue
    return statuses


def _gpus(spec: CritiqueRunSpec) -> int:
    """Return the GPUs that a worker's own server needs."""
    if spec.serve is None:
        return 0
    gpus = 1
    for number in _PARALLEL.findall(" ".join(spec.serve.get("arguments", ()))):
        gpus *= int(number)
    return gpus
