"""Ingest: read each record once, store each text once, commit once."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from rich.console import Console

from ixt_data.console import format_count, progress_bar
from ixt_data.errors import ConfigError, NothingNew
from ixt_data.ingestion.blocks import Block, read_blocks, write_blocks
from ixt_data.ingestion.column_values import TypeOptions
from ixt_data.ingestion.document_rows import documents_of, read_stored_ids
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.formats import Input
from ixt_data.ingestion.ingest_journal import (
    IngestJournal,
    JournalEntry,
    Progress,
    begin,
    journal_name,
)
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.ingestion.portions import Portion, split_inputs
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.seen_ids import SeenIds
from ixt_data.ingestion.source_ids import repeated_source_ids
from ixt_data.ingestion.text_shards import TextShards
from ixt_data.mds import MAX_SHARD_BYTES, SHARD_BYTES
from ixt_data.records import STAGES, ProgressCallback, Stage
from ixt_data.storage import MAX_TEXT
from ixt_data.store import Store, Transaction, broken_selections, check_name
from ixt_data.worker_processes import WorkerPool, cores, rare_collection

WORKER_BYTES = 64 << 20
"""Bytes of input for which one more process saves more time than its start takes."""

WITHOUT_TEXT = 1000
"""Rejected records before the first document after which the name of the text field is checked."""

# Portions that are read ahead for each worker: their number, and their bytes.
AHEAD = 3
AHEAD_BYTES = 64 << 20


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
    inputs: str | Path | Sequence[str | Path | Input],
    *,
    format: str | None = None,
    text_field: str = "text",
    id_field: str | None = None,
    source_field: str | None = None,
    records: str | None = None,
    delimiter: str | None = None,
    max_document_bytes: float = MAX_TEXT,
    stage: Stage | None = None,
    types: Literal["text", "auto"] = "text",
    casts: Mapping[str, str] | None = None,
    remarks: Remarks | None = None,
    shard_bytes: float = SHARD_BYTES,
    workers: int | None = None,
    progress: ProgressCallback | bool | None = None,
) -> IngestReport:
    """Add the documents of files and folders to a corpus, in one commit.

    A text that the corpus already contains is skipped. A record that is not a document goes to
    the quarantine file, with file, line and reason.

    Args:
        store: the store.
        corpus: name of the corpus; a new name creates it.
        inputs: files, folders, patterns, `-` for standard input, or what `open_inputs` returned;
            one path is a list of one.
            The files are JSON, CSV, Parquet, Arrow, HTML, WARC or text, also compressed.
        format: name of the format of all inputs; None: the first bytes of each file, then its name.
        text_field: field of the text in a record.
        id_field: field of the user's own id, which every record must have; None: the field `id`, if
            a record has it.
        source_field: field of the source, which every record must have; None: the field `source`,
            if a record has it.
        records: keys, joined by dots, of the array of records in a JSON object.
        delimiter: the character between columns of CSV; None: the first line decides.
        max_document_bytes: most bytes of a record as stored, and of a text, up to 256 MiB; a longer
            one is rejected.
        stage: the stage of training that the documents are for; by default `sft` for
            conversations and `pretrain` for other documents.
        types: `text` leaves dates, times and UUIDs of JSON text; `auto` gives them their types.
        casts: DuckDB type by metadata field; a value that does not fit is NULL.
        remarks: the remarks of inputs that `open_inputs` opened.
        shard_bytes: maximum uncompressed bytes of a shard, exceeded by at most one document.
        workers: number of processes that read, convert and compress; the result is the same for
            any number. None: one per core, fewer for small inputs.
        progress: True shows a progress bar on stderr. A function is called after each block with
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
        inputs = [inputs]
    if not 0 < shard_bytes <= MAX_SHARD_BYTES:
        raise ConfigError(
            f"shard size {shard_bytes / (1 << 20):g} MiB: use more than 0 and at most "
            f"{MAX_SHARD_BYTES >> 20}"
        )
    if workers is not None and workers < 1:
        raise ConfigError(f"workers {workers}: use at least 1")
    remarks = remarks or Remarks()
    options: dict[str, Any] = {
        "format": format,
        "text_field": text_field,
        "id_field": id_field,
        "source_field": source_field,
        "records": records,
        "delimiter": delimiter,
        "max_bytes": int(max_document_bytes),
        "remarks": remarks,
    }
    # Opened together, files of one name in several folders get distinct names.
    paths = [item for item in inputs if isinstance(item, str | Path)]
    opened = [item for item in inputs if not isinstance(item, str | Path)]
    opened += open_inputs(paths, **options)
    total = sum(item.size for item in opened)
    name = journal_name(
        opened,
        {
            "corpus": corpus,
            "stage": stage,
            "types": types,
            "casts": dict(casts or {}),
            "shard_bytes": shard_bytes,
        },
    )
    transaction, entries = begin(store, name)
    with (
        _progress_callback(progress, corpus, total) as on_block,
        transaction as txn,
        Quarantine(txn, entries) as quarantine,
        SeenIds(txn.scratch) as seen,
        _explaining_interrupts(IngestJournal(txn, name, entries)) as journal,
        WorkerPool(workers or _worker_count(total)) as pool,
        ThreadPoolExecutor(pool.workers) as threads,
        rare_collection(),
    ):
        said = Remarks()
        last = Progress()
        for entry in entries:
            last = entry.progress
            said = Remarks.parse(last.remarks)
        for ids in read_stored_ids(store.storage, documents_of(corpus, txn.base.rows.values())):
            seen.add_batch(ids)
        shards = TextShards(
            *(txn, corpus, stage, TypeOptions(types, casts or {}), shard_bytes, seen),
            threads if pool.workers == 2 else pool,
            pool.workers,
            journal,
            lambda: (said.as_json(), quarantine.take_lines()),
        )
        # What opening has added; a resumed ingest opens its inputs again.
        of_inputs = remarks.take()
        found = split_inputs(opened, remarks)
        for place, block, consumed in _blocks(found, pool, txn.scratch, last.portion):
            if place < (last.portion, last.block):
                continue
            shards.add(block, place, last.document if place == (last.portion, last.block) else 0)
            quarantine.add(block.rejected)
            said.update(block.remarks)
            on_block(consumed, shards.documents)
            if quarantine.records >= WITHOUT_TEXT and not shards.documents + shards.duplicates:
                _check_text_field(said)
        if not shards.documents + shards.duplicates:
            _check_text_field(said)
        shards.finish()
        key = quarantine.publish()
        version = txn.base.version
        if shards.documents:
            try:
                version = shards.commit(quarantine.records)
            except NothingNew as error:
                said.add(str(error))
                version = store.log.newest()
    journal.delete()
    said.update(of_inputs)
    said.update(shards.remarks)
    for remark in broken_selections(store, version) if shards.types.widened else ():
        said.add(remark)
    if shards.documents and (repeated := repeated_source_ids(store, corpus, version, f"/{txn.id}")):
        said.add(repeated)
    return IngestReport(
        shards.documents,
        shards.duplicates,
        quarantine.records,
        shards.shards,
        shards.bytes,
        version,
        key,
        shards.names.renamed,
        said.lines(),
    )


def _worker_count(total: int) -> int:
    """Return a number of workers that pays for so many bytes of input."""
    return min(cores(), 1 + total // WORKER_BYTES)


def _blocks(
    found: Iterable[Portion], pool: WorkerPool, folder: Path, first: int
) -> Iterator[tuple[tuple[int, int], Block, int]]:
    """Yield the blocks of portions in order.

    Args:
        found: the portions.
        pool: the processes that read them.
        folder: folder for temporary files.
        first: number of the first portion to read.

    Yields:
        The number of the portion and of the block in it, the block, and the bytes of the inputs
        up to the end of the portion.
    """
    numbered = ((n, portion) for n, portion in enumerate(found) if n >= first)
    ahead: deque[tuple[int, Future[list[Block]], int, int]] = deque()
    for number, portion in numbered:
        # Two workers are this process and the threads that write shards, if these balance.
        is_here = pool.workers == 1 or (pool.workers == 2 and not portion.slow)
        if is_here and not ahead:
            for i, block in enumerate(read_blocks(portion)):
                yield (number, i), block, portion.consumed
            continue
        if portion.movable:
            future = pool.submit(write_blocks, portion, folder, number)
        else:
            future = Future()
            future.set_result(write_blocks(portion, folder, number))
        ahead.append((number, future, portion.consumed, portion.size))
        while len(ahead) > AHEAD * pool.workers or (
            len(ahead) > 1 and sum(size for *_, size in ahead) > AHEAD_BYTES * pool.workers
        ):
            yield from _results(ahead.popleft())
    while ahead:
        yield from _results(ahead.popleft())


def _results(
    portion: tuple[int, Future[list[Block]], int, int],
) -> Iterator[tuple[tuple[int, int], Block, int]]:
    number, future, consumed, _ = portion
    for i, block in enumerate(future.result()):
        yield (number, i), block, consumed


@contextmanager
def _explaining_interrupts(journal: IngestJournal) -> Iterator[IngestJournal]:
    """Provide the journal; say in an interrupt what is kept, and keep nothing after a ConfigError.

    Raises:
        KeyboardInterrupt: it was raised inside of the block; its text says what is kept.
    """
    try:
        with journal:
            yield journal
    except ConfigError:
        journal.delete(with_shards=True)
        raise
    except KeyboardInterrupt:
        shards = len(journal.entries)
        kept = "nothing is kept. The same command starts again"
        if shards:
            documents = journal.entries[-1].progress.documents
            kept = (
                f"{shards} complete shards are kept, with {format_count(documents, 'document')}. "
                "The same command continues"
            )
        raise KeyboardInterrupt(f"interrupted; nothing was committed, {kept}") from None


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


class Quarantine:
    """The file of the rejected records of one transaction."""

    def __init__(self, txn: Transaction, entries: Sequence[JournalEntry] = ()) -> None:
        """Create the file, with the records of the journal."""
        self._txn = txn
        self._path = txn.scratch / "quarantine.jsonl"
        self._file = self._path.open("w+b")
        lines = [line for entry in entries for line in entry.progress.quarantine]
        self._file.writelines(f"{line}\n".encode() for line in lines)
        self.records = len(lines)
        self._taken = self._file.tell()

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, rejected: Sequence[RejectedRecord]) -> None:
        """Write records."""
        self.records += len(rejected)
        self._file.writelines(orjson.dumps(record._asdict()) + b"\n" for record in rejected)

    def take_lines(self) -> list[str]:
        """Return the lines since the last call."""
        self._file.seek(self._taken)
        lines = self._file.read().decode().removesuffix("\n").split("\n")
        self._taken = self._file.tell()
        return lines if lines != [""] else []

    def publish(self) -> str | None:
        """Publish the file to the store; return its key, None without records."""
        self._file.close()
        if not self.records:
            return None
        key = f"quarantine/{self._txn.id}.jsonl"
        self._txn.storage.publish({key: self._path})
        return key
