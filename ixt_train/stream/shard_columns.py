"""Samples of open shards in draw order; their offsets are computed for many at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from operator import getitem
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson

from ixt_data.mix import Ints
from ixt_data.records import Span
from ixt_train.stream.families import Offsets, OpenShard

FIRST_CHUNK, CHUNK = 64, 2048


def chunks(n: int, step: int = 1) -> Iterator[slice]:
    """Split `n` draws into chunks of complete steps, small ones first.

    A sample waits for all shards of its chunk.
    """
    start, size = 0, FIRST_CHUNK
    while start < n:
        stop = start + max(size // step, 1) * step
        yield slice(start, min(stop, n))
        start, size = stop, min(2 * size, CHUNK)


class ShardColumns:
    """The columns of some samples of some open shards."""

    def __init__(self, opened: Mapping[int, OpenShard], shards: Ints, rows: Ints) -> None:
        """Sort the samples by shard, once for all columns.

        Args:
            opened: the shards by number.
            shards: the shard of each sample.
            rows: the row of each sample in its shard.
        """
        self._order = np.argsort(shards, kind="stable")
        numbers, offsets = np.unique(shards[self._order], return_index=True)
        self._groups = [
            (opened[number], part)
            for number, part in zip(
                numbers.tolist(), np.split(rows[self._order], offsets[1:]), strict=True
            )
        ]
        self._sizes = [len(part) for _, part in self._groups]

    def _in_order(self, parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if len(parts) == 1:
            return parts[0]
        joined = np.concatenate(parts)
        ordered: npt.NDArray[Any] = np.empty_like(joined)
        ordered[self._order] = joined
        return ordered

    def _slices(self, name: str) -> tuple[list[memoryview], Offsets, Offsets]:
        """Return file, start and end of each value of a column; empty if a shard lacks it."""
        files, starts, ends = [], [], []
        for shard, rows in self._groups:
            column = shard.columns.get(name) or shard.no_values
            files.append(column.data)
            starts.append(column.starts[rows])
            ends.append(column.ends[rows])
        return self._repeat_per_sample(files), self._in_order(starts), self._in_order(ends)

    def slices(self, name: str) -> Iterator[memoryview]:
        """Yield the bytes of one column, empty if a shard does not have it; nothing is copied."""
        files, starts, ends = self._slices(name)
        return _slice_bytes(files, starts, ends)

    def texts(self, name: str) -> Iterator[str]:
        """Yield the values of one text column."""
        return map(
            cast("Callable[[memoryview, str], str]", str), self.slices(name), repeat("utf-8")
        )

    def tokens_or_text(
        self, tokens: str, text: str, dtype: npt.DTypeLike
    ) -> Iterator[str | npt.NDArray[Any]]:
        """Yield the tokens of each sample if its shard has them, else its text."""
        has_tokens = [tokens in shard.columns for shard, _ in self._groups]
        if not any(has_tokens):
            return self.texts(text)
        arrays = (np.frombuffer(data, dtype) for data in self.slices(tokens))
        if all(has_tokens):
            return arrays
        choices = zip(self._repeat_per_sample(has_tokens), arrays, self.texts(text), strict=True)
        return (array if has_token else text_value for has_token, array, text_value in choices)

    @property
    def id_array(self) -> npt.NDArray[np.void]:
        """The id of each document, V16[samples]."""
        return self._in_order([shard.doc_ids[rows] for shard, rows in self._groups])

    @property
    def doc_ids(self) -> list[bytes]:
        """The id of each document."""
        ids: list[bytes] = self.id_array.tolist()
        return ids

    @property
    def score_array(self) -> npt.NDArray[np.float32]:
        """The score of each sample, NaN if it has none, float32[samples]."""
        return self._in_order([shard.score[rows] for shard, rows in self._groups])

    @property
    def scores(self) -> list[float | None]:
        """The score of each sample, None if it has none."""
        scores = self.score_array
        values = scores.astype(object)
        values[np.isnan(scores)] = None
        listed: list[float | None] = values.tolist()
        return listed

    @property
    def spans(self) -> Iterable[tuple[Span, ...]]:
        """The spans of each sample, read one by one."""
        if not any(shard.has_spans for shard, _ in self._groups):
            return repeat((), len(self._order))
        files, starts, ends = self._slices("spans")
        cells = _slice_bytes(files, starts, ends)
        return (tuple(Span(*span) for span in orjson.loads(data or b"[]")) for data in cells)

    def _repeat_per_sample(self, values: list[Any]) -> list[Any]:
        """Repeat one value per shard for each of its samples."""
        if len(values) == 1:
            return values * self._sizes[0]
        boxed = np.empty(len(values), object)
        boxed[:] = values
        spread: list[Any] = self._in_order([np.repeat(boxed, self._sizes), boxed[:0]]).tolist()
        return spread


def _slice_bytes(files: list[memoryview], starts: Offsets, ends: Offsets) -> Iterator[memoryview]:
    # In C from end to end: every byte that training reads passes here.
    slices = map(slice, starts.tolist(), ends.tolist())
    return map(cast("Callable[[Any, slice], memoryview]", getitem), files, slices)
