"""The local folder of a stream: its lock, its limit, and its contents."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from numbers_stream import draws, planned, stream
from torch.utils.data import DataLoader

from ixt_data.errors import StoreError
from ixt_data.mix import Mix, plan_mix
from ixt_train.stream.mix_stream import MixStream

pytestmark = pytest.mark.stream


def die_midway(ds_of) -> None:
    batches = iter(DataLoader(ds_of(), batch_size=8, num_workers=2, collate_fn=list))
    next(batches)
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_job_does_not_block_the_next(store, plan, tmp_path):
    def ds_of() -> MixStream:
        return stream(store, plan, tmp_path)

    job = multiprocessing.get_context("fork").Process(target=die_midway, args=(ds_of,))
    job.start()
    job.join(30)
    assert job.exitcode == -signal.SIGKILL
    # What it left may be gone already: any stream that begins on this machine sweeps it.
    with ds_of() as ds:
        assert len(shared_by(tmp_path)) == 1
        assert draws(ds, workers=2) == planned(plan)
    assert not shared_by(tmp_path)


def shared_by(folder: Path) -> list[Path]:
    """Shared memory of streams that read into a folder."""
    found = Path("/dev/shm").glob("*_locals")
    return [path for path in found if str(folder).encode() in path.read_bytes()]


def test_evicted_shards_are_copied_again(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "sizes") as ds:
        size = max(shard.get_max_size() for shard in ds.shards)
    with pytest.warns(UserWarning, match="cache_limit"):
        ds = stream(store, plan, tmp_path / "local", cache_limit=4 * size)
    with ds:
        assert draws(ds, workers=2) == planned(plan)
        assert ds.cache_usage <= 4 * size


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
        held = str(ds.streams[0].local)
        code = "import sys, fcntl; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | 4)"
        done = subprocess.run([sys.executable, "-c", code, f"{held}/.lock"], capture_output=True)
        assert b"BlockingIOError" in done.stderr
