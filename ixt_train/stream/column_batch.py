"""A batch of documents and critiques as columns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ixt_data.mix import Ints
from ixt_data.records import ID_BYTES, Span
from ixt_train.stream.shard_columns import ShardColumns, decode, string_array

_TEXTS = ("text", "critique", "spans")
Columns = tuple[Ints, npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""Draws, document ids, scores and whether they have feedback, of some samples."""


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """The columns of some samples, with the places of their texts instead of the texts.

    A worker of a DataLoader sends 61 bytes per sample, whatever the length of the documents. The
    training process maps the files of the shards itself.
    """

    columns: Columns
    shards: list[int]
    views: list[npt.NDArray[np.void] | None]

    @classmethod
    def of_columns(
        cls,
        draws: Ints,
        columns: ShardColumns,
        feedback: ShardColumns,
        has_feedback: npt.NDArray[np.bool_],
    ) -> "ColumnChunk":
        """Return the samples of some draws, from their columns and those of their feedback."""
        doc_ids = np.ascontiguousarray(columns.id_array).view(np.uint8).reshape(-1, ID_BYTES)
        views = [
            columns.string_views("text"),
            feedback.string_views("critique"),
            columns.string_views("spans") if columns.has_spans else None,
        ]
        scores = feedback.score_array
        return cls((draws, doc_ids, scores, has_feedback), columns.numbers, views)

    def read(self, data: Callable[[int, str], memoryview]) -> "ColumnBatch":
        """Return the samples; `data` returns the file of a shard that has a column."""
        texts = [
            None if views is None else string_array(views, (data(n, name) for n in self.shards))
            for name, views in zip(_TEXTS, self.views, strict=True)
        ]
        return ColumnBatch(*self.columns, texts)


class ColumnBatch(Sequence[dict[str, Any]]):
    """The samples of a batch, as `MixStream` without a conditioner yields them.

    Texts are views over the mapped shards, and they are decoded when they are read. A pickled batch
    contains copies of its texts.

    Attributes:
        draws: numbers of the draws, int64[samples].
        doc_ids: uint8[samples, 16].
        scores: NaN where there is none, float32[samples].
        has_feedback: bool[samples].
    """

    def __init__(
        self,
        draws: Ints,
        doc_ids: npt.NDArray[np.uint8],
        scores: npt.NDArray[np.float32],
        has_feedback: npt.NDArray[np.bool_],
        texts: Sequence[Any],
    ) -> None:
        """Set the columns; `texts` are Arrow arrays: text, critique, spans as JSON or None."""
        self.draws, self.doc_ids, self.scores = draws, doc_ids, scores
        self.has_feedback, self._texts = has_feedback, texts

    def __reduce__(self) -> tuple[Any, ...]:
        texts = [column and _copied(column) for column in self._texts]
        return ColumnBatch, (self.draws, self.doc_ids, self.scores, self.has_feedback, texts)

    def __len__(self) -> int:
        return len(self.draws)

    def split(self, size: int) -> Iterator["ColumnBatch"]:
        """Yield batches of `size` samples in order; they share the memory of this one."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield ColumnBatch(
                self.draws[part],
                self.doc_ids[part],
                self.scores[part],
                self.has_feedback[part],
                [column and column.slice(start, size) for column in self._texts],
            )

    def texts(self, name: str) -> list[str]:
        """Return `text` or `critique` of each sample."""
        texts: list[str] = self._texts[_TEXTS.index(name)].to_pylist()
        return texts

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: Any) -> Any:
        """Return one sample, or a list of several."""
        return list(self)[at]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        scores: list[float | None] = self.scores.tolist()
        for at in np.flatnonzero(np.isnan(self.scores)).tolist():
            scores[at] = None
        texts, critiques, cells = self._texts
        for doc_id, draw, text, critique, score, spans, has_feedback in zip(
            self.doc_ids.view(f"V{ID_BYTES}").ravel().tolist(),
            self.draws.tolist(),
            decode(texts),
            decode(critiques),
            scores,
            repeat((), len(self)) if cells is None else map(_spans, decode(cells)),
            self.has_feedback.tolist(),
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


def _spans(cell: str) -> tuple[Span, ...]:
    return tuple(Span(*span) for span in orjson.loads(cell)) if cell else ()


def _copied(texts: Any) -> Any:
    """Return strings without the rest of the buffers that they are views of."""
    if texts.type == pa.string_view():
        return texts.cast(pa.large_string())
    return pa.concat_arrays([texts])
