import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from ixt_data.errors import ConfigError, IxtError
from ixt_data.worker_processes import WorkerPool, map_ahead


class NotPickled(Exception):
    """An error that needs arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def fail(kind: str) -> None:
    if kind == "custom":
        raise NotPickled("a", "b")
    raise ConfigError(f"wrong: {kind}")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_map_keeps_the_order_of_the_items(workers: int) -> None:
    with WorkerPool(workers) as pool:
        assert list(pool.map(abs, range(-50, 0))) == list(range(50, 0, -1))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_map_ahead_keeps_order_and_errors_and_takes_few_items_ahead(workers: int) -> None:
    items = iter(range(100))
    results = map_ahead(lambda i: 1 // (i - 60), items, workers)
    assert list(islice(results, 50)) == [1 // (i - 60) for i in range(50)]
    assert next(items) <= 50 + workers
    with pytest.raises(ZeroDivisionError):
        list(results)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_that_of_the_function(workers: int) -> None:
    with WorkerPool(workers) as pool:
        with pytest.raises(ConfigError, match="wrong: x"):
            pool.submit(fail, "x").result()
        assert pool.submit(abs, -1).result() == 1


def test_an_error_that_does_not_pickle_keeps_its_text() -> None:
    with WorkerPool(2) as pool, pytest.raises(IxtError, match="NotPickled: ab"):
        pool.submit(fail, "custom").result()


def test_a_killed_worker_is_an_error() -> None:
    with WorkerPool(2) as pool, pytest.raises(IxtError, match="ended by signal SIGKILL"):
        pool.submit(die).result()


def test_workers_end_with_a_killed_parent() -> None:
    script = (
        "import os\n"
        "from ixt_data.worker_processes import WorkerPool\n"
        "pool = WorkerPool(2)\n"
        "pids = [pool.submit(os.getpid) for _ in range(20)]\n"
        "print(*{pid.result() for pid in pids}, flush=True)\n"
        "input()\n"
    )
    # A script without a main guard, from which `multiprocessing` could not start a process.
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while any(map(_is_running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
