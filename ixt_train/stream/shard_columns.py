"""Samples of open shards in draw order; their offsets are computed for many at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, repeat
from operator import getitem
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ixt_data.mix import Ints
from ixt_data.records import Span
from ixt_train.stream.families import Offsets, OpenShard

FIRST_CHUNK, CHUNK = 64, 2048
# The samples that a worker sends at a time: each message costs the receiver as much as 500 samples.
SENT_CHUNK = 4096
# The strings that exist at a time: more do not fit into the processor's caches.
_DECODED = 64
# A string view contains a text of at most 12 bytes, or 4 bytes of it and its place in a buffer,
# an int32. Of a larger shard, buffers of 2 GiB start every GiB; no text is longer than 1 GiB.
_INLINE = 12
_WINDOW = 1 << 30


def chunks(n: int, step: int = 1, largest: int = CHUNK) -> Iterator[slice]:
    """Split `n` draws into chunks of complete steps, small ones first.

    A sample waits for all shards of its chunk.
    """
    start, size = 0, FIRST_CHUNK
    while start < n:
        stop = start + max(size // step, 1) * step
        yield slice(start, min(stop, n))
        start, size = stop, min(2 * size, largest)


class ShardColumns:
    """The columns of some samples of some open shards."""

    def __init__(self, opened: Mapping[int, OpenShard], shards: Ints, rows: Ints) -> None:
        """Sort the samples by shard, once for all columns; `numbers` are their shards.

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
        self.numbers: list[int] = numbers.tolist()
        self.has_spans = any(shard.has_spans for shard, _ in self._groups)

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
        files = (shard.data(name) for shard, _ in self._groups)
        return decode(string_array(self.string_views(name), files))

    def string_views(self, name: str) -> npt.NDArray[np.void]:
        """Return the string views of one text column, for `string_array`, V16[samples].

        They refer to the files of the shards, in the order of their numbers. A value is empty if
        its shard does not have the column.
        """
        views: list[npt.NDArray[np.void]] = []
        n_buffers = 0
        for shard, rows in self._groups:
            column = shard.columns.get(name) or shard.no_values
            starts = column.starts[rows].astype(np.int64)
            lengths = column.ends[rows] - starts
            view = np.empty((len(rows), 4), np.int32)
            view[:, 0] = lengths
            # An int32 starts at every byte of the file.
            places = max(len(column.data) - 3, 0)
            prefixes: Any = np.ndarray(places, np.int32, column.data, strides=(1,))
            view[:, 1] = prefixes[np.minimum(starts, places - 1)]
            view[:, 2], view[:, 3] = np.divmod(starts, _WINDOW)
            view[:, 2] += n_buffers
            short = np.flatnonzero(lengths <= _INLINE)
            if len(short):
                inline = _first_bytes(column.data, starts[short], lengths[short])
                view[short, 1:] = inline.view(np.int32)
            n_buffers += len(_windows(column.data))
            views.append(view.view("V16").ravel())
        return self._in_order(views)

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
        is_missing = np.isnan(scores)
        listed: list[float | None] = scores.tolist()
        if is_missing.any():
            for at in np.flatnonzero(is_missing).tolist():
                listed[at] = None
        return listed

    @property
    def spans(self) -> Iterable[tuple[Span, ...]]:
        """The spans of each sample, read one by one."""
        if not self.has_spans:
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


def string_array(views: npt.NDArray[np.void], files: Iterable[memoryview]) -> Any:
    """Return string views and the files that they refer to as a `pyarrow.StringViewArray`."""
    buffers = map(pa.py_buffer, [views, *chain.from_iterable(map(_windows, files))])
    return pa.Array.from_buffers(pa.string_view(), len(views), [None, *buffers])


def decode(texts: Any) -> Iterator[str]:
    """Yield the strings of an Arrow array of texts; some exist at a time."""
    parts = range(0, len(texts), _DECODED)
    return chain.from_iterable(texts.slice(at, _DECODED).to_pylist() for at in parts)


def _first_bytes(data: memoryview, starts: Offsets, lengths: Offsets) -> npt.NDArray[np.uint8]:
    """Return the first 12 bytes of each value, with zeros after its end, uint8[n, 12]."""
    places = np.arange(_INLINE)
    raw = np.frombuffer(data, np.uint8)
    found: npt.NDArray[np.uint8] = raw[np.minimum(starts[:, None] + places, len(raw) - 1)]
    found[places >= lengths[:, None]] = 0
    return found


def _windows(data: memoryview) -> list[memoryview]:
    return [data[start : start + 2 * _WINDOW - 1] for start in range(0, len(data), _WINDOW)]


def _slice_bytes(files: list[memoryview], starts: Offsets, ends: Offsets) -> Iterator[memoryview]:
    # In C from end to end: every byte that training reads passes here.
    slices = map(slice, starts.tolist(), ends.tolist())
    return map(cast("Callable[[Any, slice], memoryview]", getitem), files, slices)
