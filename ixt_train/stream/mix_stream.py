"""The stream: a mix plan as a torch dataset with the same order of samples on any machine."""

import atexit
import resource
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from math import ceil
from pathlib import Path
from time import sleep, time_ns
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from filelock import FileLock
from streaming import StreamingDataset
from streaming.base.constant import RESUME, TICK
from streaming.base.dataset import _ShardState
from streaming.base.shared import SharedMemory, _get_path
from streaming.base.world import World
from torch import distributed

from ixt_data.errors import FingerprintError, MixError, StoreError
from ixt_data.mix import Condition, Ints, MixPlan, regimes_of, samples_of
from ixt_train.conditioning import Choice, Conditioner
from ixt_train.stream.families import FamilyReader, FamilyStream, OpenShard
from ixt_train.stream.projection import logical_shards
from ixt_train.stream.shard_cache import LocalFolder, OpenShards, Prefetcher
from ixt_train.stream.shard_columns import ShardColumns, chunks

_MAX_OPEN, _MAX_OPEN_LIMITED = 1024, 64
# Every open shard uses two file handles; shards may use half of the process's handles.
_HANDLES = 2
_RETRIES = 7


class MixStream(StreamingDataset):  # type: ignore[misc]
    """The samples of a mix plan as a torch dataset.

    Each sample is a dictionary: `input_ids` int32[T], `loss_weights` float32[T] (weight of the loss
    at predicting each token), `doc_id` (16 bytes) and `draw` (its number in the plan). Without a
    conditioner it is `doc_id`, `draw`, `text`, `critique`, `score`, `spans` and `has_feedback`.

    Any DataLoader iterates it, with any number of workers. `state_dict` and `load_state_dict`
    resume it on any number of processes that divides the global batch. A missing or changed
    shard raises.

    Examples:
        .. code-block:: python

            plan = plan_mix(mix, samples=64_000, batch=32)
            conditioner = Conditioner(tokenizer, mix.condition)
            with MixStream(plan, conditioner, local="shards", batch_size=32) as stream:
                loader = DataLoader(stream, batch_size=32, collate_fn=Collator(0, 1024))
                for batch in loader:
                    print(batch["input_ids"].shape)
    """

    def __init__(
        self,
        plan: MixPlan,
        conditioner: Conditioner | None = None,
        *,
        store: str | Path | None = None,
        local: str | Path,
        batch_size: int,
        feedback: Choice = "given",
        cache_limit: int | None = None,
        predownload: int | None = None,
        threads: int = 4,
        timeout: float = 60.0,
        retries: int = 3,
    ) -> None:
        """Lock the local folder and check the sizes; this reads no shard yet.

        Args:
            plan: the draws.
            conditioner: encoder of documents as tokens; None yields the columns, with
                `has_feedback` true if the draw has its feedback.
            store: root of the store; by default the one that the plan's mix names.
            local: folder for uncompressed shards; `close` empties it.
            batch_size: samples per process and step.
            feedback: feedback for every sample, overriding the mix.
            cache_limit: maximum bytes in `local`; None sets no limit.
            predownload: samples to look ahead for missing shards.
            threads: download threads per process.
            timeout: seconds per download.
            retries: attempts per download.

        Raises:
            MixError: the plan's sizes would repeat samples to fill a batch.
            StoreError: another job uses `local`.
        """
        world = World.detect()
        _check_sizes(plan, batch_size, world)
        self.plan, self.conditioner, self.feedback = plan, conditioner, feedback
        self._conditioners = _conditioners(conditioner, plan.conditions)
        self._folder = LocalFolder(Path(local) / f"{plan.version}-{plan.digest}", world)
        if distributed.is_available() and distributed.is_initialized():
            # Each rank looks for free shared memory. Previous streams must have released theirs, or
            # the ranks choose different names.
            distributed.barrier()
        try:
            stream = FamilyStream(
                str(store or plan.mix.store),
                logical_shards(plan, conditioner),
                str(self._folder.path),
                retries=retries,
                timeout=timeout,
            )
            super().__init__(
                streams=[stream],
                batch_size=batch_size,
                num_canonical_nodes=1,
                shuffle=False,
                cache_limit=cache_limit,
                predownload=predownload,
            )
        except BaseException:
            self._folder.release()
            raise
        self.epoch_size = plan.epoch_samples
        self.length = ceil(plan.epoch_samples / self._parallel_rank_world.num_ranks)
        self.threads = threads
        max_handles = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 // _HANDLES
        max_open = _MAX_OPEN_LIMITED if cache_limit else _MAX_OPEN
        self._shards = OpenShards(max(min(max_open, max_handles), 1))
        self._warn_of_thrashing()

    def __enter__(self) -> "MixStream":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the uncompressed shards; release the local folder and shared memory."""
        for shared in self._shared_memory():
            # Streaming would keep it, and a file handle each, until the process ends.
            atexit.unregister(shared.cleanup)
            shared.cleanup()
        if self._folder.release():
            for path in (self._cache_filelock_path, self._shared_barrier.filelock_path):
                Path(path).unlink(missing_ok=True)

    def _shared_memory(self) -> Iterator[SharedMemory]:
        yield self._locals_shm
        if hasattr(self, "_resume_shm"):
            yield self._resume_shm
        for array in (
            self._shared_barrier._arr,
            self._next_epoch.arr,
            self._cache_usage.arr,
            self._shard_states,
            self._shard_access_times,
        ):
            yield array.shm

    def _warn_of_thrashing(self) -> None:
        if not self.cache_limit:
            return
        sizes = [shard.get_raw_size() for shard in self.shards]
        needed = round(self.plan.shards_at_once * sum(sizes) / len(sizes))
        if needed > self.cache_limit:
            warnings.warn(
                f"cache_limit of {self.cache_limit:,} bytes is less than the {needed:,} bytes of "
                f"the {self.plan.shards_at_once:,} shards that the shuffle mixes: shards will be "
                f"downloaded repeatedly. Raise cache_limit, or plan a block below "
                f"{self.plan.block:,} samples",
                stacklevel=3,
            )

    # Order

    def resample_streams(
        self, epoch: int, stream_id: int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the draws of one epoch in order, which streaming partitions among processes."""
        draws = self.plan.order(epoch)
        self.epoch_size = len(draws)
        return np.array([len(draws)]), draws

    # Iteration

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield this worker's samples of the next epoch, or from the loaded state on."""
        # Chained: each sample passes through only one generator.
        return chain.from_iterable(self._chunks_of_samples())

    def _chunks_of_samples(self) -> Iterator[Iterator[dict[str, Any]]]:
        self._unique_worker_world = self._unique_rank_world.detect_workers()
        self._parallel_worker_world = self._parallel_rank_world.detect_workers()
        epoch, sample_in_epoch = self._resume_incr_epoch()
        draws = self._get_work(epoch, sample_in_epoch)
        # Workers without a complete batch get padding, which is not a sample.
        draws = draws[draws >= 0]
        shards, rows = self._locate(draws)
        with Prefetcher(
            self.shards, self.prepare_shard, shards, self.predownload, self.threads
        ) as prefetcher:
            for chunk in chunks(len(draws)):
                prefetcher.prefetch_until(chunk.stop)
                yield self._samples(draws[chunk], shards[chunk], rows[chunk], prefetcher)

    def _locate(self, draws: Ints) -> tuple[Ints, Ints]:
        """Return the shard of each draw, and its row there."""
        samples = samples_of(draws)
        shards = np.searchsorted(self.sample_offset_per_shard, samples, "right") - 1
        return shards, samples - self.sample_offset_per_shard[shards]

    def _samples(
        self, draws: Ints, shards: Ints, rows: Ints, prefetcher: Prefetcher | None = None
    ) -> Iterator[dict[str, Any]]:
        numbers = np.unique(shards)
        if self.cache_limit:
            self._shard_access_times.numpy()[numbers] = time_ns()
        opened = {number: self._open(number, prefetcher) for number in numbers.tolist()}
        columns = feedback_columns = ShardColumns(opened, shards, rows)
        feedback_rows = self.plan.feedback_rows(draws, rows, self.samples_per_shard[shards])
        if feedback_rows is not rows:
            feedback_columns = ShardColumns(opened, shards, feedback_rows)
        if self.conditioner is None:
            return self._documents(draws, columns, feedback_columns)
        return self._encoded(draws, columns, feedback_columns)

    def _documents(
        self, draws: Ints, columns: ShardColumns, feedback_columns: ShardColumns
    ) -> Iterator[dict[str, Any]]:
        for doc_id, draw, text, critique, score, spans, has_feedback in zip(
            columns.doc_ids,
            draws.tolist(),
            columns.texts("text"),
            feedback_columns.texts("critique"),
            feedback_columns.scores,
            columns.spans,
            self.plan.feedback_given(draws).tolist(),
            strict=True,
        ):
            yield {
                "doc_id": doc_id,
                "draw": draw,
                "text": text,
                "critique": critique,
                "score": score,
                "spans": spans,
                "has_feedback": has_feedback,
            }

    def _encoded(
        self, draws: Ints, columns: ShardColumns, feedback_columns: ShardColumns
    ) -> Iterator[dict[str, Any]]:
        assert self.conditioner is not None
        dtype = self.conditioner.encoder.dtype
        choices: list[Choice] = [
            conditioner.default_choice if self.feedback == "given" else self.feedback
            for conditioner in self._conditioners
        ]
        for draw, phase, doc_id, text, critique, score, spans, has_feedback in zip(
            draws.tolist(),
            regimes_of(draws)[0].tolist(),
            columns.doc_ids,
            columns.tokens_or_text("tokens", "text", dtype),
            feedback_columns.tokens_or_text("critique_tokens", "critique", dtype),
            feedback_columns.scores,
            columns.spans,
            self.plan.feedback_given(draws).tolist(),
            strict=True,
        ):
            feedback = choices[phase] if has_feedback or self.feedback != "given" else "none"
            encoded = self._conditioners[phase].encode(text, critique, score, spans, feedback)
            yield {
                "input_ids": encoded.input_ids,
                "loss_weights": encoded.loss_weights,
                "doc_id": doc_id,
                "draw": draw,
            }

    def _open(self, shard: int, prefetcher: Prefetcher | None) -> OpenShard:
        reader: FamilyReader = self.shards[shard]
        if reader.opened is not None:
            return reader.opened
        if prefetcher is not None:
            prefetcher.wait(shard)
        for _ in range(_RETRIES):
            try:
                return self._shards.open(reader)
            except FileNotFoundError:
                # Not copied yet, or evicted by another process meanwhile.
                self.prepare_shard(shard)
        raise StoreError(
            f"{reader.parts[0].raw_data.basename}: evicted {_RETRIES} times before it was read. "
            f"Raise cache_limit, now {self.cache_limit:,} bytes"
        )

    def get_item(self, sample_id: int, retry: int = _RETRIES) -> dict[str, Any]:
        """Return the sample of one draw of the plan: the one that `__iter__` yields for it."""
        sample: dict[str, Any] = self.__getitem__([sample_id])[0]
        return sample

    def __getitem__(self, at: Any) -> Any:
        """Return the sample of one draw, or a list of samples of several draws."""
        if isinstance(at, int | np.integer):
            return self.get_item(int(at))
        draws = np.array([int(draw) for draw in at], np.int64)
        return list(self._samples(draws, *self._locate(draws))) if len(draws) else []

    # Shards

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Copy a shard here, or wait until another process has copied it.

        Unlike in streaming, a failure releases the shard for other processes and raises here. The
        cache space is reserved before the bytes arrive.

        Raises:
            StoreError: the shard is missing, or was changed.
        """
        # A separate lock object: threads would share the state of a common one.
        lock = FileLock(self._cache_filelock_path)
        reader: FamilyReader = self.shards[shard_id]
        while not self._claim(lock, shard_id, reader):
            if reader.is_cached and self._shard_states[shard_id] == _ShardState.LOCAL:
                return
            if not blocking:
                return
            sleep(TICK)
        reserved = reader.get_max_size()
        try:
            delta = self.streams[0].prepare_shard(reader)
        except BaseException:
            with lock:
                self.cache_usage -= reserved
                self._shard_states[shard_id] = _ShardState.REMOTE
            raise
        with lock:
            self.cache_usage += delta - reserved
            self._shard_access_times[shard_id] = time_ns()
            self._shard_states[shard_id] = _ShardState.LOCAL

    def _claim(self, lock: FileLock, shard_id: int, reader: FamilyReader) -> bool:
        """Claim the copying of a shard; return whether this process has to copy it."""
        with lock:
            state = self._shard_states[shard_id]
            if state == _ShardState.PREPARING or (state == _ShardState.LOCAL and reader.is_cached):
                return False
            size = reader.get_max_size()
            while self.cache_limit and self.cache_usage + size > self.cache_limit:
                if not (self._shard_states.numpy() == _ShardState.LOCAL).any():
                    return False
                self._evict_coldest_shard()
            self.cache_usage += size
            self._shard_states[shard_id] = _ShardState.PREPARING
            return True

    # State

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """Return the position of the stream and its plan, for a checkpoint.

        Args:
            num_samples: samples of this epoch that were used, over all processes.
            from_beginning: whether they count from the start of the epoch instead of this process.
                Composer counts from the start; 0 then means that the previous epoch has ended.
        """
        state: dict[str, Any] = super().state_dict(num_samples, from_beginning)
        if from_beginning and num_samples == 0:
            state |= {"epoch": self.next_epoch, "sample_in_epoch": 0}
        return {**state, **self._identity}

    def load_state_dict(self, obj: dict[str, Any]) -> None:
        """Resume where `state_dict` was taken.

        Raises:
            FingerprintError: the state is of another snapshot, plan or tokenizer.
        """
        for key, expected in self._identity.items():
            if obj.get(key) != expected:
                raise FingerprintError(
                    f"the checkpoint's {key} is {obj.get(key)}, this train run's is {expected}: "
                    "the order of samples would change. Resume with the snapshot, mix, sizes and "
                    "tokenizer of the checkpoint, or start a new train run"
                )
        super().load_state_dict(obj)
        # Streaming ignores a state older than this object's next epoch.
        if self._unique_rank_world.is_local_leader:
            self.next_epoch = obj["epoch"]

    def _resume(self, world: World, epoch: int) -> tuple[int, int]:
        """Return epoch and samples done; streaming would leave a file handle open each time."""
        name = _get_path(self._shm_prefix_int, RESUME)
        try:
            shared = SharedMemory(name, create=False, auto_cleanup=False)
        except FileNotFoundError:
            return epoch, 0
        state = orjson.loads(bytes(shared.buf).partition(b"\0")[0])
        shared.cleanup()
        if state["epoch"] < epoch:
            return epoch, 0
        self.initial_physical_nodes = state["initial_physical_nodes"]
        return state["epoch"], state["sample_in_epoch"]

    @property
    def _identity(self) -> dict[str, Any]:
        """The values that must be equal for a state to mean the same samples."""
        tokenizer = self.conditioner.tokenizer_id if self.conditioner else None
        return {"snapshot": self.plan.version, "plan": self.plan.digest, "tokenizer": tokenizer}


def _conditioners(
    conditioner: Conditioner | None, conditions: Sequence[Condition]
) -> tuple[Conditioner, ...]:
    """Return one conditioner per phase; phases under the same condition share one."""
    if conditioner is None:
        return ()
    return tuple(
        conditioner if condition == conditioner.condition else conditioner.with_condition(condition)
        for condition in conditions
    )


def _check_sizes(plan: MixPlan, batch_size: int, world: World) -> None:
    """Refuse sizes that streaming would fill up with repeated samples."""
    step = batch_size * world.num_ranks
    for name, size in (("samples", plan.samples), ("epoch", plan.epoch_samples)):
        if size % step:
            below, above = size // step * step, ceil(size / step) * step
            valid_sizes = f"{below:,} or {above:,}" if below else f"{above:,}"
            raise MixError(
                f"{name}: {size:,} samples are not a multiple of the global batch of {step:,} "
                f"({batch_size:,} x {world.num_ranks:,} processes); some would be repeated. "
                f"Nearest: {valid_sizes}; plan with plan_mix(..., batch={step})"
            )
