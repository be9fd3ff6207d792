"""Enrichers: columns that are computed from the text of each document, and written next to it."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ixt_data.errors import CommitConflict, ConfigError, StoreError, TransactionAborted
from ixt_data.ingestion import INNER, RESERVED
from ixt_data.log import ShardInfo, Snapshot
from ixt_data.maintenance import group_mergeable, rewrite
from ixt_data.plugins import find_plugins
from ixt_data.records import ProgressCallback
from ixt_data.sql import DerivedColumns
from ixt_data.store import Store
from ixt_data.worker_processes import WorkerPool, cores

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ATTEMPTS = 5
SMALL = 2000
"""Documents up to which starting processes would take longer than the work."""


class Enricher(Protocol):
    """Computes columns of a document. A plugin registers a class under `ixt.enrichers`.

    Attributes:
        columns: DuckDB type by column: BIGINT, DOUBLE, BOOLEAN or VARCHAR.
    """

    columns: Mapping[str, str]

    def enrich(self, text: str) -> Mapping[str, Any]:
        """Return the values of the columns for a text; a missing value is NULL."""


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


def load_enricher(name: str, options: Mapping[str, Any] | None = None) -> Enricher:
    """Create an enricher by the name of its plugin.

    Args:
        name: name of the plugin.
        options: keyword arguments of the class; values from the command line are text.

    Raises:
        ConfigError: no plugin has this name, an option is wrong, or its object is not an enricher.
    """
    known = find_plugins("ixt.enrichers")
    if name not in known:
        raise ConfigError(f"enricher {name!r} does not exist; valid are {', '.join(known)}")
    kind = known[name].load()
    signature = inspect.signature(kind)
    try:
        signature.bind(**(options or {}))
    except TypeError as error:
        valid = ", ".join(signature.parameters) or "none"
        raise ConfigError(f"enricher {name!r}: options: {error}; valid are {valid}") from None
    enricher = kind(**(options or {}))
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
    workers: int | None = None,
    progress: ProgressCallback = lambda done, total: None,
) -> EnrichReport:
    """Compute an enricher's columns for all documents, and publish them in one commit.

    Args:
        store: the store.
        name: the enricher's name, for the log.
        enricher: computes the columns.
        corpora: only documents of these corpora; all if empty.
        replace: overwrite columns that exist already.
        workers: number of processes that share the shards; the result is the same for any number.
            None: one per core, one for a small corpus. Several need an enricher that pickles.
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
                n = _write_values(store, txn.base, enricher, corpora, values, workers, progress)
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
    for column in enricher.columns:
        if column.lower() in RESERVED or column.lower().startswith(INNER):
            raise StoreError(
                f"column {column!r}: the views documents and critiques have a column of this name; "
                "choose another one"
            )
    existing: set[str] = set()
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
    workers: int | None,
    progress: ProgressCallback,
) -> int:
    """Write the values of each document once as a Parquet file; return their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shards = snapshot.text_shards(set(corpora) or None)
    total = sum(shard.samples for shard in shards)
    if workers is None:
        workers = cores() if total > SMALL else 1
    seen: set[bytes] = set()
    with (
        WorkerPool(max(1, min(workers, len(shards)))) as pool,
        pq.ParquetWriter(target, _schema(enricher)) as writer,
    ):
        compute = partial(_values, enricher, store.root)
        for table in pool.map(compute, shards):
            is_new = []
            for doc_id in table["doc_id"].to_pylist():
                is_new.append(doc_id.bytes not in seen)
                seen.add(doc_id.bytes)
            writer.write_table(table.filter(pa.array(is_new, pa.bool_())))
            progress(len(seen), total)
    if not seen:
        raise StoreError(f"no documents in {store.root}. Add some: ixt ingest --corpus NAME FILE")
    return len(seen)


def _values(enricher: Enricher, root: str, info: ShardInfo) -> "pa.Table":
    """Return the values of the documents of one shard that have a text."""
    import pyarrow as pa

    shard = _open(root).shard(info)
    pairs = zip(shard.column("doc_id"), shard.column("text"), strict=True)
    rows = [{"doc_id": doc_id, **enricher.enrich(text)} for doc_id, text in pairs if text]
    return pa.Table.from_pylist(rows, schema=_schema(enricher))


_open = cache(Store.open)


def _schema(enricher: Enricher) -> "pa.Schema":
    import pyarrow as pa

    types = _arrow_types()
    fields = [(name, types[kind]) for name, kind in enricher.columns.items()]
    return pa.schema([("doc_id", pa.uuid()), *fields])


def _arrow_types() -> dict[str, Any]:
    import pyarrow as pa

    return {
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "VARCHAR": pa.string(),
    }
