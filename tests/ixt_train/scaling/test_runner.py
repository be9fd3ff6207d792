"""Train jobs in parallel processes: their updates, and failures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ixt_data.errors import IxtError
from ixt_train.scaling.runner import TrainJob, run_jobs


def job(folder: Path, name: str) -> TrainJob:
    return TrainJob(name, folder / f"{name}.yaml", folder / f"{name}.log", folder / name)


def test_run_jobs_with_a_failing_job_raises_and_starts_no_other(tmp_path: Path) -> None:
    jobs, updates = [job(tmp_path, "a"), job(tmp_path, "b")], list[TrainJob]()
    with pytest.raises(IxtError, match=r"train run 'a' failed with exit code 1: .*a\.yaml.*a\.log"):
        run_jobs(jobs, 1, updates.append)
    assert not jobs[0].is_finished
    assert not jobs[1].log.exists()
    assert all(update is jobs[0] for update in updates)


def test_run_jobs_updates_each_job_until_it_is_finished(
    config_tree: dict[str, Any], write_config: Callable[[dict[str, Any]], Path], tmp_path: Path
) -> None:
    path = write_config(config_tree | {"duration": "2ba", "eval": {"samples": 0}})
    only = TrainJob("only", path, tmp_path / "only.log", tmp_path / "run")
    states = list[tuple[bool, float]]()
    run_jobs([only], 2, lambda done: states.append((done.is_finished, done.seconds)))
    assert [is_finished for is_finished, _ in states].index(True) == len(states) - 1
    assert sorted(seconds for _, seconds in states) == [seconds for _, seconds in states]
    assert (tmp_path / "run" / "metrics.jsonl").exists()
