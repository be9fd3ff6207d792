"""The stream: a mix plan as a torch dataset with the same order of samples on any machine."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
from torch.utils.data import IterableDataset, get_worker_info

from ixt_data.errors import FingerprintError, MixError, StoreError
from ixt_data.mix import Ints, MixPlan, regimes_of, samples_of
from ixt_data.storage import atomic_write
from ixt_train.conditioning import Choice, Conditioner, phase_conditioners
from ixt_train.stream.column_batch import ColumnBatch, ColumnChunk
from ixt_train.stream.families import FamilyReader, OpenShard, build_readers
from ixt_train.stream.position import Position
from ixt_train.stream.projection import logical_shards
from ixt_train.stream.shard_cache import LocalFolder, OpenShards, Prefetcher
from ixt_train.stream.shard_columns import SENT_CHUNK, ShardColumns, chunks
from ixt_train.stream.world import World, check_sizes, run_on_all_ranks

T = TypeVar("T")
GroupsOfDraws = Callable[[Ints, npt.NDArray[np.float32], npt.NDArray[np.bool_]], Ints]
"""Returns groups of draws, from their numbers, scores (NaN: none), and if they have feedback."""
INDEX = "index.json"
_RETRIES = 7
_PREDOWNLOAD_BATCHES = 8
_MAX_MAPS = 1 << 14


class MixStream(IterableDataset[dict[str, Any]]):
    """The samples of a mix plan as a torch dataset.

    Each sample is a dictionary: `input_ids` int32[T], `loss_weights` float32[T] (weight of the loss
    at predicting each token), `doc_id` (16 bytes) and `draw` (its number in the plan). A
    conversation that the chat template rejects has no loss, and `rejected`, the reason. A pair has
    `worse_from`, the place of its second conversation in both arrays. Without a
    conditioner it is `doc_id`, `draw`, `text`, `critique`, `score`, `spans` and `has_feedback`.

    Any DataLoader iterates it, with any number of workers; `data_loader` builds one that passes
    whole batches. `state_dict` and `load_state_dict` resume it on any number of processes that
    divides the global batch. A missing or changed shard raises.

    Examples:
        .. code-block:: python

            plan = plan_mix(mix, samples=64_000, batch=32)
            conditioner = Conditioner(tokenizer, mix.condition)
            with MixStream(plan, conditioner, local="shards", batch_size=32) as stream:
                for batch in data_loader(stream, Collator(0, 1024), workers=2):
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
        groups: GroupsOfDraws | None = None,
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
            groups: adds a `group` to each sample of tokens, from its draw, its score and whether it
                has feedback.
            cache_limit: maximum bytes in `local`; None sets no limit.
            predownload: samples to look ahead for missing shards; by default 8 batches.
            threads: download threads per process.
            timeout: seconds per download.
            retries: attempts per download.

        Raises:
            MixError: the plan's sizes would repeat samples to fill a batch.
            StoreError: another job uses `local`.
            ConfigError: `cache_limit` is too low for the shards.
        """
        self._world = World.detect()
        check_sizes(plan, batch_size, self._world)
        self.plan, self.conditioner, self.feedback = plan, conditioner, feedback
        self._groups = groups
        self.batch_size, self.cache_limit, self.threads = batch_size, cache_limit, threads
        self.predownload = predownload or _PREDOWNLOAD_BATCHES * batch_size
        self._conditioners = phase_conditioners(conditioner, plan.conditions) if conditioner else ()
        self._folder = LocalFolder(Path(local) / f"{plan.version}-{plan.digest}", self._world)
        self.local = self._folder.path
        try:
            run_on_all_ranks(self._folder.lock)
            self.files, self.shards, entries = build_readers(
                str(store or plan.mix.store),
                logical_shards(plan, conditioner),
                self.local,
                max_bytes=cache_limit,
                timeout=timeout,
                retries=retries,
            )
            if self._world.is_local_leader:
                index = orjson.dumps({"version": 2, "shards": entries})
                atomic_write(self.local / INDEX, lambda p: p.write_bytes(index), durable=False)
            self._position = Position(self.local, self._world.rank)
        except BaseException:
            self._folder.release()
            raise
        self._samples_per_shard = np.array([shard.samples for shard in self.shards], np.int64)
        self._shard_starts = np.cumsum(np.append(0, self._samples_per_shard))[:-1]
        self._open_shards = OpenShards()
        self._maps: dict[tuple[int, str], memoryview] = {}
        self._warn_of_thrashing()

    def __enter__(self) -> "MixStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def close(self) -> None:
        """Delete the uncompressed shards and release the local folder."""
        self._folder.release()

    def _warn_of_thrashing(self) -> None:
        if not self.cache_limit:
            return
        sizes = [shard.raw_bytes for shard in self.shards]
        needed = round(self.plan.shards_at_once * sum(sizes) / len(sizes))
        if needed > self.cache_limit:
            warnings.warn(
                f"cache_limit of {self.cache_limit:,} bytes is less than the {needed:,} bytes of "
                f"the {self.plan.shards_at_once:,} shards that the shuffle mixes: shards will be "
                f"downloaded repeatedly. Raise cache_limit, or plan a block below "
                f"{self.plan.block:,} samples",
                stacklevel=3,
            )

    # Iteration

    @property
    def global_batch_size(self) -> int:
        """The samples of a step over all processes."""
        return self.batch_size * self._world.size

    def __len__(self) -> int:
        """Return the samples of this process in an epoch; the last epoch may have fewer."""
        return self.plan.epoch_samples // self._world.size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield this worker's samples of the next epoch, or from the loaded state on."""
        draws = self._next_draws()
        worker, n_workers = _worker()
        own = draws[np.arange(len(draws)) // self.batch_size % n_workers == worker]
        parts = (own[part] for part in chunks(len(own)))
        # Chained: each sample passes through only one generator.
        return chain.from_iterable(self._samples(*chunk) for chunk in self._chunks(own, parts))

    def column_chunks(self) -> Iterator[ColumnChunk]:
        """Yield the same samples as chunks of complete batches; only without a conditioner.

        The workers of a DataLoader have alternate chunks. `read` returns their samples.
        """
        draws = self._next_draws()
        worker, n_workers = _worker()
        own = islice(chunks(len(draws), self.batch_size, SENT_CHUNK), worker, None, n_workers)
        parts = [draws[part] for part in own]
        for chunk in self._chunks(np.concatenate([draws[:0], *parts]), parts):
            yield self._chunk(*chunk)

    def read(self, chunk: ColumnChunk) -> ColumnBatch:
        """Return the samples of a chunk that this process or one of its workers has found."""
        if self.cache_limit:
            # A map keeps the bytes of an evicted file on the disk.
            needed = set(chunk.shards)
            self._maps = {key: data for key, data in self._maps.items() if key[0] in needed}
        while len(self._maps) > _MAX_MAPS:
            del self._maps[next(iter(self._maps))]
        return chunk.read(self._data)

    def _data(self, shard: int, column: str) -> memoryview:
        reader = self.shards[shard]
        if reader.opened is not None:
            return reader.opened.data(column)
        known = self._maps.get((shard, column))
        if known is None:
            known = self._maps[shard, column] = self._retry(reader, lambda: reader.map(column))
        return known

    def _chunks(
        self, draws: Ints, parts: Iterable[Ints]
    ) -> Iterator[tuple[Ints, ShardColumns, ShardColumns]]:
        """Yield parts of some draws, their columns, and the columns of their feedback."""
        shards, rows = self._locate(draws)
        start = 0
        with Prefetcher(self.shards, shards, self.predownload, self.threads) as prefetcher:
            for part in parts:
                chunk = slice(start, start := start + len(part))
                prefetcher.prefetch_until(chunk.stop)
                yield self._columns(part, shards[chunk], rows[chunk], prefetcher)

    def _next_draws(self) -> Ints:
        """Return the draws of this rank, every `world.size`-th one, to the end of the epoch."""
        epoch, done = self._position.start()
        draws = self.plan.order(epoch)[done:]
        size = self._world.size
        if len(draws) % size:
            raise MixError(
                f"the state has {done:,} samples of epoch {epoch}, and {size:,} processes cannot "
                f"share the other {len(draws):,}. Resume on a number of processes that divides it"
            )
        return np.ascontiguousarray(draws[self._world.position :: size])

    def _locate(self, draws: Ints) -> tuple[Ints, Ints]:
        """Return the shard of each draw, and its row there."""
        samples = samples_of(draws)
        shards = np.searchsorted(self._shard_starts, samples, "right") - 1
        return shards, samples - self._shard_starts[shards]

    def _columns(
        self, draws: Ints, shards: Ints, rows: Ints, prefetcher: Prefetcher | None = None
    ) -> tuple[Ints, ShardColumns, ShardColumns]:
        numbers = np.unique(shards).tolist()
        if self.cache_limit:
            needed = {self.shards[number] for number in numbers}
            self._open_shards.close_evicted(needed)
            for reader in needed:
                reader.touch()
        opened = {number: self._open(number, prefetcher) for number in numbers}
        columns = feedback = ShardColumns(opened, shards, rows)
        feedback_rows = self.plan.feedback_rows(draws, rows, self._samples_per_shard[shards])
        if feedback_rows is not rows:
            feedback = ShardColumns(opened, shards, feedback_rows)
        return draws, columns, feedback

    def _samples(
        self, draws: Ints, columns: ShardColumns, feedback_columns: ShardColumns
    ) -> Iterator[dict[str, Any]]:
        if self.conditioner is None:
            return iter(self.read(self._chunk(draws, columns, feedback_columns)))
        return self._encoded(draws, columns, feedback_columns)

    def _chunk(
        self, draws: Ints, columns: ShardColumns, feedback_columns: ShardColumns
    ) -> ColumnChunk:
        given = self.plan.feedback_given(draws)
        return ColumnChunk.of_columns(draws, columns, feedback_columns, given)

    def _encoded(
        self, draws: Ints, columns: ShardColumns, feedback_columns: ShardColumns
    ) -> Iterator[dict[str, Any]]:
        assert self.conditioner is not None
        dtype = self.conditioner.encoder.dtype
        choices: list[Choice] = [
            conditioner.default_choice if self.feedback == "given" else self.feedback
            for conditioner in self._conditioners
        ]
        given = self.plan.feedback_given(draws)
        groups: Iterable[int] = repeat(0, len(draws))
        if self._groups is not None:
            own = given & ~np.isnan(feedback_columns.score_array)
            groups = self._groups(draws, columns.score_array, own).tolist()
        for draw, group, phase, doc_id, text, critique, score, spans, has_feedback in zip(
            draws.tolist(),
            groups,
            regimes_of(draws)[0].tolist(),
            columns.doc_ids,
            columns.tokens_or_text("tokens", "text", dtype),
            feedback_columns.tokens_or_text("critique_tokens", "critique", dtype),
            feedback_columns.scores,
            columns.spans,
            given.tolist(),
            strict=True,
        ):
            feedback = choices[phase] if has_feedback or self.feedback != "given" else "none"
            encoded = self._conditioners[phase].encode_or_reject(
                text, critique, score, spans, feedback
            )
            sample = {
                "input_ids": encoded.input_ids,
                "loss_weights": encoded.loss_weights,
                "doc_id": doc_id,
                "draw": draw,
            }
            if encoded.rejected:
                sample["rejected"] = encoded.rejected
            if encoded.worse_from is not None:
                sample["worse_from"] = encoded.worse_from
            if self._groups is not None:
                sample["group"] = group
            yield sample

    def _open(self, shard: int, prefetcher: Prefetcher | None) -> OpenShard:
        reader = self.shards[shard]
        if reader.opened is not None:
            return reader.opened
        if prefetcher is not None:
            prefetcher.wait(shard)
        return self._retry(reader, lambda: self._open_shards.open(reader))

    def _retry(self, reader: FamilyReader, read: Callable[[], T]) -> T:
        for _ in range(_RETRIES):
            try:
                return read()
            except FileNotFoundError:
                # Not copied yet, or evicted by another process meanwhile.
                reader.fetch()
        raise StoreError(
            f"{reader.paths[0].name}: evicted {_RETRIES} times before it was read. "
            f"Raise cache_limit, now {self.cache_limit:,} bytes"
        )

    def __getitem__(self, at: Any) -> Any:
        """Return the sample of one draw, as `__iter__` yields it, or a list for several draws."""
        if isinstance(at, int | np.integer):
            return self[[at]][0]
        draws = np.array([int(draw) for draw in at], np.int64)
        if not len(draws):
            return []
        return list(self._samples(*self._columns(draws, *self._locate(draws))))

    # State

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """Return the position of the stream and its plan, for a checkpoint.

        Args:
            num_samples: samples of this epoch that were used, over all processes.
            from_beginning: whether they count from the start of the epoch instead of this process.
                Composer counts from the start; 0 then means that the previous epoch has ended.
        """
        epoch, done = self._position.current or self._position.next
        if from_beginning and num_samples == 0:
            epoch = self._position.next[0]
        in_epoch = num_samples if from_beginning else done + num_samples
        return {"epoch": epoch, "sample_in_epoch": in_epoch, **self._identity}

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
        self._position.move((obj["epoch"], obj["sample_in_epoch"]))

    @property
    def _identity(self) -> dict[str, Any]:
        """The values that must be equal for a state to mean the same samples."""
        tokenizer = self.conditioner.tokenizer_id if self.conditioner else None
        return {"snapshot": self.plan.version, "plan": self.plan.digest, "tokenizer": tokenizer}


def _worker() -> tuple[int, int]:
    """Return the number of this worker of a DataLoader, and how many workers there are."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
