"""Ingest: read every record once, keep each text once, commit once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from types import TracebackType

import orjson

from ixt_data.errors import ConfigError
from ixt_data.ingestion.columns import ColumnNames
from ixt_data.ingestion.document_rows import (
    DocumentRows,
    documents_of,
    drop_committed_rows,
    id_array,
    metadata_names,
    read_stored_ids,
)
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.inputs import Input, open_inputs
from ixt_data.ingestion.seen_ids import SeenIds
from ixt_data.log import TEXT, Entry
from ixt_data.mds import SHARD_BYTES, TEXT_COLUMNS
from ixt_data.records import STAGES, Document, ProgressCallback, Stage
from ixt_data.store import Store, Transaction, check_name

# A batch ends with whichever comes first: records, characters of text, bytes of the input.
BATCH_RECORDS = 2048
BATCH_CHARS = BATCH_BYTES = 1 << 20
# A shard is one unit of critique work, and its metadata is in memory until it is cut.
SHARD_DOCUMENTS = 1 << 16


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did.

    Attributes:
        documents: how many are new in the corpus.
        duplicates: records whose text the corpus or the input had already.
        quarantined: records that are no documents.
        shards: text shards written.
        bytes: UTF-8 bytes of the new documents' texts.
        snapshot: the version that has them; the newest one where nothing was new.
        quarantine_file: key in the store, None where nothing was quarantined.
    """

    documents: int
    duplicates: int
    quarantined: int
    shards: int
    bytes: int
    snapshot: int
    quarantine_file: str | None


def ingest(
    store: Store,
    corpus: str,
    inputs: Sequence[str | Path],
    *,
    text_field: str = "text",
    id_field: str | None = None,
    stage: Stage | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: ProgressCallback | None = None,
) -> IngestReport:
    """Adds the documents of some files and folders to a corpus, in one commit.

    Args:
        store: where to.
        corpus: its name; made if it is new.
        inputs: files and folders, see `open_inputs`.
        text_field: field of the text in a record.
        id_field: field of the user's own id; None takes `id` where there is one.
        stage: for which stage of training the documents are; by default sft for conversations and
            pretrain for all else.
        shard_bytes: a shard is cut when it has so many bytes, uncompressed.
        progress: called now and then with the bytes of the inputs that were read, as stored, and
            the number of new documents.

    Raises:
        IxtError: an input is missing or cannot be read, a name is wrong, or the commit failed.
    """
    check_name(corpus, "corpus")
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"stage {stage!r}: use one of {', '.join(STAGES)}")
    opened = open_inputs(inputs, text_field=text_field, id_field=id_field)
    with (
        store.begin("ingest") as txn,
        Quarantine(txn) as quarantine,
        SeenIds(txn.scratch) as seen,
    ):
        for ids in read_stored_ids(store, documents_of(corpus, txn.base.rows.values())):
            seen.add_batch(ids)
        writer = _CorpusWriter(txn, corpus, stage, shard_bytes, seen)
        for batch, consumed in _batches(opened, quarantine):
            writer.add(batch)
            if progress is not None:
                progress(consumed, writer.documents)
        writer.cut()
        key = quarantine.publish()
        version = writer.commit(quarantine.records) if writer.documents else txn.base.version
    return IngestReport(
        writer.documents,
        writer.duplicates,
        quarantine.records,
        writer.shards,
        writer.bytes,
        version,
        key,
    )


def _batches(
    inputs: Sequence[Input], quarantine: "Quarantine"
) -> Iterator[tuple[list[Document], int]]:
    """Documents in batches, each with the bytes of the inputs read so far."""
    done = 0
    for source in inputs:
        batch: list[Document] = []
        records = chars = start = 0
        for found in source:
            records += 1
            if isinstance(found, RejectedRecord):
                quarantine.add(found)
            else:
                batch.append(found)
                chars += len(found.text)
            read = source.consumed
            if records >= BATCH_RECORDS or chars >= BATCH_CHARS or read - start >= BATCH_BYTES:
                yield batch, done + read
                batch, records, chars, start = [], 0, 0, read
        done += source.size
        yield batch, done


class Quarantine:
    """The rejected records of one transaction, written as they come."""

    def __init__(self, txn: Transaction) -> None:
        self.records = 0
        self._txn = txn
        self._path = txn.scratch / "quarantine.jsonl"
        self._file = self._path.open("wb")

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, rejected: RejectedRecord) -> None:
        """Writes one record."""
        self.records += 1
        self._file.write(orjson.dumps(rejected._asdict()) + b"\n")

    def publish(self) -> str | None:
        """Makes the file durable in the store; returns its key, None if nothing is in it."""
        self._file.close()
        if not self.records:
            return None
        key = f"quarantine/{self._txn.id}.jsonl"
        self._txn.store.storage.publish({key: self._path})
        return key


class _CorpusWriter:
    """Writes new documents: text shards, and a file of rows for each."""

    def __init__(
        self, txn: Transaction, corpus: str, stage: str | None, shard_bytes: int, seen: SeenIds
    ) -> None:
        self.documents = self.duplicates = self.shards = self.bytes = 0
        self._txn, self._corpus, self._stage = txn, corpus, stage
        self._shard_bytes = shard_bytes
        self._seen = seen
        self._names = ColumnNames(metadata_names(txn.base))
        self._text = txn.family(TEXT, corpus, TEXT_COLUMNS)
        self._rows = DocumentRows()

    def add(self, batch: Sequence[Document]) -> None:
        """Writes those of the batch that are new."""
        if not batch:
            return
        mask = self._seen.add_batch(id_array(b"".join([document.doc_id for document in batch])))
        new = list(compress(batch, mask.tolist()))
        start = 0
        for end, document in enumerate(new, 1):
            self._text.write(
                {
                    "doc_id": document.doc_id,
                    "source": document.source,
                    "source_id": document.source_id,
                    "text": document.text,
                }
            )
            if self._text.size >= self._shard_bytes:
                self._rows.add(new[start:end])
                self.cut()
                start = end
        self._rows.add(new[start:])
        self.documents += len(new)
        self.duplicates += len(batch) - len(new)
        size = self._text.size + self._rows.metadata_size
        if size >= self._shard_bytes or self._text.samples >= SHARD_DOCUMENTS:
            self.cut()

    def cut(self) -> None:
        """Ends the open shard, if there is something in it."""
        if not self._text.samples:
            return
        shard = self._text.cut().path
        table = self._rows.table(self._corpus, self._stage, shard, self._names)
        self._txn.add_rows("documents", self._corpus, table)
        self.bytes += sum(self._rows.n_bytes)
        self.shards += 1
        self._rows = DocumentRows()

    def commit(self, quarantined: int) -> int:
        """Publishes everything; returns the version."""
        return self._txn.commit(
            self._drop_landed,
            corpus=self._corpus,
            documents=self.documents,
            duplicates=self.duplicates,
            quarantined=quarantined,
        )

    def _drop_landed(self, newer: Entry) -> None:
        dropped = drop_committed_rows(self._txn, self._corpus, newer)
        self.documents -= dropped.documents
        self.duplicates += dropped.documents
        self.bytes -= dropped.bytes
