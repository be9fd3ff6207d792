"""One plan per node: the first rank computes it, and the others map its arrays from a file."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import distributed

from ixt_data.errors import FingerprintError
from ixt_data.mix import MixPlan
from ixt_data.storage import atomic_write
from ixt_train.stream import World, run_on_all_ranks

_ALIGNMENT = 64


def share_plan(path: Path, compute: Callable[[], MixPlan]) -> MixPlan:
    """Return the plan on all ranks, after a comparison of its digest and counts.

    Args:
        path: a file on this node, which exists only during the call.
        compute: called on the first rank of each node.

    Raises:
        FingerprintError: nodes have different plans.
    """
    world = World.detect()
    if world.size == 1:
        return compute()
    plan: MixPlan | None = None

    def compute_and_write() -> MixPlan | None:
        if not world.is_local_leader:
            return None
        computed = compute()
        if world.local_size > 1:
            write_plan(path, computed)
        return computed

    plan = run_on_all_ranks(compute_and_write)
    shared = run_on_all_ranks(lambda: read_plan(path) if plan is None else plan)
    if world.is_local_leader:
        # Maps keep the bytes; nothing outlives the job.
        path.unlink(missing_ok=True)
    _compare(shared)
    return shared


def _compare(plan: MixPlan) -> None:
    own = f"{plan.digest}-{plan.counts_digest()}"
    digests: list[str] = [""] * distributed.get_world_size()
    distributed.all_gather_object(digests, own)
    if len(set(digests)) > 1:
        raise FingerprintError(
            f"ranks have different plans: {digests}. All nodes must have the same version of ixt "
            "and see the same store"
        )


def write_plan(path: Path, plan: MixPlan) -> None:
    """Write a plan with its arrays, aligned, behind a head of objects."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(plan, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            offset = 0
            places = []
            for part in (memoryview(head), *raw):
                offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
                file.seek(offset)
                file.write(part)
                places.append((offset, part.nbytes))
                offset += part.nbytes
            table = np.array([*np.ravel(places), len(places)], "<i8")
            file.write(table.tobytes())

    atomic_write(path, write, durable=False)


def read_plan(path: Path) -> MixPlan:
    """Map a plan that `write_plan` wrote a moment ago; its arrays are read-only."""
    data = np.memmap(path, np.uint8, "r")
    count = int(data[-8:].view("<i8")[0])
    table = data[-8 - 16 * count : -8].view("<i8").reshape(count, 2)
    head, *buffers = [data[start : start + size] for start, size in table.tolist()]
    plan: MixPlan = pickle.loads(head.tobytes(), buffers=buffers)
    return plan
