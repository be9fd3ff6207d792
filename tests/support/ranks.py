"""Ranks of a process group, each a fork of a server that has none of the threads of pytest.

The server imports torch, Composer and the trainer once, which takes longer than most tests. A rank
imports its function by name, so the functions are here.
"""

import datetime
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import numpy as np
from torch import distributed

from ixt_data.errors import StoreError
from ixt_data.mix import Mix, MixPlan, plan_mix
from ixt_data.store import Store
from ixt_train.config import TrainConfig, load_train_config
from ixt_train.runs import load_points
from ixt_train.stream import run_on_all_ranks
from ixt_train.trainer import HookCallback, equal_rows, run_sweep, train
from ixt_train.trainer.objective import LanguageModel
from ixt_train.trainer.shared_plan import share_plan

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["ranks"])


def small_plan(store: Store, seed: int = 17) -> MixPlan:
    selections = [{"name": "high", "where": "score >= 0.7", "weight": 2}, {"name": "all"}]
    mix = Mix.model_validate({"critic": "numbers", "selections": selections, "seed": seed})
    return plan_mix(mix, 128, store=store, batch=8)


def fail_on_second_rank(number: int) -> None:
    def fail() -> None:
        if number == 1:
            raise StoreError("disk 7 is gone")

    run_on_all_ranks(fail)


def share_the_plan_of_a_node(number: int, root: str, path: Path) -> tuple[list[int], bool]:
    def compute() -> MixPlan:
        assert number == 0
        return small_plan(Store.open(root))

    plan = share_plan(path, compute)
    return plan.order(0).tolist(), isinstance(plan.orders[0].counts.base, np.ndarray)


def share_different_plans(number: int, root: str, folder: Path) -> None:
    # Two nodes of one rank, which see different heads.
    os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    share_plan(folder / f"plan{number}", lambda: small_plan(Store.open(root), seed=number))


def train_with_unequal_rows(number: int, config: TrainConfig) -> list[int]:
    """Return the number of rows of each batch of this rank, before padding."""
    rows = []
    pad_rows = equal_rows.pad_rows

    def record(batch: dict[str, Any], total: int, pad_id: int) -> dict[str, Any]:
        rows.append(len(batch["input_ids"]))
        return pad_rows(batch, total, pad_id)

    equal_rows.pad_rows = record
    train(config)
    return rows


def train_config(number: int, config: Path) -> dict[str, Any]:
    """Return the result of the train run of a config."""
    return train(load_train_config(config)).record()


def sweep(number: int, config: Path, axes: list[str]) -> list[tuple[tuple[str, ...], float | None]]:
    """Return settings and loss of each run of a sweep."""
    return [(run.settings, run.loss) for run in run_sweep(load_points(config, [], axes))]


def train_with_broken_loss(number: int, config: Path, calls: set[int]) -> dict[str, Any]:
    """Return the result of a train run in which some calls of the loss return 50 times its value.

    A call is a step of this rank, counted from 1 and on through a rewind.
    """
    original, done = LanguageModel.loss, []

    def loss(self: LanguageModel, outputs: Any, batch: dict[str, Any]) -> Any:
        done.append(0)
        value = original(self, outputs, batch)
        return value * 50 if len(done) in calls else value

    LanguageModel.loss = loss  # type: ignore[method-assign]
    return train(load_train_config(config)).record()


def stop_at_third_step(number: int, config: Path) -> None:
    """Train until SIGTERM arrives after the third step, which the rank sends itself."""
    steps = []

    def count() -> None:
        steps.append(len(steps))
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    train(load_train_config(config), callbacks=[HookCallback(lambda: None, count)])


def _rank(
    number: int,
    size: int,
    file: Path,
    environment: dict[str, str],
    action: Callable[..., Any],
    arguments: tuple[Any, ...],
    answers: Any,
) -> None:
    os.environ |= environment
    os.environ |= {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(size), "NODE_RANK": "0"}
    distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=number, world_size=size,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    start = time.monotonic()
    try:
        answer = action(number, *arguments)
    except (Exception, SystemExit) as error:
        answer = f"{type(error).__name__}: {error}"
    answers.put((number, answer, time.monotonic() - start))
    answers.close()
    answers.join_thread()
    # Gloo's destructor holds the interpreter's lock while its threads wait for it, and hangs.
    os._exit(0)


def run_ranks(
    size: int, action: Callable[..., Any], *arguments: Any, limit_seconds: float = 30
) -> list[Any]:
    """Return what a function of this module returns on each rank, or its error."""
    _start_server()
    answers = forkserver.Queue()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rendezvous")
        processes = [
            forkserver.Process(
                target=_rank,
                args=(number, size, file, dict(os.environ), action, arguments, answers),
                daemon=True,
            )
            for number in range(size)
        ]
        for process in processes:
            process.start()
        by_rank = sorted((answers.get(timeout=300) for _ in processes), key=lambda one: one[0])
        for process in processes:
            process.join()
    # By default far below the timeout of the process group.
    assert max(seconds for _, _, seconds in by_rank) < limit_seconds
    return [answer for _, answer, _ in by_rank]


def _start_server() -> None:
    """Start the server with this folder in its path: that of Python 3.11 ignores `sys.path`."""
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    try:
        ensure_running()
    finally:
        os.environ.clear()
        os.environ |= before
