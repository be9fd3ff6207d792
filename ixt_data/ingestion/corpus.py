"""Ingest: read each record once, store each text once, commit once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import orjson
from rich.console import Console

from ixt_data.console import format_count, progress_bar
from ixt_data.errors import ConfigError
from ixt_data.ingestion.column_values import ColumnTypes, TypeOptions
from ixt_data.ingestion.columns import ColumnNames
from ixt_data.ingestion.document_rows import (
    DocumentRows,
    documents_of,
    drop_committed_rows,
    id_array,
    metadata_types,
    read_stored_ids,
)
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.formats import Input
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.seen_ids import SeenIds
from ixt_data.log import TEXT, Entry
from ixt_data.mds import MAX_SHARD_BYTES, SHARD_BYTES, TEXT_COLUMNS
from ixt_data.records import STAGES, Document, ProgressCallback, Stage
from ixt_data.store import Store, Transaction, broken_selections, check_name

# A batch ends at the first limit: records, characters of text, or bytes of the input.
BATCH_RECORDS = 2048
BATCH_CHARS = BATCH_BYTES = 1 << 20
# A shard is one unit of critique work; its metadata stays in memory until the shard is complete.
SHARD_DOCUMENTS = 1 << 16


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The result of `ingest`.

    Attributes:
        documents: number of new documents in the corpus.
        duplicates: number of records whose text is already in the corpus or the input.
        quarantined: number of rejected records.
        shards: number of text shards written.
        bytes: UTF-8 bytes of the new documents' texts.
        snapshot: the version of the commit; the newest version if nothing was new.
        quarantine_file: key of the rejected records in the store, None without any.
        renamed: column by field, where a field has the name of a column of the store's own.
        remarks: what was recognized or changed in the records, and saved selections that stop
            working.
    """

    documents: int
    duplicates: int
    quarantined: int
    shards: int
    bytes: int
    snapshot: int
    quarantine_file: str | None
    renamed: dict[str, str]
    remarks: list[str]


def ingest(
    store: Store,
    corpus: str,
    inputs: Sequence[str | Path | Input],
    *,
    format: str | None = None,
    text_field: str = "text",
    id_field: str | None = None,
    source_field: str | None = None,
    records: str | None = None,
    delimiter: str | None = None,
    stage: Stage | None = None,
    types: Literal["text", "auto"] = "text",
    casts: Mapping[str, str] | None = None,
    remarks: Remarks | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: ProgressCallback | bool | None = None,
) -> IngestReport:
    """Add the documents of files and folders to a corpus, in one commit.

    A text that the corpus already contains is skipped. A record that is not a document goes to
    the quarantine file, with file, line and reason.

    Args:
        store: the store.
        corpus: name of the corpus; a new name creates it.
        inputs: files, folders, patterns, `-` for standard input, or what `open_inputs` returned.
            The files are JSON, CSV, Parquet, Arrow, HTML, WARC or text, also compressed.
        format: name of the format of all inputs; None: the first bytes of each file, then its name.
        text_field: field of the text in a record.
        id_field: field of the user's own id, which every record must have; None: the field `id`, if
            a record has it.
        source_field: field of the source, which every record must have; None: the field `source`,
            if a record has it.
        records: keys, joined by dots, of the array of records in a JSON object.
        delimiter: the character between columns of CSV; None: the first line decides.
        stage: the stage of training that the documents are for; by default `sft` for
            conversations and `pretrain` for other documents.
        types: `text` leaves dates, times and UUIDs of JSON text; `auto` gives them their types.
        casts: DuckDB type by metadata field; a value that does not fit is NULL.
        remarks: the remarks of inputs that `open_inputs` opened.
        shard_bytes: maximum uncompressed bytes of a shard, exceeded by at most one document.
        progress: True shows a progress bar on stderr. A function is called after each batch with
            the input bytes read, as stored, and the number of new documents. False or None shows
            nothing.

    Raises:
        IxtError: an input is missing or cannot be read.
        ConfigError: the stage, a field or the kind of an input is invalid, no record has the text
            field, or a column of the store cannot hold the values of a field.
        StoreError: the name of the corpus is invalid.
        CommitError: the commit failed.

    Examples:
        >>> import tempfile, ixt_data
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.jsonl").write_text('{"id": "a-1", "text": "A quick brown fox."}')
        >>> store = ixt_data.open_store(folder / "S", create=True)
        >>> report = ixt_data.ingest(store, "web", [folder / "a.jsonl"])
        >>> report.documents, report.snapshot
        (1, 1)
    """
    check_name(corpus, "corpus")
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"stage {stage!r}: use one of {', '.join(STAGES)}")
    if isinstance(inputs, str | Path):
        raise ConfigError(f"inputs {str(inputs)!r}: use a list of paths, such as [{str(inputs)!r}]")
    if not 0 < shard_bytes <= MAX_SHARD_BYTES:
        raise ConfigError(
            f"shard size {shard_bytes / (1 << 20):g} MiB: use more than 0 and at most "
            f"{MAX_SHARD_BYTES >> 20}"
        )
    remarks = remarks or Remarks()
    options: dict[str, Any] = {
        "format": format,
        "text_field": text_field,
        "id_field": id_field,
        "source_field": source_field,
        "records": records,
        "delimiter": delimiter,
        "remarks": remarks,
    }
    # Opened together, files of one name in several folders get distinct names.
    paths = [item for item in inputs if isinstance(item, str | Path)]
    opened = [item for item in inputs if not isinstance(item, str | Path)]
    opened += open_inputs(paths, **options)
    with (
        _progress_callback(progress, corpus, sum(item.size for item in opened)) as on_batch,
        store.begin("ingest") as txn,
        Quarantine(txn) as quarantine,
        SeenIds(txn.scratch) as seen,
    ):
        for ids in read_stored_ids(store.storage, documents_of(corpus, txn.base.rows.values())):
            seen.add_batch(ids)
        known = metadata_types(txn.base)
        column_types = ColumnTypes(txn.scratch, known, TypeOptions(types, casts or {}), remarks)
        writer = _CorpusWriter(
            txn, corpus, stage, shard_bytes, seen, ColumnNames(known), column_types
        )
        for batch, consumed in _batches(opened, quarantine):
            writer.add(batch)
            on_batch(consumed, writer.documents)
        if not writer.documents + writer.duplicates:
            _check_text_field(remarks)
        writer.cut()
        key = quarantine.publish()
        version = writer.commit(quarantine.records) if writer.documents else txn.base.version
    for line in broken_selections(store, version) if writer.types.widened else ():
        remarks.add(line)
    return IngestReport(
        writer.documents,
        writer.duplicates,
        quarantine.records,
        writer.shards,
        writer.bytes,
        version,
        key,
        writer.names.renamed,
        remarks.lines(),
    )


def _check_text_field(remarks: Remarks) -> None:
    """Raise ConfigError if records were rejected because they lack the text field."""
    if remarks.without_text:
        names = ", ".join(name for name, _ in remarks.without_text.most_common(10))
        raise ConfigError(
            f"no record has the field {remarks.text_field!r}; nothing was ingested. "
            f"--text-field can be: {names}"
        )


@contextmanager
def _progress_callback(
    progress: ProgressCallback | bool | None, corpus: str, total: int
) -> Iterator[ProgressCallback]:
    """Provide the function to call after each batch; `total` is the size of all inputs."""
    if progress is not True:
        yield progress or (lambda consumed, documents: None)
        return
    with progress_bar(Console(stderr=True), f"ingest {corpus}", total, "B") as bar:
        yield lambda consumed, documents: bar.update(consumed, format_count(documents, "document"))


def _batches(
    inputs: Sequence[Input], quarantine: "Quarantine"
) -> Iterator[tuple[list[Document], int]]:
    """Yield documents in batches, each with the bytes of the inputs read so far."""
    done = 0
    for source in inputs:
        batch: list[Document] = []
        records = chars = start = 0
        for item in source:
            records += 1
            if isinstance(item, RejectedRecord):
                quarantine.add(item)
            else:
                batch.append(item)
                chars += len(item.text)
            read = source.consumed
            if records >= BATCH_RECORDS or chars >= BATCH_CHARS or read - start >= BATCH_BYTES:
                yield batch, done + read
                batch, records, chars, start = [], 0, 0, read
        done += source.size
        yield batch, done


class Quarantine:
    """The file of the rejected records of one transaction."""

    def __init__(self, txn: Transaction) -> None:
        self.records = 0
        self._txn = txn
        self._path = txn.scratch / "quarantine.jsonl"
        self._file = self._path.open("wb")

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, rejected: RejectedRecord) -> None:
        """Write one record."""
        self.records += 1
        self._file.write(orjson.dumps(rejected._asdict()) + b"\n")

    def publish(self) -> str | None:
        """Publish the file to the store; return its key, None without records."""
        self._file.close()
        if not self.records:
            return None
        key = f"quarantine/{self._txn.id}.jsonl"
        self._txn.storage.publish({key: self._path})
        return key


class _CorpusWriter:
    """Writer of new documents: text shards, and one file of rows per shard."""

    def __init__(
        self,
        txn: Transaction,
        corpus: str,
        stage: str | None,
        shard_bytes: int,
        seen: SeenIds,
        names: ColumnNames,
        types: ColumnTypes,
    ) -> None:
        self.documents = self.duplicates = self.shards = self.bytes = 0
        self._txn, self._corpus, self._stage = txn, corpus, stage
        self._shard_bytes = shard_bytes
        self._seen = seen
        self.names, self.types = names, types
        self._text = txn.family(TEXT, corpus, TEXT_COLUMNS)
        self._rows = DocumentRows()

    def add(self, batch: Sequence[Document]) -> None:
        """Write the new documents of a batch."""
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
        """Finish the open shard, if it has samples."""
        if not self._text.samples:
            return
        shard = self._text.cut().path
        table = self._rows.table(self._corpus, self._stage, shard, self.names, self.types)
        self._txn.add_rows("documents", self._corpus, table)
        self.bytes += sum(self._rows.n_bytes)
        self.shards += 1
        self._rows = DocumentRows()

    def commit(self, quarantined: int) -> int:
        """Commit everything; return the version."""
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
