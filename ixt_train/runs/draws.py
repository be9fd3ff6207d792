"""The documents that each step drew: compact, and exact after any interruption.

`draws/<first step>-<last step>.rank<r>.npz` holds `counts` int64[steps] and `doc_ids`
uint8[documents, 16]. Every checkpoint closes a file, so a resume drops complete files only.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ixt_data.records import format_id
from ixt_data.storage import atomic_write

FOLDER = "draws"
STEPS_PER_FILE = 1000
_NAME = re.compile(r"(\d+)-(\d+)\.rank(\d+)\.npz")


class DrawWriter:
    """A writer that collects the draws of one rank and writes them in batches."""

    def __init__(self, run_folder: Path, rank: int = 0, ranks: int = 1) -> None:
        self._folder = run_folder / FOLDER
        self._rank, self._ranks = rank, ranks
        self._steps: list[npt.NDArray[np.uint8]] = []
        self._first = 1

    def start_after(self, step: int) -> None:
        """Resume after `step`: delete the records of later steps.

        The train run may have had more ranks; each rank deletes its share of their files.
        """
        self._steps, self._first = [], step + 1
        for file, first, _, rank in _files(self._folder):
            if first > step and rank % self._ranks == self._rank:
                file.unlink()

    def add(self, step: int, doc_ids: npt.NDArray[np.uint8]) -> None:
        """Record the documents of one step, uint8[samples, 16], in batch order."""
        if step != self._first + len(self._steps):
            raise ValueError(f"step {step} follows {self._first + len(self._steps) - 1}")
        self._steps.append(doc_ids)
        if len(self._steps) >= STEPS_PER_FILE:
            self.flush()

    def flush(self) -> None:
        """Write the steps recorded since the last flush."""
        if not self._steps:
            return
        last = self._first + len(self._steps) - 1
        path = self._folder / f"{self._first:09d}-{last:09d}.rank{self._rank}.npz"
        counts = np.array([len(ids) for ids in self._steps], np.int64)
        doc_ids = np.concatenate(self._steps)

        def save(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez(file, counts=counts, doc_ids=doc_ids)

        atomic_write(path, save)
        self._steps, self._first = [], last + 1


def is_after(name: str, step: int) -> bool:
    """Return whether a file name contains draws of steps after `step`."""
    match = _NAME.fullmatch(name)
    return match is not None and int(match[2]) > step


def _files(folder: Path) -> list[tuple[Path, int, int, int]]:
    matches = ((file, _NAME.fullmatch(file.name)) for file in sorted(folder.glob("*.npz")))
    return [(f, int(m[1]), int(m[2]), int(m[3])) for f, m in matches if m is not None]


def read_draws(run_folder: Path | str) -> Iterator[tuple[int, list[str]]]:
    """Yield step and doc_ids of every recorded step, in order; ranks follow each other."""
    files_by_step: dict[int, list[Path]] = {}
    for file, first, _, _ in _files(Path(run_folder) / FOLDER):
        files_by_step.setdefault(first, []).append(file)
    for first, files in sorted(files_by_step.items()):
        ranks = [_load(file) for file in files]
        for offset, parts in enumerate(zip(*ranks, strict=True)):
            yield first + offset, [format_id(row.tobytes()) for part in parts for row in part]


def _load(file: Path) -> list[npt.NDArray[np.uint8]]:
    with np.load(file) as archive:
        return np.split(archive["doc_ids"], np.cumsum(archive["counts"])[:-1])


def read_step_draws(run_folder: Path | str, step: int) -> list[str] | None:
    """Return the doc_ids of one step, rank by rank; None if the step was not recorded."""
    matches: list[str] = []
    for file, first, last, _ in _files(Path(run_folder) / FOLDER):
        if first <= step <= last:
            matches += [format_id(row.tobytes()) for row in _load(file)[step - first]]
    return matches or None


def find_steps(run_folder: Path | str, doc_id: bytes) -> list[int]:
    """Return the recorded steps that drew a document, once per draw."""
    target, matches = np.frombuffer(doc_id, np.uint8), []
    for file, first, _, _ in _files(Path(run_folder) / FOLDER):
        with np.load(file) as archive:
            at = np.flatnonzero((archive["doc_ids"] == target).all(axis=1))
            steps = np.searchsorted(np.cumsum(archive["counts"]), at, "right")
        matches += [first + int(step) for step in steps]
    return sorted(matches)
