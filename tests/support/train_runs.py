"""Train runs from a config tree, and crashes in the middle of them."""

from typing import Any

import pytest

from ixt_data.config import validate
from ixt_train.config.train_config import TrainConfig
from ixt_train.trainer.training import TrainResult, train

Tree = dict[str, Any]


class Stopped(Exception):
    """Stands for a crash in the middle of a train run."""


def run(tree: Tree, **changes: Any) -> TrainResult:
    return train(validate(TrainConfig, tree | changes, "test"))


def crash_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from ixt_train.trainer.callbacks import LearningRateCallback

    def batch_end(self: Any, state: Any, logger: Any) -> None:
        if int(state.timestamp.batch) == step:
            raise Stopped

    monkeypatch.setattr(LearningRateCallback, "batch_end", batch_end, raising=False)
