"""Adoption of an existing MDS folder as a corpus, without copying it.

The log records its shards by absolute path or S3 address, with the hashes of their files. The store
reads the folder and never writes to it. A shard that changes later is refused by its hash.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ixt_data.errors import CommitError, ConfigError, CorruptError, StoreError
from ixt_data.ingestion.column_values import ColumnTypes, StoreTypes, TypeOptions
from ixt_data.ingestion.columns import ColumnNames
from ixt_data.ingestion.document_rows import (
    DocumentRows,
    documents_of,
    drop_committed_rows,
    id_array,
    metadata_types,
    read_stored_ids,
)
from ixt_data.ingestion.mds_folders import INDEX, open_folder, read_index
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.seen_ids import SeenIds
from ixt_data.ingestion.source_ids import repeated_source_ids
from ixt_data.log import TEXT, Entry, FileInfo, ShardInfo
from ixt_data.mds import REFUSED, SCALARS, digest
from ixt_data.records import STAGES, Document, ProgressCallback, Stage
from ixt_data.storage import Storage
from ixt_data.store import (
    AdoptedShard,
    Store,
    Transaction,
    check_name,
    original_copy,
    read_adopted,
)
from ixt_data.worker_processes import cores, map_ahead


@dataclass
class AdoptReport:
    """The result of `adopt`.

    Attributes:
        folder: path or address of the folder.
        documents: number of new documents in the corpus.
        duplicates: number of samples whose text is already in the corpus or the folder.
        empty: number of samples without text.
        shards: number of recorded text shards.
        known: number of shards that were adopted earlier and are unchanged.
        bytes: UTF-8 bytes of the new documents' texts.
        left_out: omitted columns that are neither text nor metadata, such as bytes and arrays.
        renamed: column by field, where they differ.
        remarks: what was changed in the metadata, and source ids that repeat.
        snapshot: the version of the commit; the newest version if nothing was new.
    """

    folder: str
    documents: int = 0
    duplicates: int = 0
    empty: int = 0
    shards: int = 0
    known: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    snapshot: int = 0


def adopt(
    store: Store,
    corpus: str,
    folder: str | Path,
    *,
    text_field: str = "text",
    id_field: str | None = None,
    stage: Stage = "pretrain",
    workers: int | None = None,
    progress: ProgressCallback = lambda done, documents: None,
) -> AdoptReport:
    """Adopt an MDS folder as a corpus, or as a part of one, in one commit.

    A second call for the same folder adopts the shards that were added since.

    Args:
        store: the store.
        corpus: name of the corpus; a new name creates it.
        folder: a folder with an index.json of version 2: a path, or `s3://bucket/prefix`.
        text_field: column of the text, with the encoding `str`.
        id_field: column of the user's own id; None: the id is `folder:shard:row`.
        stage: the stage of training that the documents are for.
        workers: threads that read shards, by default one per core; the result is the same for any
            number. Each holds one shard in memory.
        progress: called after each shard with bytes read and new documents.

    Raises:
        StoreError: the folder is not an MDS folder, or a column is missing or refused.
        CorruptError: a shard differs from the index, or from an earlier adoption.
        ConfigError: the stage is unknown, or both fields have the same name.
    """
    check_name(corpus, "corpus")
    if stage not in STAGES:
        raise ConfigError(f"stage {stage!r}: use one of {', '.join(STAGES)}")
    if text_field == id_field:
        raise ConfigError(f"text field and id field are both {text_field!r}; name two fields")
    source = open_folder(folder)
    entries = read_index(source)
    columns = {
        name: _fields(source.root, entry, text_field, id_field) for name, entry in entries.items()
    }
    report = AdoptReport(source.root)
    with store.begin("adopt") as txn, SeenIds(txn.scratch) as seen:
        for ids in read_stored_ids(store.storage, documents_of(corpus, txn.base.rows.values())):
            seen.add_batch(ids)
        recorder = _Recorder(txn, corpus, stage, seen, report)
        infos = [_record(source, entry, corpus, columns[name]) for name, entry in entries.items()]
        shards = map_ahead(lambda info: _read_unless_known(txn, info), infos, workers or cores())
        read = 0
        for info, entry, new in zip(infos, entries.values(), shards, strict=True):
            if new is None:
                report.known += 1
            else:
                recorder.add(*new, entry)
            read += info.stored.bytes
            progress(read, report.documents)
        report.snapshot = recorder.commit() if report.shards else txn.base.version
    if report.documents and (
        repeated := repeated_source_ids(store, corpus, report.snapshot, source.root)
    ):
        report.remarks.append(repeated)
    return report


def _fields(
    root: str, entry: dict[str, Any], text_field: str, id_field: str | None
) -> dict[str, str]:
    """Find the columns of a shard that are text, id and source."""
    path = f"{root}/{entry['raw_data']['basename']}"
    encodings = dict(zip(entry["column_names"], entry["column_encodings"], strict=True))
    for name, encoding in encodings.items():
        if encoding in REFUSED:
            raise StoreError(f"{path}: column {name!r} has the encoding {encoding!r}. {_PICKLED}")
    shown = ", ".join(f"{name} ({encoding})" for name, encoding in encodings.items())
    if encodings.get(text_field) != "str":
        raise StoreError(
            f"{path}: no column {text_field!r} of text (str); it has {shown}. "
            "Name the column of the text: --text-field"
        )
    fields = {"text": text_field}
    if id_field is not None:
        if encodings.get(id_field) not in SCALARS:
            raise StoreError(f"{path}: no column {id_field!r} for the id; it has {shown}")
        fields["source_id"] = id_field
    if encodings.get("source") == "str" and "source" not in fields.values():
        fields["source"] = "source"
    return fields


_PICKLED = "Decoding it runs any code that it contains: write the folder again without it"


def _record(
    storage: Storage, entry: dict[str, Any], corpus: str, fields: dict[str, str]
) -> ShardInfo:
    """Build the record of a shard, still without the store's own hashes."""
    packed = entry.get("zip_data")
    # The cache of a train run contains the raw file, but its index names the compressed one too.
    if packed is not None and not storage.exists(packed["basename"]):
        has_raw = storage.exists(entry["raw_data"]["basename"])
        entry = {**entry, "zip_data": None} if has_raw else entry
    info = ShardInfo.from_index(storage.root, TEXT, corpus, {"zip_data": None, **entry})
    return replace(info, fields=fields)


def _is_known(txn: Transaction, info: ShardInfo) -> bool:
    """Return True if the shard was adopted earlier and is unchanged.

    Raises:
        StoreError: it was adopted for another corpus, or with other columns.
        CorruptError: its file has changed.
    """
    known = txn.base.shards_by_path.get(info.path)
    if known is None:
        return False
    if known.corpus != info.corpus:
        raise StoreError(f"{info.path}: already belongs to the corpus {known.corpus!r}")
    if known.fields != info.fields:
        raise StoreError(f"{info.path}: was adopted with the columns {known.fields}")
    if (known.samples, known.stored.bytes) != (info.samples, info.stored.bytes):
        raise CorruptError(f"{info.path}: changed since it was adopted. {_CHANGED}")
    _read_now(known)
    return True


_CHANGED = "Adopt a copy of the folder, under another path, as another corpus"


def _read_now(info: ShardInfo, *, is_new: bool = False) -> AdoptedShard:
    """Read the current shard in the folder; for a new one also check the index's hashes."""
    try:
        with original_copy(info) as path:
            return read_adopted(_hashed(info, path) if is_new else info, path)
    except OSError as error:
        raise CorruptError(f"{info.path}: named by {INDEX}; {error.strerror}") from None


def _read_unless_known(
    txn: Transaction, info: ShardInfo
) -> tuple[AdoptedShard, list[bytes]] | None:
    """Read a shard; return it with the ids of its texts, or None if it was adopted earlier."""
    if _is_known(txn, info):
        return None
    shard = _read_now(info, is_new=True)
    return shard, shard.column("doc_id")


def _hashed(info: ShardInfo, path: Path) -> ShardInfo:
    """Check the index's hashes of a file; return the record with the store's hash."""
    stored, data = info.stored, path.read_bytes()
    if len(data) != stored.bytes:
        raise CorruptError(f"{info.path}: {len(data)} bytes, {INDEX} has {stored.bytes}")
    for algorithm, expected in stored.hashes.items():
        if digest(algorithm, data) != expected:
            raise CorruptError(f"{info.path}: its {algorithm} is not {expected}")
    hashes = {**stored.hashes, "xxh64": digest("xxh64", data)}
    own = FileInfo(stored.basename, stored.bytes, hashes)
    return replace(info, packed=own) if info.packed else replace(info, raw=own)


class _Recorder:
    """Recorder of the shards and rows of an adopted folder in a transaction."""

    def __init__(
        self, txn: Transaction, corpus: str, stage: str, seen: SeenIds, report: AdoptReport
    ) -> None:
        self._txn, self._corpus, self._stage = txn, corpus, stage
        self._seen, self._report = seen, report
        known = metadata_types(txn.base)
        self._names = ColumnNames(known)
        self._remarks = Remarks()
        self._types = ColumnTypes(txn.scratch, TypeOptions(), self._remarks)
        self._store_types = StoreTypes(known, self._remarks)

    def add(self, shard: AdoptedShard, ids: list[bytes], entry: dict[str, Any]) -> None:
        """Record one shard, with a row for each new text; `ids` are those of the texts."""
        info = shard.info
        if list(shard.original.columns.items()) != _columns(entry):
            raise CorruptError(f"{info.path}: its columns differ from those in {INDEX}")
        positions, documents = self._new(shard, ids)
        if documents:
            rows = DocumentRows.of(documents)
            names = {field: self._names[field] for field in rows.fields}
            table, kinds = rows.table(
                self._corpus, self._stage, info.path, names, self._types, positions
            )
            for field, name, kind in kinds:
                self._store_types.add(field, name, kind)
            self._txn.add_rows("documents", self._corpus, table)
            self._report.bytes += sum(rows.n_bytes)
        self._txn.add_shard(replace(info, orphans=shard.samples - len(documents)))
        self._report.documents += len(documents)
        self._report.shards += 1

    def _new(self, shard: AdoptedShard, ids: list[bytes]) -> tuple[list[int], list[Document]]:
        """Return the rows of the new documents in the shard, and the documents."""
        filled = [row for row, text in enumerate(shard.texts) if text and not text.isspace()]
        mask = self._seen.add_batch(id_array(b"".join(ids[row] for row in filled)))
        positions = [row for row, new in zip(filled, mask.tolist(), strict=True) if new]
        self._report.empty += shard.samples - len(filled)
        self._report.duplicates += len(filled) - len(positions)
        sources, source_ids = shard.column("source"), shard.column("source_id")
        metadata = self._metadata(shard, shard.info, positions)
        return positions, [
            Document(ids[row], shard.texts[row], sources[row], source_ids[row], fields)
            for row, fields in zip(positions, metadata, strict=True)
        ]

    def _metadata(
        self, shard: AdoptedShard, info: ShardInfo, positions: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        """Yield the other scalar columns of some samples, as metadata."""
        mapped = set((info.fields or {}).values())
        columns = {}
        for name, encoding in shard.original.columns.items():
            if name in mapped:
                continue
            if encoding in SCALARS:
                values = shard.original.column(name)
                columns[name] = [values[row] for row in positions]
            elif name not in self._report.left_out:
                self._report.left_out.append(name)
        for i in range(len(positions)):
            yield {name: values[i] for name, values in columns.items()}

    def commit(self) -> int:
        """Commit everything; return the version."""
        self._report.renamed = self._names.renamed
        self._report.remarks = self._remarks.lines()
        return self._txn.commit(
            self._on_newer,
            corpus=self._corpus,
            folder=self._report.folder,
            documents=self._report.documents,
            duplicates=self._report.duplicates,
        )

    def _on_newer(self, newer: Entry) -> None:
        ours = {shard.path for shard in self._txn.added_shards}
        if twice := ours & {shard.path for shard in newer.shards_add}:
            raise CommitError(
                f"{min(twice)} was adopted by another process in version {newer.version}"
            )
        dropped = drop_committed_rows(self._txn, self._corpus, newer)
        self._report.documents -= dropped.documents
        self._report.duplicates += dropped.documents
        self._report.bytes -= dropped.bytes


def _columns(entry: dict[str, Any]) -> list[tuple[str, str]]:
    return list(zip(entry["column_names"], entry["column_encodings"], strict=True))
