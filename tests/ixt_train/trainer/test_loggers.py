"""Services that metrics go to, for real but offline."""

import sys
from pathlib import Path
from typing import Any

import pytest
from train_runs import Stopped, crash_at, run

from ixt_data.errors import ConfigError, MissingExtra

Tree = dict[str, Any]


def test_wandb_offline_and_mlflow_in_a_folder(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    logging = {"every": 1, "wandb": {"mode": "offline", "project": "sums"}, "mlflow": {}}
    with monkeypatch.context() as patch:
        crash_at(7, patch)
        with pytest.raises(Stopped):
            run(config_tree, logging=logging)
    result = run(config_tree, logging=logging)
    folder = Path(result.run_folder)
    client = MlflowClient((folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("ixt")
    assert experiment is not None
    # A resume continues the same record.
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "FINISHED"
    assert record.data.params["optimizer.lr"] == "0.003"
    assert record.data.metrics["loss/train/total"] == pytest.approx(result.losses["train"])
    history = client.get_metric_history(record.info.run_id, "loss/train/total")
    assert {point.step for point in history} == set(range(12))
    assert any(name.startswith("eval/loss/best/") for name in record.data.metrics)
    written = list((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(written) == 2
    assert all(path.stat().st_size > 1000 for path in written)
    assert len({path.name for path in written}) == 1


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_logger_without_its_package_names_the_extra(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'ixt\[{package}\]'"):
        run(config_tree, logging={package: {}})


def test_mlflow_with_a_rejected_address_raises(config_tree: Tree) -> None:
    with pytest.raises(ConfigError, match=r"logging\.mlflow: sqlite:"):
        run(config_tree, logging={"mlflow": {"tracking_uri": "sqlite:///x.db"}})
