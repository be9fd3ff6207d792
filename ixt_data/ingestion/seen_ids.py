"""Which document ids were seen before: exact, in constant memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ixt_data.records import ID_BYTES

MEMORY_IDS = 1 << 20
MERGE_IDS = 1 << 20

U64 = npt.NDArray[np.uint64]


class SortedRun(NamedTuple):
    """Ids as two halves, in the order of the first."""

    hi: U64
    lo: U64


class SeenIds:
    """A set of doc_ids: sorted runs in memory up to a bound, larger ones in temporary files.

    Runs are merged so that each is at least twice as long as the next: an id is moved, and a
    batch is looked up, a logarithmic number of times. Memory is some 64 bytes an id of
    `memory_ids`, whatever the number of ids. A context manager: the files go when it ends.
    """

    def __init__(self, folder: Path | None = None, memory_ids: int = MEMORY_IDS) -> None:
        """Args:
        folder: where temporary files may lie, the system's place by default.
        memory_ids: how many ids stay in memory, 16 bytes each.
        """  # noqa: D205
        self._folder = tempfile.TemporaryDirectory(prefix="ixt-ids-", dir=folder)
        self._memory_ids = memory_ids
        self._in_memory: list[SortedRun] = []
        self._on_disk: list[SortedRun] = []
        self._files = 0

    def __enter__(self) -> "SeenIds":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forgets all ids and removes the temporary files."""
        self._in_memory, self._on_disk = [], []
        self._folder.cleanup()

    def __len__(self) -> int:
        return sum(len(run.hi) for run in (*self._on_disk, *self._in_memory))

    def add_batch(self, ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Adds ids, uint8[n, 16]; returns bool[n]: True where one was not seen before.

        Of equal ids in one batch the first is the new one.
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
            runs.append(_joined(first, second))
        if sum(len(run.hi) for run in runs) >= self._memory_ids:
            self._spill()

    def _spill(self) -> None:
        """Moves what is in memory to one file, and merges files."""
        run = self._in_memory[0]
        for other in self._in_memory[1:]:
            run = _joined(run, other)
        self._in_memory = []
        disk = self._on_disk
        disk.append(self._written(len(run.hi), iter([run])))
        while len(disk) > 1 and len(disk[-2].hi) < 2 * len(disk[-1].hi):
            second, first = disk.pop(), disk.pop()
            disk.append(self._written(len(first.hi) + len(second.hi), _merged(first, second)))
            _remove(first)
            _remove(second)

    def _written(self, length: int, pieces: Iterator[SortedRun]) -> SortedRun:
        path = Path(self._folder.name, f"{self._files}.ids")
        self._files += 1
        both = np.memmap(path, np.uint64, "w+", shape=(2, length))
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
    """bool[n]: which of the ids, sorted, are in the run."""
    found = np.zeros(len(hi), np.bool_)
    at = np.searchsorted(run.hi, hi)
    asked = np.arange(len(hi))
    while len(asked):
        # Several ids may share their first half: go on until the run has another one.
        inside = at < len(run.hi)
        asked, at = asked[inside], at[inside]
        same = run.hi[at] == hi[asked]
        asked, at = asked[same], at[same]
        equal = run.lo[at] == lo[asked]
        found[asked[equal]] = True
        asked, at = asked[~equal], at[~equal] + 1
    return found


def _joined(first: SortedRun, second: SortedRun) -> SortedRun:
    hi = np.concatenate((first.hi, second.hi))
    # Two sorted stretches: the stable sort merges them in linear time.
    order = np.argsort(hi, kind="stable")
    return SortedRun(hi[order], np.concatenate((first.lo, second.lo))[order])


def _merged(first: SortedRun, second: SortedRun) -> Iterator[SortedRun]:
    """Both runs as one, in pieces of about `MERGE_IDS` ids of the first."""
    a = b = 0
    while a < len(first.hi):
        a_end = min(a + MERGE_IDS, len(first.hi))
        b_end = len(second.hi)
        if a_end < len(first.hi):
            b_end = int(np.searchsorted(second.hi, first.hi[a_end - 1], side="right"))
        yield _joined(
            SortedRun(first.hi[a:a_end], first.lo[a:a_end]),
            SortedRun(second.hi[b:b_end], second.lo[b:b_end]),
        )
        a, b = a_end, b_end


def _remove(run: SortedRun) -> None:
    base = run.hi.base
    if isinstance(base, np.memmap) and base.filename is not None:
        Path(base.filename).unlink()
