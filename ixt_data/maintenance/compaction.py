"""Compaction: many small files of rows become one, sorted by document.

Each lane gets a sorted base and a small tail, so that point lookups skip most row groups and a
query opens few files. Shards are never rewritten. Writers and readers do not notice: a compaction
that races with another one is dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ixt_data.errors import CommitError
from ixt_data.log import RowsFile
from ixt_data.sql import CRITIQUES, DOCUMENTS, DerivedColumns, merge_rows
from ixt_data.store import Store, Transaction

BASES = {"documents": DOCUMENTS, "critiques": CRITIQUES}


@dataclass(frozen=True, slots=True)
class Merge:
    """What one compaction did to a lane: files merged, rows in them, version after it."""

    table: str
    partition: str
    files: int
    rows: int
    snapshot: int


def compact(store: Store, *, min_files: int = 8, everything: bool = False) -> list[Merge]:
    """Merges the rows of every lane that has `min_files` small files or more.

    Args:
        store: whose rows.
        min_files: fewer are left alone.
        everything: merge a large base again too.
    """
    state = store.snapshot()
    merges = []
    for files in by_lane(state.rows.values()):
        chosen = files if everything else choose(files)
        if len(chosen) >= (2 if everything else min_files):
            try:
                merges.append(_merge(store, state.version, chosen))
            except CommitError:
                # Another compaction or garbage collection was first; its work stands.
                continue
    return merges


def choose(files: Sequence[RowsFile]) -> list[RowsFile]:
    """All files but those that are larger than four times the rest together."""
    chosen = sorted(files, key=lambda file: file.bytes)
    while len(chosen) > 1 and chosen[-1].bytes > 4 * sum(file.bytes for file in chosen[:-1]):
        chosen.pop()
    return chosen


def _merge(store: Store, base: int, files: Sequence[RowsFile]) -> Merge:
    table, partition = files[0].table, files[0].partition
    with store.begin("compact", base=base) as txn:
        merged = rewrite(txn, files)
        version = txn.commit(table=table, partition=partition, files=len(files), rows=merged.rows)
    return Merge(table, partition, len(files), merged.rows, version)


def rewrite(
    txn: Transaction, files: Sequence[RowsFile], derived: DerivedColumns | None = None
) -> RowsFile:
    """One file of rows in the place of some of one table, lane and generation.

    Args:
        txn: publishes it.
        files: which.
        derived: columns to add to the rows.

    Raises:
        CommitError: one of them was replaced meanwhile.
    """
    first = files[0]
    key, path = txn.rows_path(first.table, first.partition)
    try:
        found = txn.storage.local_files(file.path for file in files)
        local = {name: str(file) for name, file in found.items()}
        schema = merge_rows(files, local, BASES[first.table], path, derived)
    except FileNotFoundError as error:
        raise CommitError(f"{error.filename} was replaced; begin again") from None
    txn.entry.rows_remove += [file.path for file in files]
    rows = sum(file.rows for file in files)
    return txn.record_rows(key, first.table, first.partition, rows, schema, first.generation)


def by_lane(files: Iterable[RowsFile]) -> list[list[RowsFile]]:
    """The files that can be merged with one another."""
    lanes: dict[tuple[str, str, int], list[RowsFile]] = {}
    for file in files:
        lanes.setdefault((file.table, file.partition, file.generation), []).append(file)
    return list(lanes.values())
