"""An exact set of document ids in constant memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ixt_data.records import ID_BYTES
from ixt_data.storage import allocated_array

MEMORY_IDS = 1 << 20
MERGE_IDS = 1 << 20

U64 = npt.NDArray[np.uint64]


class SortedRun(NamedTuple):
    """Sorted ids as two halves, uint64[n] each, in the order of `hi`."""

    hi: U64
    lo: U64


class SeenIds:
    """A set of doc_ids: sorted runs, in memory up to a limit, then in temporary files.

    Merges keep each run at least twice as long as the next. So the number of moves per id, and of
    lookups per batch, is logarithmic. Memory is about 64 bytes times `memory_ids`. Use it in a
    `with`, which deletes the temporary files at the end.
    """

    def __init__(self, folder: Path | None = None, memory_ids: int = MEMORY_IDS) -> None:
        """Create an empty set.

        Args:
            folder: folder for temporary files, the system's by default.
            memory_ids: number of ids in memory, 16 bytes each.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="ixt-ids-", dir=folder)
        self._memory_ids = memory_ids
        self._in_memory: list[SortedRun] = []
        self._on_disk: list[SortedRun] = []
        self._files = 0

    def __enter__(self) -> "SeenIds":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove all ids and delete the temporary files."""
        self._in_memory, self._on_disk = [], []
        self._folder.cleanup()

    def __len__(self) -> int:
        return sum(len(run.hi) for run in (*self._on_disk, *self._in_memory))

    def add_batch(self, ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Add ids; return which of them are new.

        Args:
            ids: uint8[n, 16].

        Returns:
            bool[n]: True for an id that was not in the set. Of equal ids the first is new.
        """
        hi, lo = _halves(ids)
        order = np.lexsort((lo, hi))
        hi, lo = hi[order], lo[order]
        new = np.ones(len(hi), np.bool_)
        new[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
        for run in (*self._on_disk, *self._in_memory):
            new &= ~_contains(run, hi, lo)
        if new.any():
            self._add(SortedRun(hi[new], lo[new]))
        mask = np.empty(len(new), np.bool_)
        mask[order] = new
        return mask

    def _add(self, run: SortedRun) -> None:
        runs = self._in_memory
        runs.append(run)
        while len(runs) > 1 and len(runs[-2].hi) < 2 * len(runs[-1].hi):
            second, first = runs.pop(), runs.pop()
            runs.append(_merge(first, second))
        if sum(len(run.hi) for run in runs) >= self._memory_ids:
            self._spill()

    def _spill(self) -> None:
        """Move the runs in memory to one file, and merge files."""
        run = self._in_memory[0]
        for other in self._in_memory[1:]:
            run = _merge(run, other)
        self._in_memory = []
        disk = self._on_disk
        disk.append(self._write(len(run.hi), iter([run])))
        while len(disk) > 1 and len(disk[-2].hi) < 2 * len(disk[-1].hi):
            second, first = disk.pop(), disk.pop()
            disk.append(self._write(len(first.hi) + len(second.hi), _merge_chunks(first, second)))
            _remove(first)
            _remove(second)

    def _write(self, length: int, pieces: Iterator[SortedRun]) -> SortedRun:
        path = Path(self._folder.name, f"{self._files}.ids")
        self._files += 1
        both = allocated_array(path, np.uint64, (2, length))
        at = 0
        for piece in pieces:
            end = at + len(piece.hi)
            both[0, at:end], both[1, at:end] = piece.hi, piece.lo
            at = end
        return SortedRun(both[0], both[1])


def _halves(ids: npt.NDArray[np.uint8]) -> tuple[U64, U64]:
    if ids.ndim != 2 or ids.shape[1] != ID_BYTES or ids.dtype != np.uint8:
        raise ValueError(f"ids are uint8[n, {ID_BYTES}], not {ids.dtype}{list(ids.shape)}")
    halves = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1]


def _contains(run: SortedRun, hi: U64, lo: U64) -> npt.NDArray[np.bool_]:
    """Return bool[n]: True for each of the sorted ids that is in the run."""
    is_in_run = np.zeros(len(hi), np.bool_)
    at = np.searchsorted(run.hi, hi)
    pending = np.arange(len(hi))
    while len(pending):
        # Several ids may share their first half: continue until the run has another one.
        inside = at < len(run.hi)
        pending, at = pending[inside], at[inside]
        same = run.hi[at] == hi[pending]
        pending, at = pending[same], at[same]
        equal = run.lo[at] == lo[pending]
        is_in_run[pending[equal]] = True
        pending, at = pending[~equal], at[~equal] + 1
    return is_in_run


def _merge(first: SortedRun, second: SortedRun) -> SortedRun:
    hi = np.concatenate((first.hi, second.hi))
    # The stable sort merges two sorted sequences in linear time.
    order = np.argsort(hi, kind="stable")
    return SortedRun(hi[order], np.concatenate((first.lo, second.lo))[order])


def _merge_chunks(first: SortedRun, second: SortedRun) -> Iterator[SortedRun]:
    """Yield both runs as one, in chunks of about `MERGE_IDS` ids of the first."""
    a = b = 0
    while a < len(first.hi):
        a_end = min(a + MERGE_IDS, len(first.hi))
        b_end = len(second.hi)
        if a_end < len(first.hi):
            b_end = int(np.searchsorted(second.hi, first.hi[a_end - 1], side="right"))
        yield _merge(
            SortedRun(first.hi[a:a_end], first.lo[a:a_end]),
            SortedRun(second.hi[b:b_end], second.lo[b:b_end]),
        )
        a, b = a_end, b_end


def _remove(run: SortedRun) -> None:
    base = run.hi.base
    if isinstance(base, np.memmap) and base.filename is not None:
        Path(base.filename).unlink()
