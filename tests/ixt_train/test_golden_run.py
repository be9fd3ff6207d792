"""Train runs that former versions started: today's code resumes them."""

import json
from pathlib import Path

import pytest
from golden import RUN, unpack
from train_runs import losses, run

from ixt_data.errors import FingerprintError
from ixt_train.runs.draws import read_draws


def test_golden_run_resumes(tmp_path: Path) -> None:
    store, folder = unpack("store-2", tmp_path), unpack("run-2", tmp_path)
    before, draws = losses(folder), list(read_draws(folder))
    assert [step for step, _ in draws] == [1, 2]
    mix = RUN["mix"] | {"store": str(store)}
    with pytest.raises(FingerprintError, match="seed"):
        run(RUN, mix=mix, run_folder=str(folder), seed=1)
    result = run(RUN, mix=mix, run_folder=str(folder))
    assert result.steps == 4
    assert losses(folder)[:2] == before[:2]
    resumed = list(read_draws(folder))
    assert resumed[:2] == draws
    assert [step for step, _ in resumed] == [1, 2, 3, 4]
    assert json.loads((folder / "plan.json").read_text())["digest"] == result.digest
