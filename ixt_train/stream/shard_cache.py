"""The local side of the stream: its folder, the open shards, and the downloads in progress."""

import fcntl
import os
import shutil
import threading
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ixt_data.errors import StoreError
from ixt_train.stream.families import FamilyReader, OpenShard
from ixt_train.stream.world import World


class OpenShards:
    """The shards that this process has mapped; it closes the ones that it opened first.

    The offsets of a shard use some 40 bytes per sample, and a process may have 65,530 maps.
    """

    def __init__(self, max_shards: int = 1 << 14, max_samples: int = 1 << 23) -> None:
        self._max_shards, self._max_samples = max_shards, max_samples
        self._open = deque[FamilyReader]()
        self._open_samples = 0

    def open(self, reader: FamilyReader) -> OpenShard:
        """Map a shard; raise FileNotFoundError if a file is not in the local folder."""
        opened = reader.open()
        self._open.append(reader)
        self._open_samples += reader.samples
        while len(self._open) > self._max_shards or (
            self._open_samples > self._max_samples and len(self._open) > 1
        ):
            self._close(self._open.popleft())
        return opened

    def close_evicted(self, needed: Collection[FamilyReader]) -> None:
        """Close shards whose files are evicted: a map keeps their bytes on the disk."""
        evicted = [r for r in self._open if r not in needed and not r.is_cached]
        for reader in evicted:
            self._open.remove(reader)
            self._close(reader)

    def _close(self, reader: FamilyReader) -> None:
        reader.opened = None
        self._open_samples -= reader.samples


class Prefetcher:
    """A prefetcher: threads copy the shards that are read next, while others are read.

    If all shards are open already, it starts no thread.
    """

    def __init__(
        self,
        readers: Sequence[FamilyReader],
        shards: npt.NDArray[np.int64],
        samples: int,
        threads: int,
    ) -> None:
        """Set the samples of one worker.

        Args:
            readers: all shards.
            shards: shard of each sample, in the order of reading, int64[N].
            samples: number of samples to look ahead.
            threads: number of concurrent copies.
        """
        self._readers = readers
        self._shards, self._samples, self._threads = shards, samples, threads
        self._pool: ThreadPoolExecutor | None = None
        self._pending: dict[int, Future[None]] = {}
        self._position = 0

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def prefetch_until(self, position: int) -> None:
        """Submit the copying of all shards for samples before `position` and soon after it."""
        stop = min(position + self._samples, len(self._shards))
        upcoming = self._shards[self._position : stop]
        self._position = stop
        _, first = np.unique(upcoming, return_index=True)
        for shard in upcoming[np.sort(first)].tolist():
            if self._readers[shard].opened is None and shard not in self._pending:
                self._pending[shard] = self._submit(shard)

    def _submit(self, shard: int) -> "Future[None]":
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="shards")
        return self._pool.submit(self._readers[shard].fetch)

    def wait(self, shard: int) -> None:
        """Wait until a shard is copied; raise the exception of its copying."""
        pending = self._pending.pop(shard, None)
        if pending is not None:
            pending.result()


class LocalFolder:
    """A folder that one job at a time may use; its lock ends with the process that has it."""

    _open_paths: ClassVar[set[Path]] = set()
    _guard = threading.Lock()

    def __init__(self, path: Path, world: World) -> None:
        self.path = path.absolute()
        self._world = world
        self._descriptor: int | None = None
        self._owner_pid = os.getpid()

    def lock(self) -> None:
        """Lock the folder for this node, on the node's first rank.

        Raises:
            StoreError: another process, or another stream of this process, has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._world.is_local_leader:
            return
        with self._guard:
            if self.path in self._open_paths:
                raise StoreError(f"{self.path}: a stream of this process is open there; close it")
            self._descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                # Not inherited by workers, unlike flock: the workers of a killed job may run on.
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._descriptor)
                raise StoreError(
                    f"{self.path}: another job is reading into this folder. Give each train run a "
                    "separate local folder"
                ) from None
            self._open_paths.add(self.path)

    def release(self) -> bool:
        """Empty the folder and release its lock; return whether this process had it."""
        if self._descriptor is None or os.getpid() != self._owner_pid:
            return False
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)
        self._descriptor = None
        with self._guard:
            self._open_paths.discard(self.path)
        return True
