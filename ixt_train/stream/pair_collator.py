"""Collation of pairs: a row for the better conversation, and the next one for the worse."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ixt_train.stream.packing import Collator

ROWS_OF_PAIR = 2


class PairCollator:
    """A collator of pairs as one batch, see `Collator`: two rows per pair, the better one first.

    The doc_id of a pair is that of its better conversation.
    """

    def __init__(self, pad_id: int, max_length: int) -> None:
        """See `Collator`."""
        self._collate = Collator(pad_id, max_length)

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the batch of some samples of `MixStream` or `pair_sample`."""
        return self._collate([row for sample in samples for row in _rows(sample)])


def _rows(sample: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    at = sample["worse_from"]
    ids, weights = sample["input_ids"], sample["loss_weights"]
    yield {**sample, "input_ids": ids[:at], "loss_weights": weights[:at]}
    worse = {key: value for key, value in sample.items() if key != "rejected"}
    yield {**worse, "input_ids": ids[at:], "loss_weights": weights[at:], "doc_id": b""}
