"""Views over the log and the snapshot: shards, snapshots, critics, selections and others.

The catalog fills such a view when a query names it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from ixt_data.log import Log, Snapshot
from ixt_data.sql.critique_run_totals import RUN_COLUMNS, critique_run_rows

RowIterable = Iterable[Sequence[Any]]

COLUMNS = {
    "shards": {
        "path": "VARCHAR",
        "family": "VARCHAR",
        "corpus": "VARCHAR",
        "k": "INTEGER",
        "samples": "BIGINT",
        "raw_bytes": "BIGINT",
        "bytes": "BIGINT",
        "aligned_with": "VARCHAR",
    },
    "snapshots": {
        "version": "BIGINT",
        "created": "TIMESTAMPTZ",
        "op": "VARCHAR",
        "unit": "VARCHAR",
        "rows_added": "BIGINT",
        "shards_added": "BIGINT",
        "summary": "JSON",
        "txn": "VARCHAR",
    },
    "critics": {"critic_id": "VARCHAR", "critic": "VARCHAR", "config": "JSON"},
    "critique_runs": RUN_COLUMNS,
    "selections": {
        "name": "VARCHAR",
        "predicate": "VARCHAR",
        "critic": "VARCHAR",
        "note": "VARCHAR",
        "documents": "BIGINT",
        "version": "BIGINT",
        "created": "TIMESTAMPTZ",
    },
    "queries": {
        "name": "VARCHAR",
        "sql": "VARCHAR",
        "note": "VARCHAR",
        "version": "BIGINT",
        "created": "TIMESTAMPTZ",
    },
}
"""DuckDB type of each column, by view."""


def view_rows(view: str, log: Log, snapshot: Snapshot) -> RowIterable:
    """Return the rows of one view at a snapshot."""
    match view:
        case "shards":
            return _shards(snapshot)
        case "snapshots":
            return _snapshots(log, snapshot)
        case "critics":
            return _critics(snapshot)
        case "critique_runs":
            return critique_run_rows(log, snapshot)
        case "selections":
            return _selections(snapshot)
        case "queries":
            return _queries(snapshot)
    raise ValueError(view)


def _shards(snapshot: Snapshot) -> Iterator[Sequence[Any]]:
    numbers: dict[tuple[str, str], int] = {}
    position: dict[str, int] = {}
    for shard in snapshot.shards:
        key = (shard.family, shard.corpus)
        own = numbers[key] = numbers.get(key, -1) + 1
        k = position[shard.path] = position.get(shard.aligned_with or "", own)
        yield (
            shard.path,
            shard.family,
            shard.corpus,
            k,
            shard.samples,
            shard.raw.bytes,
            shard.stored.bytes,
            shard.aligned_with,
        )


def _snapshots(log: Log, snapshot: Snapshot) -> Iterator[Sequence[Any]]:
    for entry in log.entries(1, snapshot.version):
        yield (
            entry.version,
            entry.created,
            entry.op,
            entry.unit,
            sum(rows.rows for rows in entry.rows_add),
            len(entry.shards_add),
            orjson.dumps(entry.summary).decode(),
            entry.txn,
        )


def _critics(snapshot: Snapshot) -> Iterator[Sequence[Any]]:
    for critic in snapshot.critics.values():
        yield critic.id, critic.name, orjson.dumps(critic.config).decode()


def _selections(snapshot: Snapshot) -> Iterator[Sequence[Any]]:
    for saved in snapshot.selections.values():
        yield (
            saved.name,
            saved.where,
            saved.critic,
            saved.note,
            saved.documents,
            saved.version,
            saved.created,
        )


def _queries(snapshot: Snapshot) -> Iterator[Sequence[Any]]:
    for saved in snapshot.queries.values():
        yield saved.name, saved.sql, saved.note, saved.version, saved.created
