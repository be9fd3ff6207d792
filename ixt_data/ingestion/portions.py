"""Portions: parts of an input that different processes can read, in the order of the input."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.formats import Input
from ixt_data.ingestion.remarks import Remarks
from ixt_data.records import Document


class Portion(Protocol):
    """A part of an input. Iteration yields its records.

    Attributes:
        remarks: what the summary says about the records, after the iteration.
        consumed: bytes of the input, as stored, up to the end of this part.
        size: bytes to keep in memory or on disk for it, estimated.
        movable: whether it pickles, so that another process can read it.
        slow: whether to read it takes longer than to compress it.
    """

    remarks: Remarks
    consumed: int
    size: int
    movable: bool
    slow: bool

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield the records in their order."""


@dataclass
class ReadPortion:
    """Records that this process has read already, because the input has no portions of its own."""

    items: list[Document | RejectedRecord]
    remarks: Remarks
    consumed: int
    size: int = field(default=0, init=False)
    movable: bool = field(default=False, init=False)
    slow: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield the records."""
        return iter(self.items)


def split_inputs(inputs: Sequence[Input], remarks: Remarks) -> Iterator[Portion]:
    """Yield the portions of all inputs in order; `consumed` counts from the first input.

    Args:
        inputs: the inputs. One may have a method `portions` that yields its portions.
        remarks: what inputs without portions add to; each portion takes its own away.
    """
    done = 0
    for source in inputs:
        own = getattr(source, "portions", None)
        for portion in own() if own is not None else _read(source, remarks):
            portion.consumed += done
            yield portion
        done += source.size


def _read(source: Input, remarks: Remarks) -> Iterator[ReadPortion]:
    items: list[Document | RejectedRecord] = []
    start = chars = 0
    for item in source:
        items.append(item)
        chars += len(item.text) if isinstance(item, Document) else 0
        read = source.consumed
        if len(items) >= RECORDS or max(chars, read - start) >= READ_BYTES:
            yield ReadPortion(items, remarks.take(), read)
            items, chars, start = [], 0, read
    yield ReadPortion(items, remarks.take(), source.size)


# A portion that this process reads ends at the first limit: records, or bytes of text or input.
RECORDS = 2048
READ_BYTES = 1 << 20
