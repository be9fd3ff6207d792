"""Ranks that plan once, compare, and fail together."""

import datetime
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from critiqued import critiqued_store
from torch import distributed

from ixt_data.errors import FingerprintError, StoreError
from ixt_data.mix import Mix, MixPlan, plan_mix
from ixt_data.store import Store
from ixt_train.stream import run_on_all_ranks
from ixt_train.trainer.shared_plan import read_plan, share_plan, write_plan

fork = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return critiqued_store(tmp_path_factory.mktemp("shared") / "store", 60)


def _plan(store: Store, seed: int = 17) -> MixPlan:
    selections = [{"name": "high", "where": "score >= 0.7", "weight": 2}, {"name": "all"}]
    mix = Mix.model_validate({"critic": "numbers", "selections": selections, "seed": seed})
    return plan_mix(mix, 128, store=store, batch=8)


def _rank(number: int, file: Path, action: Callable[[int], Any], answers: Any) -> None:
    os.environ |= {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": "2"}
    distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=number, world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    start = time.monotonic()
    try:
        answer = action(number)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    answers.put((number, answer, time.monotonic() - start))
    distributed.destroy_process_group()


def two_ranks(folder: Path, action: Callable[[int], Any]) -> list[Any]:
    answers = fork.Queue()
    processes = [
        fork.Process(
            target=_rank, args=(number, folder / "rendezvous", action, answers), daemon=True
        )
        for number in range(2)
    ]
    for process in processes:
        process.start()
    by_rank = sorted(answers.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    # Far below the timeout of the process group.
    assert max(seconds for _, _, seconds in by_rank) < 30
    return [answer for _, answer, _ in by_rank]


def test_mapped_plan_equals_the_plan(store: Store, tmp_path: Path) -> None:
    plan = _plan(store)
    write_plan(tmp_path / "plan", plan)
    mapped = read_plan(tmp_path / "plan")
    assert mapped.order(0).tolist() == plan.order(0).tolist()
    assert (mapped.digest, mapped.counts_digest()) == (plan.digest, plan.counts_digest())
    assert mapped.summary() == plan.summary()
    counts = mapped.orders[0].counts
    assert not counts.flags.owndata
    assert not counts.flags.writeable


def test_error_of_one_rank_is_raised_on_all(tmp_path: Path) -> None:
    def action(number: int) -> None:
        def fail_on_second() -> None:
            if number == 1:
                raise StoreError("disk 7 is gone")

        run_on_all_ranks(fail_on_second)

    assert two_ranks(tmp_path, action) == ["StoreError: disk 7 is gone"] * 2


def test_ranks_of_a_node_plan_once(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "node" / "plan"
    # DuckDB's threads do not survive a fork: the plan is made here.
    planned = _plan(store)

    def action(number: int) -> Any:
        def compute() -> MixPlan:
            assert number == 0
            return planned

        plan = share_plan(path, compute)
        return plan.order(0).tolist(), isinstance(plan.orders[0].counts.base, np.ndarray)

    first, second = two_ranks(tmp_path, action)
    assert first[0] == second[0] == planned.order(0).tolist()
    assert not path.exists()


def test_ranks_with_different_plans_raise(store: Store, tmp_path: Path) -> None:
    plans = [_plan(store, seed=number) for number in range(2)]

    def action(number: int) -> None:
        # Two nodes of one rank, which see different heads.
        os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        share_plan(tmp_path / f"plan{number}", lambda: plans[number])

    for answer in two_ranks(tmp_path, action):
        assert answer.startswith(f"{FingerprintError.__name__}: ranks have different plans")
