"""A batch of documents and critiques in one block of memory."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ixt_data.mix import Ints
from ixt_data.records import ID_BYTES, Span
from ixt_train.stream.shard_columns import ShardColumns, decode

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
        self._at = 0
        offsets = [self._take("<i8", samples + 1) for _ in _TEXTS]
        self.draws = self._take("<i8", samples)
        self.scores = self._take("<f4", samples)
        self.has_feedback = self._take("?", samples)
        self.doc_ids = self._take("u1", samples * ID_BYTES).reshape(samples, ID_BYTES)
        self._columns = {
            name: pa.LargeStringArray.from_buffers(
                samples, pa.py_buffer(ends), pa.py_buffer(self._take("u1", int(ends[-1])))
            )
            for name, ends in zip(_TEXTS, offsets, strict=True)
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return ColumnBatch, (self._block, self._samples)

    def _take(self, kind: str, n: int) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.frombuffer(self._data, kind, n, self._at)
        self._at += array.nbytes
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
        views = [
            source.string_views(name)
            for source, name in zip((columns, feedback, columns), _TEXTS, strict=True)
        ]
        doc_ids, scores = columns.id_array, feedback.score_array
        for start in range(0, len(draws), batch_size):
            part = slice(start, start + batch_size)
            # Arrow copies the texts into one buffer per column.
            texts = [view.slice(start, batch_size).cast(pa.large_string()) for view in views]
            offsets, data = zip(*(array.buffers()[1:] for array in texts), strict=True)
            n_samples = len(texts[0])
            head = [offset[: 8 * (n_samples + 1)] for offset in offsets]
            rows = [array[part].tobytes() for array in (draws, scores, has_feedback, doc_ids)]
            yield cls(b"".join([*head, *rows, *(cell for cell in data if cell)]), n_samples)

    def __len__(self) -> int:
        return self._samples

    def texts(self, name: str) -> list[str]:
        """Return `text` or `critique` of each sample."""
        texts: list[str] = self._columns[name].to_pylist()
        return texts

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
            decode(self._columns["text"]),
            decode(self._columns["critique"]),
            scores.tolist(),
            decode(self._columns["spans"]),
            self.has_feedback.tolist(),
            strict=True,
        ):
            yield {
                "doc_id": doc_id,
                "draw": draw,
                "text": text,
                "critique": critique,
                "score": score,
                "spans": tuple(Span(*span) for span in orjson.loads(spans)) if spans else (),
                "has_feedback": has_feedback,
            }
