"""A batch of documents and critiques in one block of memory."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import orjson

from ixt_data.mix import Ints
from ixt_data.records import ID_BYTES, Span
from ixt_train.stream.shard_columns import ShardColumns

_TEXTS = ("text", "critique", "spans")


class ColumnBatch(Sequence[dict[str, Any]]):
    """The samples of a batch, as `MixStream` without a conditioner yields them, in one block.

    A worker of a DataLoader passes one block to the training process, not thousands of objects: as
    bytes, because torch opens a connection per tensor. Texts are decoded when they are read.

    Attributes:
        draws: numbers of the draws, int64[samples].
        doc_ids: uint8[samples, 16].
        scores: NaN where there is none, float32[samples].
        has_feedback: bool[samples].
    """

    def __init__(self, block: bytes, samples: int) -> None:
        """Read a block of some samples, as `split` writes it."""
        self._block, self._samples = block, samples
        self._data = memoryview(block)
        self._offset = 0
        self._ends = self._take("<i8", len(_TEXTS) * samples).reshape(len(_TEXTS), samples)
        self.draws = self._take("<i8", samples)
        self.scores = self._take("<f4", samples)
        self.has_feedback = self._take("?", samples)
        self.doc_ids = self._take("u1", samples * ID_BYTES).reshape(samples, ID_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        return ColumnBatch, (self._block, self._samples)

    def _take(self, kind: str, n: int) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.frombuffer(self._data, kind, n, self._offset)
        self._offset += array.nbytes
        return array

    @classmethod
    def split(
        cls,
        batch_size: int,
        draws: Ints,
        columns: ShardColumns,
        feedback: ShardColumns,
        has_feedback: npt.NDArray[np.bool_],
    ) -> Iterator["ColumnBatch"]:
        """Yield the batches of some draws, from their columns and those of their feedback."""
        cells = [
            list(source.slices(name))
            for source, name in zip((columns, feedback, columns), _TEXTS, strict=True)
        ]
        doc_ids, scores = columns.id_array, feedback.score_array
        for start in range(0, len(draws), batch_size):
            part = slice(start, start + batch_size)
            values = [cell for column in cells for cell in column[part]]
            ends = np.cumsum(np.fromiter(map(len, values), "<i8", len(values)))
            head = [ends, draws[part], scores[part], has_feedback[part], doc_ids[part]]
            block = b"".join([*(array.tobytes() for array in head), *values])
            yield cls(block, len(draws[part]))

    def __len__(self) -> int:
        return self._samples

    def cells(self, name: str) -> list[memoryview]:
        """Return the bytes of `text`, `critique` or `spans` of each sample."""
        column = _TEXTS.index(name)
        flat = self._ends.ravel().tolist()
        first, last = column * self._samples, (column + 1) * self._samples
        starts = [flat[first - 1] if first else 0, *flat[first : last - 1]]
        data = self._data[self._offset :]
        return [data[a:b] for a, b in zip(starts, flat[first:last], strict=True)]

    def texts(self, name: str) -> list[str]:
        """Return `text` or `critique` of each sample."""
        return [str(cell, "utf-8") for cell in self.cells(name)]

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: Any) -> Any:
        """Return one sample, or a list of several."""
        return list(self)[at]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        scores = self.scores.astype(object)
        scores[np.isnan(self.scores)] = None
        for doc_id, draw, text, critique, score, spans, has_feedback in zip(
            self.doc_ids.view(f"V{ID_BYTES}").ravel().tolist(),
            self.draws.tolist(),
            # One by one: glibc would return the memory of many texts, and request it again.
            (str(cell, "utf-8") for cell in self.cells("text")),
            (str(cell, "utf-8") for cell in self.cells("critique")),
            scores.tolist(),
            self.cells("spans"),
            self.has_feedback.tolist(),
            strict=True,
        ):
            yield {
                "doc_id": doc_id,
                "draw": draw,
                "text": text,
                "critique": critique,
                "score": score,
                "spans": tuple(Span(*span) for span in orjson.loads(spans)) if len(spans) else (),
                "has_feedback": has_feedback,
            }
