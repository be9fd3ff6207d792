"""`ixt dedupe`: near-duplicates of a store, written as columns of its documents in one commit."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ixt_data.errors import CommitConflict, ConfigError, StoreError, TransactionAborted
from ixt_data.ingestion import RESERVED, SeenIds, id_array
from ixt_data.log import Snapshot
from ixt_data.maintenance import group_mergeable, rewrite
from ixt_data.records import ProgressCallback
from ixt_data.sql import DerivedColumns, choose_critic, critiques_query
from ixt_data.store import Store, Transaction
from ixt_tools.curate.minhash import (
    PERMUTATIONS,
    Ints,
    SignedDocuments,
    find_clusters,
    representatives,
    sign_documents,
)

Keep = Literal["longest", "best", "first"]
OP = "dedupe"
MAX_ATTEMPTS = 5
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,58}")
_BATCH_ROWS = 1 << 16
_TYPES = ("UUID", "BOOLEAN")


@dataclass(frozen=True, slots=True)
class DedupeReport:
    """The near-duplicates of a store.

    Attributes:
        documents: distinct documents that were compared.
        clusters: clusters of more than one document.
        duplicates: documents that do not represent their cluster.
        characters: characters of the duplicates.
        largest: documents of the largest cluster.
        columns: names of the written columns; empty on a dry run.
        snapshot: version that was written, or read on a dry run.
    """

    documents: int
    clusters: int
    duplicates: int
    characters: int
    largest: int
    columns: tuple[str, ...]
    snapshot: int


def mark_near_duplicates(
    store: Store,
    corpora: Sequence[str] = (),
    *,
    threshold: float = 0.8,
    column: str = "near_dup",
    keep: Keep = "longest",
    critic: str | None = None,
    permutations: int = PERMUTATIONS,
    dry_run: bool = False,
    workers: int | None = None,
    progress: ProgressCallback = lambda done, total: None,
) -> DedupeReport:
    """Find near-duplicates and write two columns of documents.

    `<column>` is the doc_id of the document that represents the cluster; `<column>_keep` is whether
    the document is the representative. Both are NULL for documents that were not compared.

    Args:
        store: store of the documents.
        corpora: corpora to compare; all by default.
        threshold: minimum Jaccard similarity of the shingles of two documents.
        column: name of the first column; existing columns of these names are replaced.
        keep: representative: the longest document, the one with the best score, or the first.
        critic: critic whose scores `best` compares.
        permutations: hashes per signature; more are more accurate and slower.
        dry_run: whether to write nothing.
        workers: see `sign_documents`.
        progress: function that receives the work done and in total.

    Raises:
        ConfigError: the threshold or the name of the column is not valid, or a critic is given that
            `keep` does not use.
        StoreError: a corpus, critic or document does not exist.
        MissingExtra: datasketch is not installed.
    """
    if critic is not None and keep != "best":
        raise ConfigError(f"critic {critic!r}: only keep best compares scores")
    names = (column, f"{column}_keep")
    for attempts in range(MAX_ATTEMPTS, 0, -1):
        try:
            with store.begin(OP) as txn:
                _check(store, txn.base, corpora, names)
                signed = _sign_corpora(
                    store, txn.base, corpora, txn.scratch, permutations, workers, progress
                )
                roots = find_clusters(signed, threshold, progress)
                ranks = _ranks(store, txn.base, signed, roots, keep, critic)
                representative = representatives(roots, ranks)
                report = _report(signed, representative, txn.base.version)
                if dry_run:
                    return report
                _write_columns(txn, corpora, names, signed, representative)
                version = txn.commit(
                    columns=list(names),
                    corpora=list(corpora),
                    threshold=threshold,
                    keep=keep,
                    documents=report.documents,
                    duplicates=report.duplicates,
                )
            return replace(report, columns=names, snapshot=version)
        except (CommitConflict, TransactionAborted):
            # A concurrent compaction committed first.
            if attempts == 1:
                raise
    raise AssertionError


def _check(store: Store, snapshot: Snapshot, corpora: Sequence[str], names: Sequence[str]) -> None:
    snapshot.check_corpora(corpora, store.root)
    entries = store.log.entries(1, snapshot.version)
    written = {name for one in entries if one.op == OP for name in one.summary["columns"]}
    for name, kind in zip(names, _TYPES, strict=True):
        if not _NAME.fullmatch(name):
            raise ConfigError(f"column {name!r}: use letters, digits and '_', first a letter")
        for file in snapshot.rows.values():
            others = {other.lower(): other for other in file.schema}
            other = others.get(name.lower())
            mine = file.table == "documents" and other in written and file.schema[name] == kind
            if name.lower() in RESERVED or (other is not None and not mine):
                raise ConfigError(
                    f"column {name!r}: it already exists; choose another name: --column NAME"
                )


def _sign_corpora(
    store: Store,
    snapshot: Snapshot,
    corpora: Sequence[str],
    scratch: Path,
    permutations: int,
    workers: int | None,
    progress: ProgressCallback,
) -> SignedDocuments:
    shards = snapshot.text_shards(set(corpora) or None)
    total = sum(shard.samples - shard.orphans for shard in shards)

    def documents() -> Iterator[tuple[bytes, str]]:
        with SeenIds(scratch) as seen:
            for info in shards:
                shard = store.shard(info)
                ids, texts = shard.column("doc_id"), shard.column("text")
                # A text in two corpora is signed once.
                new = seen.add_batch(id_array(b"".join(ids)))
                for doc_id, text in compress(zip(ids, texts, strict=True), new):
                    # An adopted folder may contain samples without a text.
                    if text and not text.isspace():
                        yield doc_id, text

    max_documents = sum(shard.samples for shard in shards)
    signed = sign_documents(
        documents(),
        max_documents,
        scratch,
        permutations,
        workers,
        lambda done: progress(done, total),
    )
    if not len(signed.ids):
        raise StoreError(f"no documents in {store.root}. Add some: ixt ingest --corpus NAME FILE")
    return signed


def _ranks(
    store: Store,
    snapshot: Snapshot,
    signed: SignedDocuments,
    roots: Ints,
    keep: Keep,
    critic: str | None,
) -> list[npt.NDArray[np.float64] | Ints]:
    if keep == "first":
        return []
    if keep == "longest":
        return [signed.lengths]
    if (critic := choose_critic(snapshot, critic, store.root)) is None:
        raise StoreError(f"no critiques in {store.root}: --keep best needs scores")
    # Scores are needed only for clusters of several documents.
    sizes = np.bincount(roots, minlength=len(roots))
    several = np.flatnonzero(sizes[roots] > 1)
    position = {signed.ids[i].tobytes(): i for i in several.tolist()}
    scores = np.full(len(roots), -1.0)
    catalog = store.catalog(snapshot.version)
    try:
        sql = f"SELECT doc_id, score FROM ({critiques_query(snapshot, critic)}) WHERE score >= 0"
        for batch in catalog.batches(sql):
            ids = batch.column("doc_id").storage.to_pylist()
            for doc_id, score in zip(ids, batch.column("score").to_pylist(), strict=True):
                if (i := position.get(doc_id)) is not None:
                    scores[i] = score
    finally:
        catalog.close()
    return [scores, signed.lengths]


def _write_columns(
    txn: Transaction,
    corpora: Sequence[str],
    names: Sequence[str],
    signed: SignedDocuments,
    representative: Ints,
) -> None:
    """Rewrite the rows of the documents with the new columns."""
    target = txn.scratch / "values.parquet"
    schema = pa.schema([("doc_id", pa.uuid()), (names[0], pa.uuid()), (names[1], pa.bool_())])
    with pq.ParquetWriter(target, schema) as writer:
        for start in range(0, len(representative), _BATCH_ROWS):
            chosen = representative[start : start + _BATCH_ROWS]
            own = np.arange(start, start + len(chosen))
            columns = [_ids(signed.ids[own]), _ids(signed.ids[chosen]), pa.array(chosen == own)]
            writer.write_table(pa.table(columns, schema=schema))
    derived = DerivedColumns(dict(zip(names, _TYPES, strict=True)), target, ("doc_id",))
    files = [file for file in txn.base.rows.values() if file.table == "documents"]
    for group in group_mergeable(
        file for file in files if not corpora or file.partition in corpora
    ):
        rewrite(txn, group, derived)


def _ids(ids: npt.NDArray[np.uint8]) -> pa.Array:
    values = pa.Array.from_buffers(
        pa.binary(ids.shape[1]), len(ids), [None, pa.py_buffer(np.ascontiguousarray(ids))]
    )
    return pa.ExtensionArray.from_storage(pa.uuid(), values)


def _report(signed: SignedDocuments, representative: Ints, version: int) -> DedupeReport:
    is_duplicate = representative != np.arange(len(representative))
    sizes = np.bincount(representative, minlength=1)
    return DedupeReport(
        documents=len(representative),
        clusters=int((sizes > 1).sum()),
        duplicates=int(is_duplicate.sum()),
        characters=int(signed.lengths[is_duplicate].sum()),
        largest=int(sizes.max()),
        columns=(),
        snapshot=version,
    )
