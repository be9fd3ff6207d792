"""Documents that match a predicate, with text and critique, shard by shard: input of exports."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ixt_data.errors import QueryError
from ixt_data.log import ShardInfo
from ixt_data.records import ProgressCallback
from ixt_data.sql import (
    CRITIQUES,
    Catalog,
    choose_critic,
    join_clause,
    parenthesize,
    quote_name,
    sql_literal,
)
from ixt_data.store import Store
from ixt_data.worker_processes import cores, map_ahead

GROUP = 1 << 16
"""Samples per query: their rows are in memory, together with the text of one shard."""

BATCH = 4096
_SHARD = "_ixt_shard"

_SPAN = {
    "start": pa.int64(),
    "end": pa.int64(),
    "verdict": pa.string(),
    "tag": pa.string(),
    "comment": pa.string(),
    "score": pa.float64(),
}
SPANS = pa.list_(pa.struct(_SPAN))
_OF_CRITIC = [name for name in CRITIQUES if name not in ("doc_id", "shard", "row")]


class MatchedDocuments:
    """The documents of one snapshot for which a predicate is true.

    Attributes:
        snapshot: the snapshot.
        critic: name or id of the critic whose critiques are joined; None without critiques.
        where: the predicate, SQL.
        total: number of samples to scan.
        workers: number of shards that are read at the same time.
    """

    def __init__(
        self,
        store: Store,
        *,
        where: str | None = None,
        corpora: Sequence[str] = (),
        critic: str | None = None,
        at: int | str | None = None,
        workers: int | None = None,
    ) -> None:
        """Find the shards to scan, without reading them.

        Args:
            store: the store.
            where: SQL over the columns of documents and of the critic's critiques.
            corpora: names of the corpora, all by default.
            critic: name or id of the critic, by default the only one.
            at: version or tag, the newest by default.
            workers: threads that read shards, by default one per core; the result is the same for
                any number. Each holds one shard in memory.

        Raises:
            StoreError: a corpus or the critic does not exist, or several critics exist and none is
                named.
            SnapshotError: the version or tag does not exist.
        """
        self.store = store
        self.snapshot = store.snapshot(at)
        self.critic = choose_critic(self.snapshot, critic, store.root)
        self.workers = workers or cores()
        self.where = "true" if where is None else where
        self.snapshot.check_corpora(corpora, store.root)
        self._shards = self.snapshot.text_shards(corpora or None)
        self.total = sum(shard.samples for shard in self._shards)

    def tables(
        self,
        columns: Sequence[str] | None = None,
        progress: ProgressCallback = lambda scanned, matched: None,
    ) -> Iterator[pa.Table]:
        """Yield the documents in tables of at most `BATCH` rows, in the order of shards and rows.

        The first table is empty and defines the columns. Each shard with matches is read once,
        other shards are not read. The snapshot is pinned during the iteration.

        Args:
            columns: columns of the tables, all by default.
            progress: called after each shard with samples scanned and documents matched.

        Raises:
            QueryError: DuckDB refuses the predicate.
            CorruptError: a shard differs from what was written.
        """
        with self.store.pins.hold(self.snapshot.version, "export"):
            catalog = self.store.catalog(self.snapshot.version, plain=True)
            with closing(catalog):
                yield from self._tables(catalog, columns, progress)

    def _tables(
        self, catalog: Catalog, columns: Sequence[str] | None, progress: ProgressCallback
    ) -> Iterator[pa.Table]:
        empty = self._add_texts(self._query(catalog, []), [], {})
        names = list(columns or empty.column_names)
        yield empty.select(names)

        def read(item: tuple[ShardInfo, pa.Table]) -> tuple[int, int, list[pa.Table]]:
            shard, rows = item
            tables = self._read(shard, rows, "spans" in names)
            return shard.samples, rows.num_rows, [table.select(names) for table in tables]

        scanned = matched = 0
        for samples, rows, tables in map_ahead(read, self._matches(catalog), self.workers):
            yield from tables
            scanned, matched = scanned + samples, matched + rows
            progress(scanned, matched)

    def _matches(self, catalog: Catalog) -> Iterator[tuple[ShardInfo, pa.Table]]:
        """Yield each shard with its matching rows."""
        for group in _groups(self._shards):
            rows = self._query(catalog, group)
            # Rows are in the order of the shards, numbered from 1.
            ends = np.searchsorted(rows[_SHARD].to_numpy(), np.arange(1, len(group) + 2))
            for shard, (start, end) in zip(group, pairwise(ends.tolist()), strict=True):
                yield shard, rows.slice(start, end - start)

    def _query(self, catalog: Catalog, group: Sequence[ShardInfo]) -> pa.Table:
        """Return the matching rows of some shards without texts, in the order of shards."""
        paths = ", ".join(sql_literal(shard.path) for shard in group)
        kinds = catalog.columns["documents"]
        intervals = [quote_name(name) for name, kind in kinds.items() if kind == "INTERVAL"]
        numbers = ", ".join(f"epoch_us(documents.{name}) AS {name}" for name in intervals)
        selected = [f"documents.* REPLACE ({numbers})" if numbers else "documents.*"]
        selected += [f"critiques.{name}" for name in _OF_CRITIC if self.critic is not None]
        selected += [f"list_position([{paths}]::VARCHAR[], documents.shard) AS {_SHARD}"]
        inside = f"documents.shard IN ({paths})" if group else "false"
        condition = parenthesize(self.where)
        sql = (
            f"SELECT {', '.join(selected)} {join_clause(self.snapshot, self.critic)} "
            f"WHERE {inside} AND {condition} ORDER BY {_SHARD}, documents.row"
        )
        try:
            rows = catalog.arrow(sql)
        except QueryError as error:
            raise QueryError(f"where {self.where!r} is refused: {error.reason}") from None
        for i, field in enumerate(rows.schema):
            if quote_name(field.name) in intervals:
                rows = rows.set_column(i, field.name, rows.column(i).cast(pa.duration("us")))
        return rows

    def _read(self, shard: ShardInfo, rows: pa.Table, with_spans: bool) -> Iterator[pa.Table]:
        if not rows.num_rows:
            return
        texts = self.store.shard(shard).column("text")
        spans = self._spans(shard, rows) if with_spans and self.critic is not None else {}
        for start in range(0, rows.num_rows, BATCH):
            part = rows.slice(start, BATCH)
            yield self._add_texts(part, texts, spans)

    def _spans(self, shard: ShardInfo, rows: pa.Table) -> dict[str, list[Any]]:
        """Return the spans of all samples of a text shard, by critic id of the rows."""
        spans = {}
        for critic in filter(None, rows["critic_id"].unique().to_pylist()):
            aligned = self.snapshot.aligned(shard.path, f"critique/{critic}")
            if aligned is not None:
                spans[critic] = self.store.shard(aligned).column("spans")
        return spans

    def _add_texts(
        self, rows: pa.Table, texts: Sequence[str], spans: Mapping[str, list[Any]]
    ) -> pa.Table:
        """Add texts and spans to the rows."""
        positions = rows["row"].to_pylist()
        rows = rows.drop_columns(_SHARD)
        rows = rows.append_column("text", pa.array([texts[row] for row in positions], pa.string()))
        if self.critic is None:
            return rows
        critics = rows["critic_id"].to_pylist()
        values = [
            # A span without a score is shorter.
            [dict(zip(_SPAN, span, strict=False)) for span in spans[critic][row]]
            if critic in spans
            else None
            for critic, row in zip(critics, positions, strict=True)
        ]
        return rows.append_column("spans", pa.array(values, SPANS))


def _groups(shards: Sequence[ShardInfo]) -> Iterator[list[ShardInfo]]:
    """The shards in groups of some `GROUP` samples."""
    group: list[ShardInfo] = []
    samples = 0
    for shard in shards:
        group.append(shard)
        samples += shard.samples
        if samples >= GROUP:
            yield group
            group, samples = [], 0
    if group:
        yield group
