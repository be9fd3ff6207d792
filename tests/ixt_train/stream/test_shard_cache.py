"""The local folder of a stream: its lock, its limit, and its contents."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from critiqued import critiqued_store
from numbers_stream import draws, planned, stream
from torch.utils.data import DataLoader

from ixt_data.errors import ConfigError, StoreError
from ixt_data.mix import Mix, plan_mix, samples_of
from ixt_train.stream.families import FamilyReader
from ixt_train.stream.loading import data_loader
from ixt_train.stream.mix_stream import MixStream

pytestmark = pytest.mark.stream


def torch_loader(ds: MixStream) -> DataLoader:
    return DataLoader(ds, batch_size=8, num_workers=2, collate_fn=list)


def column_loader(ds: MixStream) -> DataLoader:
    return data_loader(ds, workers=2)


def shared_memory() -> set[str]:
    """Return the files in shared memory that this process and its children map."""
    found = set()
    for process in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            if " /dev/shm/" in line and not line.endswith("(deleted)"):
                found.add(line.split(maxsplit=5)[5])
    return found


def die_midway(ds_of, loader, mapped: Path) -> None:
    # A forked process has the maps of earlier tests.
    before = shared_memory()
    batches = iter(loader(ds_of()))
    next(batches)
    mapped.write_text("\n".join(shared_memory() - before))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("loader", [torch_loader, column_loader])
def test_killed_job_leaves_no_shared_memory_and_does_not_block_the_next(
    store, plan, tmp_path, loader
):
    def ds_of() -> MixStream:
        return stream(store, plan, tmp_path)

    # Other tests put files of their own into shared memory meanwhile.
    mapped = tmp_path / "mapped.txt"
    job = multiprocessing.get_context("fork").Process(
        target=die_midway, args=(ds_of, loader, mapped)
    )
    job.start()
    job.join(300)
    assert job.exitcode == -signal.SIGKILL
    assert not [name for name in mapped.read_text().splitlines() if Path(name).exists()]
    with ds_of() as ds:
        assert draws(ds, workers=2) == planned(plan)
    assert not list(tmp_path.rglob("*.mds"))


def test_stream_leaves_no_shared_memory(store, plan, tmp_path):
    foreign = Path("/dev/shm") / f"{os.getpid()}_locals"
    foreign.write_bytes(b"of another job")
    before = shared_memory()
    try:
        with stream(store, plan, tmp_path) as ds:
            assert draws(ds, workers=2) == planned(plan)
            assert shared_memory() <= before
        assert foreign.exists()
    finally:
        foreign.unlink()


@pytest.fixture(scope="module")
def tiny_shards(tmp_path_factory):
    """A store of 500 shards of one document each."""
    return critiqued_store(tmp_path_factory.mktemp("tiny") / "store", 500, per_shard=1)


def test_batch_that_touches_many_shards_needs_few_file_handles(tiny_shards, tmp_path, monkeypatch):
    plan = plan_mix(Mix(critic="numbers"), 500, store=tiny_shards, batch=500)
    # Threads that copy shards use handles while they do.
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    with stream(tiny_shards, plan, tmp_path, batch_size=500) as ds:
        resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 64, before[1]))
        try:
            assert draws(ds) == planned(plan)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("cache_limit", [None, 1 << 30])
def test_limit_that_does_not_bind_parses_each_shard_once(
    tiny_shards, tmp_path, monkeypatch, cache_limit
):
    mix = Mix(critic="numbers", selections=[{"name": "all", "where": "documents.row < 300"}])
    plan = plan_mix(mix, 600, store=tiny_shards, batch=20, epoch_samples=200)
    parsed = []
    original = FamilyReader.open
    monkeypatch.setattr(FamilyReader, "open", lambda self: parsed.append(self) or original(self))
    with stream(tiny_shards, plan, tmp_path, batch_size=20, cache_limit=cache_limit) as ds:
        assert draws(ds) == planned(plan)
    assert len(parsed) == len(set(parsed)) == len(plan.shards)


def test_evicted_shard_is_closed(store, plan, tmp_path):
    with stream(store, plan, tmp_path, cache_limit=1 << 30) as ds:
        list(ds)
        first, second = ds.shards[:2]
        assert first.opened is not None
        for path in first.paths:
            path.unlink()
        start = int(ds._shard_starts[1])
        draw = next(d for d in planned(plan) if 0 <= samples_of(np.array([d]))[0] - start < 5)
        assert ds[draw]["draw"] == draw
        assert first.opened is None
        assert second.opened is not None


def test_limit_below_four_shards_raises(store, plan, tmp_path):
    with pytest.raises(ConfigError, match=r"cache_limit: 100 bytes is too low. Set at least"):
        stream(store, plan, tmp_path, cache_limit=100)


def test_evicted_shards_are_copied_again(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "sizes") as ds:
        size = max(shard.max_bytes for shard in ds.shards)
    with pytest.warns(UserWarning, match="cache_limit"):
        ds = stream(store, plan, tmp_path / "local", cache_limit=4 * size)
    with ds:
        assert draws(ds, workers=2) == planned(plan)
        assert ds.files.bytes_used <= 4 * size
        ds.load_state_dict(ds.state_dict(0, True) | {"epoch": 0})
        # The process of the loader reads the files of the workers' chunks itself.
        loader = data_loader(ds, workers=2)
        found = [sample for _ in range(plan.epochs) for batch in loader for sample in batch]
        assert ds.files.bytes_used <= 4 * size
        assert found == ds[planned(plan)]


def test_shards_without_draws_are_never_copied(store, tmp_path):
    where = "documents.shard IN (SELECT min(shard) FROM documents)"
    mix = Mix(critic="numbers", selections=[{"name": "few", "where": where}])
    plan = plan_mix(mix, store=store)
    with stream(store, plan, tmp_path, batch_size=1) as ds:
        list(ds)
        assert len(plan.shards) == 1
        assert len(list(tmp_path.rglob("*.mds"))) == 2
    assert not list(tmp_path.rglob("*.mds"))


def test_local_folder_serves_one_stream_at_a_time(store, plan, tmp_path):
    with stream(store, plan, tmp_path), pytest.raises(StoreError, match="open there"):
        stream(store, plan, tmp_path)
    with stream(store, plan, tmp_path) as ds:
        held = str(ds.local)
        code = "import sys, fcntl; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | 4)"
        done = subprocess.run([sys.executable, "-c", code, f"{held}/.lock"], capture_output=True)
        assert b"BlockingIOError" in done.stderr
