"""Compaction: merge many small Parquet files of rows into one, sorted by document.

Each partition gets a sorted base and a small tail. So point lookups skip most row groups, and a
query opens few files. Shards are never rewritten. Writers and readers are not affected. When two
compactions race, only the first one commits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ixt_data.errors import CommitConflict, TransactionAborted
from ixt_data.log import RowsFile
from ixt_data.sql import CRITIQUES, DOCUMENTS, DerivedColumns, merge_rows
from ixt_data.store import Store, Transaction

BASES = {"documents": DOCUMENTS, "critiques": CRITIQUES}


@dataclass(frozen=True, slots=True)
class MergeReport:
    """One merge of a partition.

    Attributes:
        table: `documents` or `critiques`.
        partition: a corpus name, or a critic's id.
        files: number of merged files.
        rows: number of rows in them.
        snapshot: version after it.
    """

    table: str
    partition: str
    files: int
    rows: int
    snapshot: int


def compact(store: Store, *, min_files: int = 8, full: bool = False) -> list[MergeReport]:
    """Merge the rows of every partition that has `min_files` small files or more.

    Args:
        store: the store.
        min_files: partitions with fewer small files are skipped.
        full: merge large bases again, too.

    Returns:
        One report per merge, in the order of their commits.
    """
    state = store.snapshot()
    merges = []
    for files in group_mergeable(state.rows.values()):
        selected = files if full else choose_small_files(files)
        if len(selected) >= (2 if full else min_files):
            try:
                merges.append(_merge(store, state.version, selected))
            except (CommitConflict, TransactionAborted):
                # Another compaction or garbage collection was faster; its commit counts.
                continue
    return merges


def choose_small_files(files: Sequence[RowsFile]) -> list[RowsFile]:
    """Return all files except those that are larger than four times the others together."""
    selected = sorted(files, key=lambda file: file.bytes)
    while len(selected) > 1 and selected[-1].bytes > 4 * sum(file.bytes for file in selected[:-1]):
        selected.pop()
    return selected


def _merge(store: Store, base: int, files: Sequence[RowsFile]) -> MergeReport:
    table, partition = files[0].table, files[0].partition
    with store.begin("compact", base=base) as txn:
        merged = rewrite(txn, files)
        version = txn.commit(table=table, partition=partition, files=len(files), rows=merged.rows)
    return MergeReport(table, partition, len(files), merged.rows, version)


def rewrite(
    txn: Transaction, files: Sequence[RowsFile], derived: DerivedColumns | None = None
) -> RowsFile:
    """Write one file of rows that replaces files of one table, partition and generation.

    Args:
        txn: the transaction that publishes it.
        files: the files to replace.
        derived: columns to add to the rows.

    Raises:
        CommitConflict: a file was replaced meanwhile.
    """
    first = files[0]
    key, path = txn.rows_path(first.table, first.partition)
    try:
        with txn.storage.copies() as copies:
            paths = copies.get(file.path for file in files)
            local = {name: str(file) for name, file in paths.items()}
            schema = merge_rows(files, local, BASES[first.table], path, derived)
    except FileNotFoundError as error:
        raise CommitConflict(f"{error.filename} was replaced meanwhile; run it again") from None
    txn.remove_rows(file.path for file in files)
    rows = sum(file.rows for file in files)
    return txn.record_rows(key, first.table, first.partition, rows, schema, first.generation)


def group_mergeable(files: Iterable[RowsFile]) -> list[list[RowsFile]]:
    """Return the files in groups of the same table, partition and generation."""
    groups: dict[tuple[str, str, int], list[RowsFile]] = {}
    for file in files:
        groups.setdefault((file.table, file.partition, file.generation), []).append(file)
    return list(groups.values())
