"""The rewinds of a train run after unstable steps: rewinds.jsonl."""

from pathlib import Path
from typing import NamedTuple

import orjson

from ixt_data.storage import atomic_write

REWINDS = "rewinds.jsonl"


class Rewind(NamedTuple):
    """A return to the last checkpoint after an unstable step.

    Attributes:
        step: the unstable step.
        first_dropped: first step whose update is dropped from then on; `step` is the last one.
        resumed_after: step of the checkpoint.
        problem: what was wrong.
    """

    step: int
    first_dropped: int
    resumed_after: int
    problem: str


def read_rewinds(run_folder: Path) -> list[Rewind]:
    """Read the rewinds of a train run, in order."""
    path = run_folder / REWINDS
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [Rewind(**orjson.loads(line)) for line in lines]


def add_rewind(run_folder: Path, rewind: Rewind) -> None:
    """Record a rewind, before the train run resumes."""
    rewinds = [*read_rewinds(run_folder), rewind]
    data = b"".join(orjson.dumps(one._asdict()) + b"\n" for one in rewinds)
    atomic_write(run_folder / REWINDS, lambda partial: partial.write_bytes(data))
