"""Ranks that plan once, compare, and fail together."""

from pathlib import Path

import pytest
import ranks
from critiqued import critiqued_store
from ranks import run_ranks, small_plan

from ixt_data.errors import FingerprintError
from ixt_data.store import Store
from ixt_train.trainer.shared_plan import read_plan, write_plan


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return critiqued_store(tmp_path_factory.mktemp("shared") / "store", 60)


def test_mapped_plan_equals_the_plan(store: Store, tmp_path: Path) -> None:
    plan = small_plan(store)
    write_plan(tmp_path / "plan", plan)
    mapped = read_plan(tmp_path / "plan")
    assert mapped.order(0).tolist() == plan.order(0).tolist()
    assert (mapped.digest, mapped.counts_digest()) == (plan.digest, plan.counts_digest())
    assert mapped.summary() == plan.summary()
    counts = mapped.orders[0].counts
    assert not counts.flags.owndata
    assert not counts.flags.writeable


def test_error_of_one_rank_is_raised_on_all(tmp_path: Path) -> None:
    answers = run_ranks(2, ranks.fail_on_second_rank)
    assert answers == ["StoreError: disk 7 is gone"] * 2


def test_ranks_of_a_node_plan_once(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "node" / "plan"
    first, second = run_ranks(2, ranks.share_the_plan_of_a_node, store.root, path)
    assert first[0] == second[0] == small_plan(store).order(0).tolist()
    assert not path.exists()


def test_ranks_with_different_plans_raise(store: Store, tmp_path: Path) -> None:
    for answer in run_ranks(2, ranks.share_different_plans, store.root, tmp_path):
        assert answer.startswith(f"{FingerprintError.__name__}: ranks have different plans")
