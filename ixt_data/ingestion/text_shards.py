"""Text shards of a corpus: which documents are new, and which shard gets them."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.errors import NothingNew
from ixt_data.ingestion.blocks import Block, BuiltShard, Content, ShardPlan, build_shard
from ixt_data.ingestion.column_values import StoreTypes, TypeOptions
from ixt_data.ingestion.columns import ColumnNames
from ixt_data.ingestion.document_rows import (
    drop_committed_rows,
    id_array,
    metadata_types,
    read_stored_ids,
)
from ixt_data.ingestion.ingest_journal import IngestJournal, JournalEntry, Progress
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.seen_ids import SeenIds
from ixt_data.log import TEXT, Entry
from ixt_data.mds import TEXT_COLUMNS
from ixt_data.sql import parse_type
from ixt_data.store import Transaction
from ixt_data.worker_processes import WorkerPool

SHARD_DOCUMENTS = 1 << 16
"""Most documents of a shard, which is one unit of critique work."""


class TextShards:
    """Shards of new documents, in the order of the blocks, and one file of rows per shard.

    Attributes:
        documents, duplicates: number of new and of known documents.
        shards: number of shards.
        bytes: UTF-8 bytes of the texts in finished shards.
        names: columns of the user's fields.
        types: types of the columns.
        remarks: what the summary says of the values.
    """

    def __init__(
        self,
        txn: Transaction,
        corpus: str,
        stage: str | None,
        options: TypeOptions,
        shard_bytes: float,
        seen: SeenIds,
        writers: WorkerPool | ThreadPoolExecutor,
        workers: int,
        journal: IngestJournal,
        outside: Callable[[], tuple[dict[str, Any], list[str]]],
    ) -> None:
        """Continue after the shards of the journal.

        Args:
            txn: the transaction.
            corpus: name of the corpus.
            stage: see `DocumentRows.table`.
            options: what decides the types of the user's columns.
            shard_bytes: see `ingest`.
            seen: ids of the documents that the corpus has.
            writers: the processes or threads that write shards.
            workers: number of shards that are written at the same time.
            journal: the journal; this adds its documents to `seen`.
            outside: returns remarks and lines of the quarantine for `Progress`.
        """
        self.documents = self.duplicates = self.shards = self.bytes = 0
        self.remarks = Remarks()
        known = metadata_types(txn.base)
        self.names, self.types = ColumnNames(known), StoreTypes(known, self.remarks)
        self._txn, self._corpus = txn, corpus
        self._writers, self._workers = writers, workers
        self._stage, self._options, self._shard_bytes = stage, options, shard_bytes
        self._seen = seen
        self._family = txn.family(TEXT, corpus, TEXT_COLUMNS)
        self._parts: list[tuple[Block, Sequence[int]]] = []
        self._size = self._samples = 0
        self._building: deque[tuple[Future[BuiltShard], list[Path], Progress, list[str]]] = deque()
        self._uses = Counter[Path]()
        self._journal, self._outside = journal, outside
        for entry in journal.entries:
            self._restore(entry)

    def _restore(self, entry: JournalEntry) -> None:
        self._family.restore(entry.shard)
        self._txn.restore(entry.shard, entry.rows)
        for ids in read_stored_ids(self._txn.storage, [entry.rows]):
            self._seen.add_batch(ids)
        for field in entry.fields:
            _ = self.names[field]
        self.remarks.update(Remarks.parse(entry.remarks))
        for field, name, kind in entry.kinds:
            self.types.add(field, name, parse_type(kind))
        self.documents, self.duplicates = entry.progress.documents, entry.progress.duplicates
        self.bytes += entry.bytes
        self.shards += 1

    def add(self, block: Block, place: tuple[int, int] = (0, 0), first: int = 0) -> None:
        """Add the new documents of a block. A shard ends with the document that fills it.

        Args:
            block: the block.
            place: number of the portion, and of the block in it.
            first: index of the first document; those before it are in earlier shards.
        """
        files = _files([block])
        self._uses.update(files)
        if len(block):
            ids = id_array(block.ids)[first:]
            new = first + np.flatnonzero(self._seen.add_batch(ids))
            ends = np.cumsum(block.sizes[new])
            start = 0
            while start < len(new):
                before = ends[start - 1] if start else 0
                full = before + self._shard_bytes - self._size
                end = int(np.searchsorted(ends, full)) + 1
                end = min(end, len(new), start + SHARD_DOCUMENTS - self._samples)
                self._parts.append((block, _indices(new[start:end])))
                self._uses.update(files)
                self._size += int(ends[end - 1] - before)
                self._samples += end - start
                if self._size >= self._shard_bytes or self._samples >= SHARD_DOCUMENTS:
                    after = int(new[end - 1]) + 1
                    documents = self.documents + end
                    duplicates = self.duplicates + after - first - end
                    self._cut(Progress(*place, after, documents, duplicates, *self._outside()))
                start = end
            self.documents += len(new)
            self.duplicates += len(block) - first - len(new)
        self._release(files)

    def finish(self) -> None:
        """Write the last shard, and wait for all."""
        if self._parts:
            self._cut(Progress())
        while self._building:
            self._add_built()
        self._journal.finish()

    def _cut(self, progress: Progress) -> None:
        key, path = self._txn.rows_path("documents", self._corpus)
        parts: list[tuple[Content | Path, Sequence[int]]] = [
            (block.content, chosen) for block, chosen in self._parts
        ]
        names = {field: self.names[field] for field in self._fields()}
        plan = ShardPlan(
            self._family.folder,
            self.shards,
            self._family.path_of(self.shards),
            key,
            path,
            self._corpus,
            self._stage,
            parts,
            names,
            self._options,
        )
        files = _files([block for block, _ in self._parts])
        future = self._writers.submit(build_shard, plan)
        self._building.append((future, files, progress, list(names)))
        self.shards += 1
        self._parts, self._size, self._samples = [], 0, 0
        while len(self._building) >= self._workers:
            self._add_built()

    def _fields(self) -> list[str]:
        """Return the user's fields in the open shard, in the order of the blocks."""
        found: dict[str, None] = {}
        for block, chosen in self._parts:
            own = set(chosen) if any(rows is not None for rows in block.fields.values()) else set()
            for field, rows in block.fields.items():
                if field not in found and (rows is None or not own.isdisjoint(rows)):
                    found[field] = None
        return list(found)

    def _add_built(self) -> None:
        """Take the oldest shard that is being written."""
        future, files, progress, fields = self._building.popleft()
        built = future.result()
        self._release(files)
        self.remarks.update(built.remarks)
        for field, name, kind in built.kinds:
            self.types.add(field, name, kind)
        self.bytes += built.bytes
        shard = self._family.add_written(built.index)
        self._txn.add_rows_file(built.rows)
        # The last shard is published with the commit.
        if progress.document:
            kinds = [(field, name, str(kind)) for field, name, kind in built.kinds]
            self._journal.add(
                JournalEntry(
                    self._txn.base_version,
                    shard,
                    built.rows,
                    fields,
                    kinds,
                    built.remarks.as_json(),
                    built.bytes,
                    progress,
                )
            )

    def _release(self, files: Sequence[Path]) -> None:
        for path in files:
            self._uses[path] -= 1
            if not self._uses[path]:
                del self._uses[path]
                path.unlink()

    def commit(self, quarantined: int) -> int:
        """Commit everything; return the version.

        Raises:
            NothingNew: another process has committed all documents since `begin`.
        """
        return self._txn.commit(
            self._drop_committed,
            corpus=self._corpus,
            documents=self.documents,
            duplicates=self.duplicates,
            quarantined=quarantined,
        )

    def _drop_committed(self, newer: Entry) -> None:
        dropped = drop_committed_rows(self._txn, self._corpus, newer)
        self.documents -= dropped.documents
        self.duplicates += dropped.documents
        self.bytes -= dropped.bytes
        if not self.documents:
            self.shards = 0
            raise NothingNew(
                f"nothing was committed: version {newer.version}, which another process committed "
                "during this ingest, has its last new documents"
            )


def _files(blocks: Sequence[Block]) -> list[Path]:
    return [block.content for block in blocks if isinstance(block.content, Path)]


def _indices(chosen: npt.NDArray[np.int64]) -> Sequence[int]:
    """Return the indices as a range, if they are one."""
    first, last = int(chosen[0]), int(chosen[-1])
    if last - first + 1 == len(chosen):
        return range(first, last + 1)
    return [int(i) for i in chosen]
