"""Adopt: an MDS folder that is there already becomes a corpus in place, and nothing is copied.

Its shards are recorded with absolute paths, or addresses if the folder is on S3, and the hashes of
their files; the store reads them and never writes there. One of them that is changed later is
refused by its hash.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import CommitError, ConfigError, CorruptError, StoreError
from ixt_data.ingestion.columns import ColumnNames
from ixt_data.ingestion.document_rows import (
    DocumentRows,
    documents_of,
    drop_committed_rows,
    id_array,
    metadata_names,
    read_stored_ids,
)
from ixt_data.ingestion.seen_ids import SeenIds
from ixt_data.log import TEXT, Entry, FileInfo, ShardInfo
from ixt_data.mds import REFUSED, SCALARS, digest
from ixt_data.records import STAGES, Document, ProgressCallback, Stage
from ixt_data.storage import LocalStorage, Storage, open_storage
from ixt_data.store import (
    AdoptedShard,
    Store,
    Transaction,
    check_name,
    is_safe_name,
    original_copy,
    part_of_store,
    part_of_store_at,
    read_adopted,
)

INDEX = "index.json"


@dataclass
class AdoptReport:
    """What adopting a folder did.

    Attributes:
        folder: where it is.
        documents: how many are new in the corpus.
        duplicates: samples whose text the corpus or the folder had already.
        empty: samples without text.
        shards: text shards recorded.
        known: shards that were adopted before and are as they were.
        bytes: UTF-8 bytes of the new documents' texts.
        left_out: columns that are neither text nor metadata, such as bytes and arrays.
        snapshot: the version that has them; the newest one where nothing was new.
    """

    folder: str
    documents: int = 0
    duplicates: int = 0
    empty: int = 0
    shards: int = 0
    known: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)
    snapshot: int = 0


def adopt(
    store: Store,
    corpus: str,
    folder: str | Path,
    *,
    text_field: str = "text",
    id_field: str | None = None,
    stage: Stage = "pretrain",
    progress: ProgressCallback = lambda done, documents: None,
) -> AdoptReport:
    """Makes an MDS folder a corpus, or part of one, in one commit.

    Adopted again after shards were added to it, the folder gives the new ones.

    Args:
        store: that is to know it.
        corpus: its name; made if it is new.
        folder: with an index.json of version 2; a path, or `s3://bucket/prefix`.
        text_field: column of the text, of the encoding `str`.
        id_field: column of the user's own id; None makes `folder:shard:row`.
        stage: for which stage of training the documents are.
        progress: called after each shard.

    Raises:
        StoreError: it is not such a folder, lacks a column, or has one that is refused.
        CorruptError: a shard is not what the index says, or not what was adopted before.
    """
    check_name(corpus, "corpus")
    if stage not in STAGES:
        raise ConfigError(f"stage {stage!r}: use one of {', '.join(STAGES)}")
    if text_field == id_field:
        raise ConfigError(f"text field and id field are both {text_field!r}; name two fields")
    place = open_folder(folder)
    entries = read_index(place)
    columns = {
        name: _fields(place.root, entry, text_field, id_field) for name, entry in entries.items()
    }
    report = AdoptReport(place.root)
    with store.begin("adopt") as txn, SeenIds(txn.scratch) as seen:
        for ids in read_stored_ids(store, documents_of(corpus, txn.base.rows.values())):
            seen.add_batch(ids)
        recorder = _Recorder(txn, corpus, stage, seen, report)
        read = 0
        for name, entry in entries.items():
            info = _record(place, entry, corpus, columns[name])
            if _is_known(txn, info):
                report.known += 1
            else:
                recorder.add(info, entry)
            read += info.stored.bytes
            progress(read, report.documents)
        report.snapshot = recorder.commit() if report.shards else txn.base.version
    return report


def folder_bytes(folder: str | Path) -> int:
    """Bytes of the shards that the index of a folder names, as stored."""
    entries = read_index(open_folder(folder)).values()
    return sum((entry.get("zip_data") or entry["raw_data"])["bytes"] for entry in entries)


def open_folder(folder: str | Path) -> Storage:
    """The folder as a place for files, without symbolic links.

    Raises:
        StoreError: it is not there, or a part of a store.
    """
    remote = "://" in str(folder)
    place = open_storage(folder if remote else Path(folder).resolve())
    if not place.exists(INDEX):
        raise StoreError(f"{folder}: no MDS folder: there is no {INDEX} in it{_below(place)}")
    owner = part_of_store_at(place.root) if remote else part_of_store(Path(place.root))
    if owner is not None:
        raise StoreError(f"{folder}: belongs to the store {owner}, whose shards come and go")
    return place


def _below(place: Storage) -> str:
    """Which folders in it are MDS folders, as llm-foundry's splits are."""
    files = islice(place.list(""), _LOOKED_AT)
    found = sorted(file.key.removesuffix(f"/{INDEX}") for file in files if file.key.endswith(INDEX))
    return f", but in {', '.join(found[:8])}: adopt these, one after the other" if found else ""


_LOOKED_AT = 10_000


def read_index(place: Storage) -> dict[str, dict[str, Any]]:
    """The entries of the folder's index.json, by the name of the raw file.

    Raises:
        StoreError: it is not an MDS index of version 2, or names files outside the folder.
    """
    path = f"{place.root}/{INDEX}"
    try:
        index = orjson.loads(place.read(INDEX))
        version, shards = index["version"], index["shards"]
        entries = {entry["raw_data"]["basename"]: entry for entry in shards}
        kinds = {entry["format"] for entry in shards}
        for entry in shards:
            _ = entry["samples"], entry["raw_data"]["bytes"], _columns(entry)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not an MDS index ({type(error).__name__}: {error})") from None
    if version != 2:
        raise StoreError(f"{path}: version {version!r}; only version 2 is known")
    if kinds - {"mds"}:
        raise StoreError(f"{path}: shards of the format {min(kinds - {'mds'})}; use MDS, or ingest")
    if len(entries) != len(shards):
        raise StoreError(f"{path}: names a shard twice")
    for entry in shards:
        for file in (entry["raw_data"], entry.get("zip_data")):
            if file is not None:
                _check_name(place, file["basename"])
    return entries


def _check_name(place: Storage, name: object) -> None:
    if not is_safe_name(name):
        raise StoreError(f"{place.root}/{INDEX}: the file name {name!r} leads out of the folder")
    if isinstance(place, LocalStorage):
        path = place.path / str(name)
        if not path.resolve().is_relative_to(place.path):
            raise StoreError(f"{path}: a symbolic link that leads out of the folder")


def _fields(
    root: str, entry: dict[str, Any], text_field: str, id_field: str | None
) -> dict[str, str]:
    """The columns of a shard that are text, id and source."""
    place = f"{root}/{entry['raw_data']['basename']}"
    encodings = dict(zip(entry["column_names"], entry["column_encodings"], strict=True))
    for name, encoding in encodings.items():
        if encoding in REFUSED:
            raise StoreError(f"{place}: column {name!r} has the encoding {encoding!r}. {_PICKLED}")
    shown = ", ".join(f"{name} ({encoding})" for name, encoding in encodings.items())
    if encodings.get(text_field) != "str":
        raise StoreError(
            f"{place}: no column {text_field!r} of text (str); it has {shown}. "
            "Name the one that holds the text: --text-field"
        )
    fields = {"text": text_field}
    if id_field is not None:
        if encodings.get(id_field) not in SCALARS:
            raise StoreError(f"{place}: no column {id_field!r} for the id; it has {shown}")
        fields["source_id"] = id_field
    if encodings.get("source") == "str" and "source" not in fields.values():
        fields["source"] = "source"
    return fields


_PICKLED = "Decoding it would run whatever code it holds: write the folder again without it"


def _record(
    place: Storage, entry: dict[str, Any], corpus: str, fields: dict[str, str]
) -> ShardInfo:
    """A shard as it is to be recorded, without hashes of our own yet."""
    packed = entry.get("zip_data")
    # The cache of a train run keeps the raw file, and drops the packed one that its index names.
    if packed is not None and not place.exists(packed["basename"]):
        raw_is_there = place.exists(entry["raw_data"]["basename"])
        entry = {**entry, "zip_data": None} if raw_is_there else entry
    info = ShardInfo.from_index(place.root, TEXT, corpus, {"zip_data": None, **entry})
    return replace(info, fields=fields)


def _is_known(txn: Transaction, info: ShardInfo) -> bool:
    """Whether the shard was adopted before; its file is read and compared then."""
    known = txn.base.shards_by_path.get(info.path)
    if known is None:
        return False
    if known.corpus != info.corpus:
        raise StoreError(f"{info.path}: is part of the corpus {known.corpus!r} already")
    if known.fields != info.fields:
        raise StoreError(f"{info.path}: was adopted with the columns {known.fields}")
    if (known.samples, known.stored.bytes) != (info.samples, info.stored.bytes):
        raise CorruptError(f"{info.path}: not what was adopted before. {_CHANGED}")
    _read_now(known)
    return True


_CHANGED = "Adopt a copy of the folder, under another path, as another corpus"


def _read_now(info: ShardInfo, *, is_new: bool = False) -> AdoptedShard:
    """The shard as the folder has it now; of a new one the index's own hashes are checked too."""
    try:
        with original_copy(info) as path:
            return read_adopted(_hashed(info, path) if is_new else info, path)
    except OSError as error:
        raise CorruptError(f"{info.path}: named by {INDEX}; {error.strerror}") from None


def _hashed(info: ShardInfo, path: Path) -> ShardInfo:
    """The shard with a hash of its file, after the index's own hashes were checked."""
    stored, data = info.stored, path.read_bytes()
    if len(data) != stored.bytes:
        raise CorruptError(f"{info.path}: {len(data)} bytes, {INDEX} says {stored.bytes}")
    for algorithm, expected in stored.hashes.items():
        if digest(algorithm, data) != expected:
            raise CorruptError(f"{info.path}: its {algorithm} is not {expected}")
    hashes = {**stored.hashes, "xxh64": digest("xxh64", data)}
    own = FileInfo(stored.basename, stored.bytes, hashes)
    return replace(info, packed=own) if info.packed else replace(info, raw=own)


class _Recorder:
    """Records shards and rows of an adopted folder in a transaction."""

    def __init__(
        self, txn: Transaction, corpus: str, stage: str, seen: SeenIds, report: AdoptReport
    ) -> None:
        self._txn, self._corpus, self._stage = txn, corpus, stage
        self._seen, self._report = seen, report
        self._names = ColumnNames(metadata_names(txn.base))

    def add(self, info: ShardInfo, entry: dict[str, Any]) -> None:
        """Records one shard, with a row for each text that is new."""
        shard = _read_now(info, is_new=True)
        info = shard.info
        if list(shard.original.columns.items()) != _columns(entry):
            raise CorruptError(f"{info.path}: its columns are not those that {INDEX} says")
        places, documents = self._new(shard, info)
        if documents:
            rows = DocumentRows()
            rows.add(documents)
            table = rows.table(self._corpus, self._stage, info.path, self._names, places)
            self._txn.add_rows("documents", self._corpus, table)
            self._report.bytes += sum(rows.n_bytes)
        self._txn.entry.shards_add.append(replace(info, orphans=shard.samples - len(documents)))
        self._report.documents += len(documents)
        self._report.shards += 1

    def _new(self, shard: AdoptedShard, info: ShardInfo) -> tuple[list[int], list[Document]]:
        """The samples that become documents, and their rows in the shard."""
        filled = [row for row, text in enumerate(shard.texts) if text and not text.isspace()]
        ids = shard.column("doc_id")
        mask = self._seen.add_batch(id_array(b"".join(ids[row] for row in filled)))
        places = [row for row, new in zip(filled, mask.tolist(), strict=True) if new]
        self._report.empty += shard.samples - len(filled)
        self._report.duplicates += len(filled) - len(places)
        sources, source_ids = shard.column("source"), shard.column("source_id")
        metadata = self._metadata(shard, info, places)
        return places, [
            Document(ids[row], shard.texts[row], sources[row], source_ids[row], fields)
            for row, fields in zip(places, metadata, strict=True)
        ]

    def _metadata(
        self, shard: AdoptedShard, info: ShardInfo, places: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        """The other scalar columns of some samples."""
        taken = set((info.fields or {}).values())
        columns = {}
        for name, encoding in shard.original.columns.items():
            if name in taken:
                continue
            if encoding in SCALARS:
                values = shard.original.column(name)
                columns[name] = [values[row] for row in places]
            elif name not in self._report.left_out:
                self._report.left_out.append(name)
        for i in range(len(places)):
            yield {name: values[i] for name, values in columns.items()}

    def commit(self) -> int:
        """Publishes everything; returns the version."""
        return self._txn.commit(
            self._on_newer,
            corpus=self._corpus,
            folder=self._report.folder,
            documents=self._report.documents,
            duplicates=self._report.duplicates,
        )

    def _on_newer(self, newer: Entry) -> None:
        ours = {shard.path for shard in self._txn.entry.shards_add}
        if twice := ours & {shard.path for shard in newer.shards_add}:
            raise CommitError(f"{min(twice)} was adopted meanwhile by version {newer.version}")
        dropped = drop_committed_rows(self._txn, self._corpus, newer)
        self._report.documents -= dropped.documents
        self._report.duplicates += dropped.documents
        self._report.bytes -= dropped.bytes


def _columns(entry: dict[str, Any]) -> list[tuple[str, str]]:
    return list(zip(entry["column_names"], entry["column_encodings"], strict=True))
