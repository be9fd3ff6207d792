"""`ixt dedupe`: near-duplicates of a store as columns of its documents, in one commit."""

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
from ixt_tools.curate.minhash import PERMUTATIONS, Ints, SignedDocuments, clusters, keepers, signed

Keep = Literal["longest", "best", "first"]
ATTEMPTS = 5
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,58}")
_ROWS = 1 << 16
_TYPES = ("UUID", "BOOLEAN")


@dataclass(frozen=True, slots=True)
class DedupeReport:
    """What was found and written.

    Attributes:
        documents: different documents that were compared.
        clusters: how many of them have more than one document.
        duplicates: documents that are not kept.
        characters: in those.
        largest: documents of the largest cluster.
        columns: cluster, and whether a document is kept; empty on a dry run.
        snapshot: the version that has them, or that was looked at.
    """

    documents: int
    clusters: int
    duplicates: int
    characters: int
    largest: int
    columns: tuple[str, ...]
    snapshot: int


def dedupe(
    store: Store,
    corpora: Sequence[str] = (),
    *,
    threshold: float = 0.8,
    column: str = "near_dup",
    keep: Keep = "longest",
    critic: str | None = None,
    permutations: int = PERMUTATIONS,
    dry_run: bool = False,
    progress: ProgressCallback = lambda done, total: None,
) -> DedupeReport:
    """Finds near-duplicates and writes two columns of documents.

    `<column>` is the doc_id of the document that is kept of its cluster, `<column>_keep` whether
    that is the document itself; both are NULL for documents that were not compared.

    Args:
        store: whose documents.
        corpora: which are compared with one another, all by default.
        threshold: least overlap of two documents' shingles (Jaccard).
        column: name of the first column; columns of these names are written anew.
        keep: which document of a cluster: the longest, the one with the best score, the first.
        critic: whose scores, for `best`.
        permutations: numbers in a signature; more are more exact and slower.
        dry_run: only tell what would be written.
        progress: called meanwhile.

    Raises:
        ConfigError: the threshold or the name of the column cannot be.
        StoreError: there is no such corpus, critic or document.
        MissingExtra: datasketch is not installed.
    """
    names = (column, f"{column}_keep")
    for attempts in range(ATTEMPTS, 0, -1):
        try:
            with store.begin("dedupe") as txn:
                _check(store, txn.base, corpora, names)
                found = _signed(store, txn.base, corpora, txn.scratch, permutations, progress)
                roots = clusters(found, threshold, progress)
                ranks = _ranks(store, txn.base, found, roots, keep, critic)
                kept = keepers(roots, ranks)
                report = _report(found, kept, txn.base.version)
                if dry_run:
                    return report
                _write_columns(txn, corpora, names, found, kept)
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
            # A compaction was first.
            if attempts == 1:
                raise
    raise AssertionError


def _check(store: Store, snapshot: Snapshot, corpora: Sequence[str], names: Sequence[str]) -> None:
    if unknown := set(corpora) - snapshot.corpora.keys():
        known = ", ".join(snapshot.corpora) or "none"
        raise StoreError(f"no corpus {min(unknown)!r} in {store.root}; corpora: {known}")
    for name, kind in zip(names, _TYPES, strict=True):
        if not _NAME.fullmatch(name):
            raise ConfigError(f"column {name!r}: use letters, digits and '_', first a letter")
        for file in snapshot.rows.values():
            others = {other.lower(): other for other in file.schema}
            # No user's own column has these types, so that one that has is of an earlier time.
            other = others.get(name.lower())
            mine = file.table == "documents" and other == name and file.schema[name] == kind
            if name.lower() in RESERVED or (other is not None and not mine):
                raise ConfigError(f"column {name!r}: there is one already; give another name")


def _signed(
    store: Store,
    snapshot: Snapshot,
    corpora: Sequence[str],
    scratch: Path,
    permutations: int,
    progress: ProgressCallback,
) -> SignedDocuments:
    shards = snapshot.text_shards(set(corpora) or None)
    total = sum(shard.samples - shard.orphans for shard in shards)

    def documents() -> Iterator[tuple[bytes, str]]:
        with SeenIds(scratch) as seen:
            for info in shards:
                shard = store.shard(info)
                ids, texts = shard.column("doc_id"), shard.column("text")
                # One text in two corpora is signed once.
                new = seen.add_batch(id_array(b"".join(ids)))
                for doc_id, text in compress(zip(ids, texts, strict=True), new):
                    # An adopted folder may have samples that are no documents.
                    if text and not text.isspace():
                        yield doc_id, text

    most = sum(shard.samples for shard in shards)
    found = signed(documents(), most, scratch, permutations, lambda done: progress(done, total))
    if not len(found.ids):
        raise StoreError(f"no documents in {store.root}. Add some: ixt ingest --corpus NAME FILE")
    return found


def _ranks(
    store: Store,
    snapshot: Snapshot,
    found: SignedDocuments,
    roots: Ints,
    keep: Keep,
    critic: str | None,
) -> list[npt.NDArray[np.float64] | Ints]:
    if keep == "first":
        return []
    if keep == "longest":
        return [found.lengths]
    if (critic := choose_critic(snapshot, critic, store.root)) is None:
        raise StoreError(f"no critiques in {store.root}, so that no document is the best")
    # Only where there is a choice.
    sizes = np.bincount(roots, minlength=len(roots))
    several = np.flatnonzero(sizes[roots] > 1)
    place = {found.ids[i].tobytes(): i for i in several.tolist()}
    scores = np.full(len(roots), -1.0)
    catalog = store.catalog(snapshot.version)
    try:
        sql = f"SELECT doc_id, score FROM ({critiques_query(snapshot, critic)}) WHERE score >= 0"
        for batch in catalog.batches(sql):
            ids = batch.column("doc_id").storage.to_pylist()
            for doc_id, score in zip(ids, batch.column("score").to_pylist(), strict=True):
                if (i := place.get(doc_id)) is not None:
                    scores[i] = score
    finally:
        catalog.close()
    return [scores, found.lengths]


def _write_columns(
    txn: Transaction,
    corpora: Sequence[str],
    names: Sequence[str],
    found: SignedDocuments,
    kept: Ints,
) -> None:
    """Rewrites the rows of the documents with the columns."""
    target = txn.scratch / "values.parquet"
    schema = pa.schema([("doc_id", pa.uuid()), (names[0], pa.uuid()), (names[1], pa.bool_())])
    with pq.ParquetWriter(target, schema) as writer:
        for start in range(0, len(kept), _ROWS):
            part = kept[start : start + _ROWS]
            own = np.arange(start, start + len(part))
            columns = [_ids(found.ids[own]), _ids(found.ids[part]), pa.array(part == own)]
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


def _report(found: SignedDocuments, kept: Ints, version: int) -> DedupeReport:
    gone = kept != np.arange(len(kept))
    sizes = np.bincount(kept, minlength=1)
    return DedupeReport(
        documents=len(kept),
        clusters=int((sizes > 1).sum()),
        duplicates=int(gone.sum()),
        characters=int(found.lengths[gone].sum()),
        largest=int(sizes.max()),
        columns=(),
        snapshot=version,
    )
