"""Averaged weights, of complete and of sharded models."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from ixt_train.trainer.objective import LanguageModel


class EmaCallback(Callback):  # type: ignore[misc]
    """An exponential moving average (EMA) of the weights, with a warm-up.

    After step s the average moves by 1 - min(decay, s / (s + 10)) towards the weights. A rank of a
    sharded model averages its part. A checkpoint of one file contains the complete average.
    """

    def __init__(
        self,
        model: LanguageModel,
        decay: float,
        weights: dict[str, Tensor] | None = None,
        previous_steps: int = 0,
        *,
        sharded: bool = False,
        in_parts: bool = False,
    ) -> None:
        """Start an average, or continue that of a previous train run of `previous_steps` steps.

        Args:
            model: the model, before it is sharded.
            decay: the decay.
            weights: a complete average by name.
            previous_steps: steps that `weights` were averaged over.
            sharded: whether each rank will have a part of the weights.
            in_parts: whether checkpoints get the average from `tensors`.
        """
        self._decay, self._model, self._sharded = decay, model, sharded
        self._in_parts = in_parts
        self._names = [name for name, _ in self._inner.named_parameters()]
        self._complete = dict(weights or {})
        self._weights: list[Tensor] = []
        self._previous_steps = previous_steps if weights else 0

    @property
    def _inner(self) -> nn.Module:
        """The Hugging Face model, or its FSDP wrapper once it is sharded."""
        return self._model.model

    def _current_weights(self) -> list[Tensor]:
        """Return the weights that training changes, or the parts of this rank."""
        # After an evaluation FSDP2 keeps complete copies of some weights.
        for module in self._model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        weights = [parameter.detach() for parameter in self._inner.parameters()]
        return [w.to_local() if isinstance(w, DTensor) else w for w in weights]

    def fit_start(self, state: State, logger: Logger) -> None:
        """Start from the current weights, unless a checkpoint provided an average."""
        if self._weights:
            return
        current = self._current_weights()
        if self._complete and self._sharded:
            live = [weight.clone() for weight in current]
            self._load_complete()
            self._weights = [weight.clone() for weight in self._current_weights()]
            _copy(live, self._current_weights())
        elif self._complete:
            complete = [self._complete[name] for name in self._names]
            self._weights = [
                initial.to(weight, copy=True)
                for initial, weight in zip(complete, current, strict=True)
            ]
        else:
            self._weights = [weight.clone() for weight in current]
        self._complete = {}

    def _load_complete(self) -> None:
        """Load the complete average into the sharded model."""
        complete = self._inner.state_dict().keys() & self._complete.keys()
        weights: dict[str, Any] = {name: self._complete[name] for name in sorted(complete)}
        set_model_state_dict(
            self._inner, weights, options=StateDictOptions(full_state_dict=True, strict=False)
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the average by parameter name, in parts (DTensor) of a sharded model.

        Before training they are copies of the weights, for a checkpoint to load into.
        """
        if not self._weights:
            self._weights = [weight.clone() for weight in self._current_weights()]
        parameters = self._inner.parameters()
        parts = [_like(part, p) for part, p in zip(self._weights, parameters, strict=True)]
        return dict(zip(self._names, parts, strict=True))

    def batch_end(self, state: State, logger: Logger) -> None:
        """Update the average."""
        step = self._previous_steps + int(state.timestamp.batch)
        towards = 1 - min(self._decay, step / (step + 10))
        torch._foreach_lerp_(self._weights, self._current_weights(), towards)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model the averaged weights within the context."""
        current = self._current_weights()
        live = [weight.clone() for weight in current]
        _copy(self._weights, current)
        try:
            yield
        finally:
            _copy(live, self._current_weights())

    def state_dict(self) -> dict[str, Any]:
        """Return the average by parameter name; all ranks of a sharded model call this together.

        Ranks after the first one of a sharded model have no weights to write.
        """
        if self._in_parts:
            return {"previous_steps": self._previous_steps}
        if not self._sharded:
            weights = dict(zip(self._names, self._weights, strict=True))
        else:
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            with self.averaged():
                complete: dict[str, Any] = get_model_state_dict(self._inner, options=options)
            weights = {name: complete[name] for name in self._names if name in complete}
        return {"weights": weights, "previous_steps": self._previous_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the average of a checkpoint; one in parts loads it into `tensors`."""
        self._complete = dict(state.get("weights", {}))
        self._previous_steps = int(state["previous_steps"])


def _like(part: Tensor, parameter: Tensor) -> Tensor:
    """Return the part of a tensor with the layout of a parameter."""
    if not isinstance(parameter, DTensor):
        return part
    layout = parameter.device_mesh, parameter.placements
    return DTensor.from_local(part, *layout, shape=parameter.shape, stride=parameter.stride())


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(target, source)
