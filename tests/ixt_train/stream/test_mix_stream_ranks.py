"""Several processes and nodes draw what one process draws."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from numbers_stream import MIX, planned, stream
from torch.utils.data import DataLoader

from ixt_train.stream.loading import data_loader
from ixt_train.stream.mix_stream import MixStream

pytestmark = pytest.mark.stream


def rank(n: int, number: int, port: int, ds_of, answers) -> None:
    """One process of `n`; forked, since a new import of torch takes longer than the test."""
    world = {"WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n, "RANK": number, "LOCAL_RANK": number}
    os.environ |= {key: str(value) for key, value in world.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ds = ds_of(32 // n)
    loader = DataLoader(ds, batch_size=ds.batch_size, num_workers=1, collate_fn=list)
    epochs = range(ds.plan.epochs)
    answers.put((number, [[s["draw"] for s in batch] for _ in epochs for batch in loader]))


def global_batches(n: int, ds_of) -> list[list[int]]:
    """What `n` processes draw together, step by step."""
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [fork.Process(target=rank, args=(n, i, port, ds_of, answers)) for i in range(n)]
    for process in processes:
        process.start()
    try:
        per_rank = dict(answers.get(timeout=300) for _ in processes)
        for process in processes:
            process.join()
    finally:
        # A rank that hangs would keep pytest from its end.
        for process in processes:
            process.kill()
    return [list(chain(*parts)) for parts in zip(*per_rank.values(), strict=True)]


def test_two_ranks_draw_the_global_batches_of_one(store, plan, tmp_path):
    ours = global_batches(2, lambda size: stream(store, plan, tmp_path, size))
    expected = np.array(planned(plan)).reshape(-1, 32)
    assert [sorted(batch) for batch in ours] == np.sort(expected).tolist()


def test_two_ranks_resume_where_one_stopped(store, plan, tmp_path):
    with stream(store, plan, tmp_path, 32) as ds:
        next(iter(ds))
        state = ds.state_dict(96, True)

    def resumed(size: int) -> MixStream:
        ds = stream(store, plan, tmp_path, size)
        ds.load_state_dict(state)
        return ds

    expected = np.array(planned(plan)).reshape(-1, 32)[3:]
    ours = global_batches(2, resumed)[: len(expected)]
    assert [sorted(batch) for batch in ours] == np.sort(expected).tolist()


def test_two_ranks_resume_the_loader_of_one(store, plan, tmp_path):
    with stream(store, plan, tmp_path, 32) as ds:
        loader = data_loader(ds)
        for _, _batch in zip(range(3), loader, strict=False):
            pass
        state = loader.state_dict()

    def resumed(size: int) -> MixStream:
        ds = stream(store, plan, tmp_path, size)
        data_loader(ds).load_state_dict(state)
        assert data_loader(ds).state_dict() == state
        return ds

    expected = np.array(planned(plan)).reshape(-1, 32)[3:]
    ours = global_batches(2, resumed)[: len(expected)]
    assert [sorted(batch) for batch in ours] == np.sort(expected).tolist()


@pytest.mark.slow
def test_two_nodes_of_two_ranks_draw_the_global_batches_of_one_process(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "one", 32) as ds:
        state = ds.state_dict(96, True) | {"epoch": 1, "sample_in_epoch": 96}
    job = {
        "store": store.root, "mix": MIX.model_dump(mode="json"), "samples": plan.samples,
        "batch": 32, "epoch_samples": 256, "local": str(tmp_path), "out": str(tmp_path),
        "state": state,
    }  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2",
              "--master-addr=127.0.0.1", f"--master-port={port}"]  # fmt: skip
    script = str(Path(__file__).parents[2] / "support/one_rank.py")
    nodes = [
        subprocess.Popen([*launch, f"--node-rank={n}", script, json.dumps(job)],
                         stderr=subprocess.PIPE, text=True)
        for n in range(2)
    ]  # fmt: skip
    errors = [node.communicate(timeout=600)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    expected = np.array(planned(plan)).reshape(-1, 32)
    for name, first in (("fresh", 0), ("resumed", (plan.epoch_samples + 96) // 32)):
        batches = zip(*(rank[name] for rank in ranks), strict=True)
        ours = [sorted(chain(*parts)) for parts in batches]
        assert ours == np.sort(expected[first:]).tolist()
