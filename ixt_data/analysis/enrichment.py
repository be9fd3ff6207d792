"""Enrichers: columns that are computed from the text of each document, and written next to it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ixt_data.errors import CommitConflict, ConfigError, StoreError, TransactionAborted
from ixt_data.log import Snapshot
from ixt_data.maintenance import group_mergeable, rewrite
from ixt_data.plugins import find_plugins
from ixt_data.records import ProgressCallback
from ixt_data.sql import DOCUMENTS, DerivedColumns
from ixt_data.store import Store

MAX_ATTEMPTS = 5
BATCH_DOCUMENTS = 4096


class Enricher(Protocol):
    """Computes columns of a document. A plugin registers a class under `ixt.enrichers`.

    Attributes:
        columns: DuckDB type by column: BIGINT, DOUBLE, BOOLEAN or VARCHAR.
    """

    columns: Mapping[str, str]

    def enrich(self, text: str) -> Mapping[str, Any]:
        """Return the values of the columns for a text; a missing value is NULL."""


class TextStatistics:
    """Words, lines, and how well a text compresses: repetitive text has a high ratio."""

    columns: Mapping[str, str] = {
        "n_words": "BIGINT",
        "n_lines": "BIGINT",
        "compression_ratio": "DOUBLE",
    }

    def enrich(self, text: str) -> Mapping[str, Any]:
        """Return the statistics of a text."""
        import zstandard

        data = text.encode()
        packed = len(zstandard.ZstdCompressor(level=3).compress(data))
        return {
            "n_words": len(text.split()),
            "n_lines": text.count("\n") + 1,
            "compression_ratio": len(data) / packed,
        }


@dataclass(frozen=True)
class EnrichReport:
    """Result of `enrich`.

    Attributes:
        enricher: its name.
        columns: the columns that it wrote.
        documents: number of documents with values.
        snapshot: the version that has the columns.
    """

    enricher: str
    columns: tuple[str, ...]
    documents: int
    snapshot: int


def load_enricher(name: str) -> Enricher:
    """Create an enricher by the name of its plugin.

    Raises:
        ConfigError: no plugin has this name, or its object is not an enricher.
    """
    known = find_plugins("ixt.enrichers")
    if name not in known:
        raise ConfigError(f"enricher {name!r} does not exist; valid are {', '.join(known)}")
    enricher = known[name].load()()
    if not (getattr(enricher, "columns", None) and callable(getattr(enricher, "enrich", None))):
        raise ConfigError(f"{known[name].target} is not an enricher: it needs columns and enrich()")
    if wrong := set(enricher.columns.values()) - set(_arrow_types()):
        raise ConfigError(
            f"enricher {name!r}: type {min(wrong)} is not supported; valid are "
            f"{', '.join(_arrow_types())}"
        )
    return enricher  # type: ignore[no-any-return]


def enrich(
    store: Store,
    name: str,
    enricher: Enricher,
    *,
    corpora: Sequence[str] = (),
    replace: bool = False,
    progress: ProgressCallback = lambda done, total: None,
) -> EnrichReport:
    """Compute an enricher's columns for all documents, and publish them in one commit.

    Args:
        store: the store.
        name: the enricher's name, for the log.
        enricher: computes the columns.
        corpora: only documents of these corpora; all if empty.
        replace: overwrite columns that exist already.
        progress: called with the documents done and in all.

    Raises:
        StoreError: a column exists already, or a corpus does not exist or has no documents.
        CommitConflict: other commits replaced the rows in every attempt.
    """
    for attempts in range(MAX_ATTEMPTS, 0, -1):
        try:
            with store.begin("enrich") as txn:
                txn.base.check_corpora(corpora, store.root)
                _check_columns(txn.base, enricher, replace)
                values = txn.scratch / "values.parquet"
                n = _write_values(store, txn.base, enricher, corpora, values, progress)
                derived = DerivedColumns(enricher.columns, values, ("doc_id",))
                files = [file for file in txn.base.rows.values() if file.table == "documents"]
                chosen = [file for file in files if not corpora or file.partition in corpora]
                for group in group_mergeable(chosen):
                    rewrite(txn, group, derived)
                version = txn.commit(enricher=name, columns=list(enricher.columns), documents=n)
            return EnrichReport(name, tuple(enricher.columns), n, version)
        except (CommitConflict, TransactionAborted):
            # A compaction was faster.
            if attempts == 1:
                raise
    raise AssertionError


def _check_columns(snapshot: Snapshot, enricher: Enricher, replace: bool) -> None:
    existing = set(DOCUMENTS)
    if not replace:
        for file in snapshot.rows.values():
            if file.table == "documents":
                existing.update(file.schema)
    lower = {name.lower() for name in existing}
    for column in enricher.columns:
        if column.lower() in lower:
            raise StoreError(f"column {column!r} exists already; replace it with --replace")


def _write_values(
    store: Store,
    snapshot: Snapshot,
    enricher: Enricher,
    corpora: Sequence[str],
    target: Path,
    progress: ProgressCallback,
) -> int:
    """Write the values of each document once as a Parquet file; return their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = _arrow_types()
    fields = [(name, types[kind]) for name, kind in enricher.columns.items()]
    schema = pa.schema([("doc_id", pa.uuid()), *fields])
    shards = snapshot.text_shards(set(corpora) or None)
    total = sum(shard.samples for shard in shards)
    seen: set[bytes] = set()

    def rows() -> Iterator[dict[str, Any]]:
        for info in shards:
            shard = store.shard(info)
            columns = shard.column("doc_id"), shard.column("text")
            for doc_id, text in zip(*columns, strict=True):
                if doc_id not in seen and text:
                    seen.add(doc_id)
                    yield {"doc_id": doc_id, **enricher.enrich(text)}

    batch: list[dict[str, Any]] = []
    with pq.ParquetWriter(target, schema) as writer:
        for row in rows():
            batch.append(row)
            if len(batch) == BATCH_DOCUMENTS:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch.clear()
                progress(len(seen), total)
        writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    if not seen:
        raise StoreError(f"no documents in {store.root}. Add some: ixt ingest --corpus NAME FILE")
    return len(seen)


def _arrow_types() -> dict[str, Any]:
    import pyarrow as pa

    return {
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "VARCHAR": pa.string(),
    }
