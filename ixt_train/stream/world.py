"""The processes of a job: their numbers, and errors that all of them raise together."""

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

from torch import distributed

from ixt_data.errors import MixError
from ixt_data.mix import MixPlan

T = TypeVar("T")


def is_distributed() -> bool:
    """Return whether this process is in a process group of torch."""
    return distributed.is_available() and distributed.is_initialized()


@dataclass(frozen=True)
class World:
    """This process among all processes of the job.

    Attributes:
        rank, size: number of this process, and number of processes.
        local_rank, local_size: the same on this node.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def detect(cls) -> "World":
        """Read the process group of torch, or else the variables that `torchrun` sets."""
        if is_distributed():
            rank, size = distributed.get_rank(), distributed.get_world_size()
        else:
            rank, size = _variable("RANK", 0), _variable("WORLD_SIZE", 1)
        return cls(rank, size, _variable("LOCAL_RANK", 0), _variable("LOCAL_WORLD_SIZE", 1))

    @property
    def is_local_leader(self) -> bool:
        """Whether this process is the first of its node."""
        return self.local_rank == 0

    @property
    def position(self) -> int:
        """Offset of this process's first sample in a global batch; the stride is `size`.

        Nodes alternate, then the ranks of a node.
        """
        return self.local_rank * (self.size // self.local_size) + self.rank // self.local_size


def _variable(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def host_group() -> distributed.ProcessGroup | None:
    """Return a group of all processes that talks through the CPU; None for a single process.

    A message through a GPU waits for the work that the GPU has. All ranks call this together.
    """
    if not is_distributed() or distributed.get_world_size() == 1:
        return None
    return _host_group(distributed.group.WORLD)


@lru_cache(1)
def _host_group(world: Any) -> distributed.ProcessGroup:
    group: distributed.ProcessGroup = distributed.new_group(backend="gloo")
    return group


def gather_from_all_ranks(value: T) -> list[T]:
    """Return the values of all ranks, in their order; all ranks call this together."""
    group = host_group()
    if group is None:
        return [value]
    values: list[T | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value, group=group)
    return cast("list[T]", values)


def run_on_all_ranks(action: Callable[[], T]) -> T:
    """Run an action on every rank, and wait for all; raise everywhere the error of any rank.

    Without a process group it is a plain call.
    """
    result, error = None, None
    try:
        result = action()
    except Exception as exception:
        error = exception
    if is_distributed() and distributed.get_world_size() > 1:
        errors: list[Exception | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(errors, _picklable(error))
        error = error or next((other for other in errors if other is not None), None)
    if error is not None:
        raise error
    return cast("T", result)


def _picklable(error: Exception | None) -> Exception | None:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def check_sizes(plan: MixPlan, batch_size: int, world: World) -> None:
    """Refuse sizes that would repeat or drop samples.

    Raises:
        MixError: the samples of the plan or of an epoch are not a multiple of the global batch.
    """
    step = batch_size * world.size
    for name, size in (("samples", plan.samples), ("epoch", plan.epoch_samples)):
        if size % step:
            below, above = size // step * step, -(-size // step) * step
            valid_sizes = f"{below:,} or {above:,}" if below else f"{above:,}"
            raise MixError(
                f"{name}: {size:,} samples are not a multiple of the global batch of {step:,} "
                f"({batch_size:,} x {world.size:,} processes); some would be repeated. "
                f"Nearest: {valid_sizes}; plan with plan_mix(..., batch={step})"
            )
