"""Quantile scores: the position of a score among its source's scores, as a column of critiques.

Some critics are stricter with some kinds of documents; a quantile within the source is not. The
column is derived: the raw scores remain, and earlier snapshots do not have it. Later critiques have
NULL in it until it is written again.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ixt_data.errors import CommitConflict, StoreError, TransactionAborted
from ixt_data.log import RowsFile, Snapshot
from ixt_data.maintenance import group_mergeable, rewrite
from ixt_data.records import OK
from ixt_data.sql import CRITIQUES, DOCUMENTS, DerivedColumns, quote_name
from ixt_data.store import Store

MAX_ATTEMPTS = 5
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_VALUES = """
WITH newest AS (
    SELECT doc_id, critic_id, generation, status, score FROM critiques_all WHERE {condition_sql}
    QUALIFY row_number() OVER (PARTITION BY doc_id ORDER BY generation DESC) = 1
), scored AS (
    SELECT doc_id, critic_id, generation, round(score, 9) AS score,
    (SELECT min(source) FROM documents WHERE documents.doc_id = newest.doc_id) AS source
    FROM newest WHERE status = '{ok}' AND score IS NOT NULL
)
SELECT doc_id, critic_id, generation::INT AS generation,
(rank() OVER (PARTITION BY source ORDER BY score)
 + (count(*) OVER (PARTITION BY source, score) - 1) / 2.0 - 0.5)
/ count(*) OVER (PARTITION BY source) AS {column} FROM scored
"""


@dataclass(frozen=True, slots=True)
class QuantileReport:
    """Result of `write_quantiles`.

    Attributes:
        column: name of the column.
        critic: name or id.
        documents: number of documents with a quantile.
        snapshot: first version with the column.
    """

    column: str
    critic: str
    documents: int
    snapshot: int


def write_quantiles(store: Store, critic: str, column: str) -> QuantileReport:
    """Add a column with quantiles within the source to a critic's critiques, in one commit.

    The value is the share of the source's documents with a lower score, plus half of those with an
    equal score: above 0, below 1, and 0.5 on average. An existing column is replaced.

    Args:
        store: contains the critiques.
        critic: an id, or a name for the latest critiques by that name.
        column: its name in the view `critiques`.

    Raises:
        StoreError: the column name is in use, or the critic has no scores.
        CommitConflict: other commits replaced its rows in every attempt.
    """
    for attempts in range(MAX_ATTEMPTS, 0, -1):
        try:
            with store.begin("quantiles") as txn:
                files = _files(store, txn.base, critic)
                _check_column(txn.base, column)
                values = txn.scratch / "values.parquet"
                documents = _write_values(store, txn.base, critic, column, values)
                for group in group_mergeable(files):
                    condition = f"generation = {group[0].generation}"
                    keys = ("doc_id", "critic_id")
                    rewrite(txn, group, DerivedColumns({column: "DOUBLE"}, values, keys, condition))
                version = txn.commit(critic=critic, column=column, documents=documents)
            return QuantileReport(column, critic, documents, version)
        except (CommitConflict, TransactionAborted):
            # A compaction was faster.
            if attempts == 1:
                raise
    raise AssertionError


def _files(store: Store, snapshot: Snapshot, critic: str) -> list[RowsFile]:
    ids = {critic} if critic in snapshot.critics else set(snapshot.critic_ids(critic))
    rows = snapshot.rows.values()
    files = [file for file in rows if file.table == "critiques" and file.partition in ids]
    if not files:
        known = ", ".join(sorted({info.name for info in snapshot.critics.values()})) or "none"
        raise StoreError(f"no critiques by {critic!r} in {store.root}; critics: {known}")
    return files


def _check_column(snapshot: Snapshot, column: str) -> None:
    if not _NAME.fullmatch(column):
        raise StoreError(f"column {column!r}: use letters, digits and '_', and start with a letter")
    existing = {*DOCUMENTS, *CRITIQUES, "generation", "text", "spans"}
    for file in snapshot.rows.values():
        if file.table == "documents":
            existing.update(file.schema)
    if column.lower() in {name.lower() for name in existing}:
        raise StoreError(
            f"column {column!r} already exists in documents or critiques; give another name"
        )


def _write_values(store: Store, snapshot: Snapshot, critic: str, column: str, target: Path) -> int:
    """Write the quantiles as a Parquet file; return their number."""
    import pyarrow.parquet as pq

    name = "critic_id" if critic in snapshot.critics else "critic"
    condition_sql = f"{name} = '" + critic.replace("'", "''") + "'"
    catalog = store.catalog(snapshot.version)
    rows, writer = 0, None
    try:
        for batch in catalog.batches(
            _VALUES.format(condition_sql=condition_sql, ok=OK, column=quote_name(column))
        ):
            writer = writer or pq.ParquetWriter(target, batch.schema)
            writer.write_batch(batch)
            rows += batch.num_rows
    finally:
        catalog.close()
        if writer is not None:
            writer.close()
    if not rows:
        raise StoreError(f"{critic} has no scores in {store.root}, so quantiles cannot be computed")
    return rows
