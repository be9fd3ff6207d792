"""A sharded model that ranks call different numbers of times."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from ixt_train.stream import host_group


@contextmanager
def in_lockstep(model: Any) -> Iterator[Any]:
    """Let each rank call a sharded model as often as it likes within the context.

    Ranks of a sharded model exchange its weights in each call. A rank that has left the context
    makes calls with one token, until all ranks have left it.
    """
    group = host_group()
    if group is None:
        yield model
        return
    lockstep = _LockstepModel(model, group)
    try:
        yield lockstep
    finally:
        lockstep.wait_for_others()


class _LockstepModel:
    def __init__(self, model: Any, group: Any) -> None:
        self._model, self._group = model, group

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self._is_anyone_calling(True)
        return self._model(*arguments, **options)

    @torch.inference_mode()
    def wait_for_others(self) -> None:
        token = torch.zeros(1, 1, dtype=torch.long, device=self._model.device)
        while self._is_anyone_calling(False):
            self._model(input_ids=token, use_cache=False)

    def _is_anyone_calling(self, own: bool) -> bool:
        count = torch.tensor(int(own))
        distributed.all_reduce(count, group=self._group)
        return bool(count)
