"""Collation of samples as batches: padded one by one, or packed into rows of one length."""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ixt_data.errors import ConfigError
from ixt_data.records import ID_BYTES
from ixt_train.runs import Rejection

IGNORED = -100
Packing = Literal["pad", "concat", "best_fit"]
Split = Literal["never", "long", "fill"]
_KINDS = ("pad", "concat", "best_fit")
_Columns = dict[str, list[Any]]
_WIDTH_STEP = 16
"""Widths of packed rows are multiples of this: GPUs multiply such matrices faster."""


class Collator:
    """A collator of samples as one batch; pass it to a DataLoader as `collate_fn`.

    A batch has `input_ids` int64, `labels` int64 (-100 where the loss weight is 0), `loss_weights`
    float32 and `attention_mask` int64, each [rows, T]. `doc_ids` has per row the ids of the
    documents that start in it, 16 bytes each; see `batch_doc_ids`. `truncated` is the number of
    tokens that were cut off. `rejected` has per row the documents that the chat template rejects.
    With `separate_documents` it also has `position_ids` int64[rows, T], which start at 0 in each
    document. Where samples have a `group`, it has `groups` int16[rows, T], 0 for padding.
    """

    def __init__(
        self,
        pad_id: int,
        max_length: int,
        packing: Packing = "pad",
        *,
        split: Split = "never",
        separate_documents: bool = False,
    ) -> None:
        """Set the shape of rows.

        Args:
            pad_id: token that fills up rows.
            max_length: maximum length of a row, in tokens. Rows of a batch are as narrow as their
                number allows, a multiple of 16 tokens if that is less.
            packing: `pad`: one sample per row, as long as the longest, cut at `max_length`.
                `concat`: one sample after the other in rows; no token is lost.
                `best_fit`: complete samples in rows, each in the row with the least sufficient
                space; only a sample longer than `max_length` is cut.
            split: for `best_fit`: `never` cuts a sample longer than a row at its end. `long` splits
                it into several rows. `fill` also splits samples to fill rows, all to the
                same length. The first token of a split part has no loss.
            separate_documents: add position ids, which limit attention to each document: models of
                transformers mask by them, others use `document_mask` or `cu_seqlens`.
        """
        if packing not in _KINDS:
            raise ConfigError(f"packing: {packing!r} is unknown. Valid: {', '.join(_KINDS)}")
        if max_length < 1:
            raise ConfigError(f"max_length: {max_length} is less than 1")
        self.pad_id, self.max_length, self.packing = pad_id, max_length, packing
        if split != "never" and packing != "best_fit":
            raise ConfigError(f"split: {split} needs packing best_fit, and packing is {packing}")
        self.separate_documents, self.split = separate_documents, split

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the batch of some samples of `MixStream`."""
        ids = [np.asarray(sample["input_ids"]) for sample in samples]
        weights = [np.asarray(sample["loss_weights"]) for sample in samples]
        doc_ids = [sample["doc_id"] for sample in samples]
        truncated = 0
        if self.packing != "concat" and self.split == "never":
            truncated = sum(max(len(row) - self.max_length, 0) for row in ids)
            ids = [row[: self.max_length] for row in ids]
            weights = [row[: self.max_length] for row in weights]
        columns = {"input_ids": ids, "loss_weights": weights}
        if samples and "group" in samples[0]:
            groups = zip(ids, samples, strict=True)
            columns["groups"] = [np.full(len(row), s["group"], np.int16) for row, s in groups]
        if self.separate_documents:
            columns["position_ids"] = [np.arange(len(row)) for row in ids]
        if self.packing == "concat":
            columns, doc_ids = self._concatenate(columns, doc_ids)
        elif self.packing == "best_fit":
            columns, doc_ids = self._fit(columns, doc_ids)
        reasons = {s["doc_id"]: s["rejected"] for s in samples if "rejected" in s}
        return {
            **self._tensors(columns),
            "doc_ids": doc_ids,
            "truncated": truncated,
            "rejected": [_rejections(row, reasons) for row in doc_ids],
        }

    def _concatenate(self, columns: _Columns, doc_ids: list[bytes]) -> tuple[_Columns, list[bytes]]:
        lengths = [len(row) for row in columns["input_ids"]]
        width = even_width(sum(lengths), self.max_length)
        cuts = range(width, sum(lengths), width)
        starts: list[list[bytes]] = [[] for _ in range(len(cuts) + 1)]
        offset = 0
        for doc_id, length in zip(doc_ids, lengths, strict=True):
            starts[offset // width].append(doc_id)
            offset += length
        rows = {name: np.split(np.concatenate(values), cuts) for name, values in columns.items()}
        return rows, [b"".join(row) for row in starts]

    def _fit(self, columns: _Columns, doc_ids: list[bytes]) -> tuple[_Columns, list[bytes]]:
        lengths = [len(row) for row in columns["input_ids"]]
        is_filled = self.split == "fill"
        width = even_width(sum(lengths), self.max_length) if is_filled else self.max_length
        rows = split_fit(lengths, width, is_filled)
        weights = columns["loss_weights"] = [np.array(row) for row in columns["loss_weights"]]
        for part in (part for row in rows for part in row if part.start):
            # It would be predicted from the end of another document.
            weights[part.sample][part.start] = 0
        packed = {
            name: [
                np.concatenate([values[p.sample][p.start : p.stop] for p in row]) for row in rows
            ]
            for name, values in columns.items()
        }
        if self.separate_documents:
            packed["position_ids"] = [
                np.concatenate([np.arange(p.stop - p.start) for p in row]) for row in rows
            ]
        return packed, [b"".join(doc_ids[p.sample] for p in row if not p.start) for row in rows]

    def _tensors(self, columns: _Columns) -> dict[str, torch.Tensor]:
        ids, weights = columns["input_ids"], columns["loss_weights"]
        width = max(map(len, ids))
        if self.packing != "pad":
            width = min(-(-width // _WIDTH_STEP) * _WIDTH_STEP, self.max_length)
        shape = (len(ids), width)
        input_ids = np.full(shape, self.pad_id, np.int64)
        loss_weights = np.zeros(shape, np.float32)
        mask = np.zeros(shape, np.int64)
        for i, (row, weight) in enumerate(zip(ids, weights, strict=True)):
            n = min(len(row), width)
            input_ids[i, :n], loss_weights[i, :n], mask[i, :n] = row[:n], weight[:n], 1
        tensors = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(np.where(loss_weights > 0, input_ids, IGNORED)),
            "loss_weights": torch.from_numpy(loss_weights),
        }
        if "groups" in columns:
            groups = np.zeros(shape, np.int16)
            for i, row in enumerate(columns["groups"]):
                groups[i, : len(row)] = row
            tensors["groups"] = torch.from_numpy(groups)
        if "position_ids" in columns:
            position_ids = np.zeros(shape, np.int64)
            for i, row in enumerate(columns["position_ids"]):
                position_ids[i, : len(row)] = _from_zero(row)
            tensors["position_ids"] = torch.from_numpy(position_ids)
        return tensors


def _rejections(doc_ids: bytes, reasons: Mapping[bytes, str]) -> list[Rejection]:
    """Return the rejected ones of the documents that start in a row."""
    starts = range(0, len(doc_ids), ID_BYTES) if reasons else ()
    names = (doc_ids[start : start + ID_BYTES] for start in starts)
    return [Rejection(name, reasons[name]) for name in names if name in reasons]


def _from_zero(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Restart positions at 0 for a document that continues from the previous row."""
    ends = np.flatnonzero(positions == 0)
    rest = int(ends[0]) if len(ends) else len(positions)
    return np.concatenate([np.arange(rest), positions[rest:]])


def even_width(tokens: int, width: int) -> int:
    """Return the width of rows that share some tokens evenly, in the least number of rows.

    Args:
        tokens: number of tokens.
        width: maximum tokens of a row.
    """
    rows = max(-(-tokens // width), 1)
    share = -(-tokens // rows)
    return min(-(-share // _WIDTH_STEP) * _WIDTH_STEP, width)


def best_fit(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Group samples into rows: the longest first, each in the row with the least sufficient space.

    Args:
        lengths: tokens of each sample, at most `width`.
        width: tokens of a row.
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []
    for sample in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        index = bisect_left(free, (lengths[sample], -1))
        if index == len(free):
            space, row = width, len(rows)
            rows.append([])
        else:
            space, row = free.pop(index)
        rows[row].append(sample)
        insort(free, (space - lengths[sample], row))
    return rows


class Part(NamedTuple):
    """Tokens `start` to `stop` of a sample."""

    sample: int
    start: int
    stop: int


def split_fit(lengths: Sequence[int], width: int, fill: bool) -> list[list[Part]]:
    """Group samples of any length into rows by `best_fit`, in parts of at most a row.

    Args:
        lengths: tokens of each sample.
        width: tokens of a row.
        fill: split samples of the emptiest rows to fill the other rows.
    """
    parts = [
        Part(sample, start, min(start + width, length))
        for sample, length in enumerate(lengths)
        for start in range(0, max(length, 1), width)
    ]
    rows = [[parts[i] for i in row] for row in best_fit([p.stop - p.start for p in parts], width)]
    if not fill:
        return rows
    rows.sort(key=lambda row: -_size(row))
    space = sum(width - _size(row) for row in rows)
    while len(rows) > 1 and _size(rows[-1]) <= space - (width - _size(rows[-1])):
        emptiest = rows.pop()
        space -= width
        _spread(emptiest, rows, width)
    return rows


def _size(row: Sequence[Part]) -> int:
    return sum(part.stop - part.start for part in row)


def _spread(parts: Sequence[Part], rows: list[list[Part]], width: int) -> None:
    """Move parts into the free space of rows, the fullest first."""
    free = ((row, width - _size(row)) for row in rows)
    row, space = next(free)
    for part in parts:
        start = part.start
        while start < part.stop:
            while not space:
                row, space = next(free)
            taken = min(space, part.stop - start)
            row.append(Part(part.sample, start, start + taken))
            start, space = start + taken, space - taken


def document_numbers(batch: Mapping[str, Any]) -> torch.Tensor:
    """Return the number of each token's document in its row, -1 for padding: int64[rows, T]."""
    positions, mask = batch["position_ids"], batch["attention_mask"]
    return torch.where(mask > 0, (positions == 0).long().cumsum(1) - 1, -1)


def document_mask(batch: Mapping[str, Any]) -> torch.Tensor:
    """Return the mask for scaled_dot_product_attention: bool[rows, 1, T, T].

    A token attends to earlier tokens of its own document and to itself; padding attends to itself.
    """
    documents = document_numbers(batch)
    same = documents[:, :, None] == documents[:, None, :]
    width = documents.shape[1]
    return (same & torch.ones(width, width, dtype=torch.bool).tril()).unsqueeze(1)


def cu_seqlens(batch: Mapping[str, Any]) -> torch.Tensor:
    """Return the ends of documents over all rows without padding: int32[documents + 1], from 0.

    It serves attention over sequences of different lengths, `input_ids[attention_mask > 0]`.
    """
    documents = document_numbers(batch)
    counts = [torch.bincount(row[row >= 0]) for row in documents]
    ends = torch.cat(counts).cumsum(0)
    return torch.cat([torch.zeros(1, dtype=torch.int64), ends]).to(torch.int32)


def batch_doc_ids(batch: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """Return the ids of a batch's documents, row by row: uint8[samples, 16].

    They are in draw order except for `best_fit`.
    """
    # Bytes per row, not a tensor: Composer divides them with the rows and leaves them on the CPU.
    return np.frombuffer(b"".join(batch["doc_ids"]), np.uint8).reshape(-1, ID_BYTES)


def batch_samples(batch: Mapping[str, Any]) -> int:
    """Return the number of source samples in a batch, which checkpoints count; not its rows."""
    return len(batch_doc_ids(batch))


def batch_tokens(batch: Mapping[str, Any]) -> int:
    """Return the number of tokens in a batch, without padding."""
    return int(batch["attention_mask"].sum())
