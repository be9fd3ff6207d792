"""The journal of a long ingest: published shards, with the position in the inputs after each.

Each shard is published when it is complete, with an entry in the journal. The same ingest finds the
journal after a kill: it continues with its transaction, after the last entry. The one commit at
the end makes all shards visible. Two processes that continue the same ingest write the same bytes;
the second one to publish a shard stops. The log has one entry per transaction.
"""

import hashlib
import logging
import os
import socket
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import orjson

from ixt_data.errors import IxtError, StoreError
from ixt_data.ingestion.formats import Input
from ixt_data.log import RowsFile, ShardInfo
from ixt_data.storage import Storage, create_once
from ixt_data.store import INGESTS, Store, Transaction

_log = logging.getLogger(__name__)

UPLOADS_AHEAD = 2
"""Complete shards that wait for their upload."""

WRITERS = ("ixt", "pyarrow", "zstandard", "duckdb", "orjson")
"""Distributions that decide the bytes of shards and rows."""

FORM = 3
"""Changes when the division of inputs or the content of an entry changes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of an ingest after a shard.

    Attributes:
        portion, block, document: the document after the last one of the shard: number of its
            portion, of its block there, and its index in the block.
        documents, duplicates: their numbers before it.
        remarks: what the summary says of the blocks before this one.
        quarantine: the lines of the quarantine file for the blocks before this one, since the
            shard before.
    """

    portion: int = 0
    block: int = 0
    document: int = 0
    documents: int = 0
    duplicates: int = 0
    remarks: dict[str, Any] = field(default_factory=dict)
    quarantine: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One published shard.

    Attributes:
        base: version that the transaction started from.
        shard, rows: the shard and its file of rows.
        fields: the user's fields in the shard.
        kinds: field, column and type of those that have a column of their own.
        remarks: what the summary says of their values.
        bytes: UTF-8 bytes of the texts.
        progress: the state after the shard.
    """

    base: int
    shard: ShardInfo
    rows: RowsFile
    fields: list[str]
    kinds: list[tuple[str, str, str]]
    remarks: dict[str, Any]
    bytes: int
    progress: Progress

    @classmethod
    def parse(cls, record: dict[str, Any]) -> "JournalEntry":
        """Build the entry from its JSON object."""
        del record["writer"]
        shard = ShardInfo.from_json(record.pop("shard"))
        rows, progress = RowsFile(**record.pop("rows")), Progress(**record.pop("progress"))
        kinds = [(name, column, kind) for name, column, kind in record.pop("kinds")]
        return cls(shard=shard, rows=rows, progress=progress, kinds=kinds, **record)


def journal_name(inputs: Sequence[Input], options: Mapping[str, Any]) -> str | None:
    """Return the name of the journal of an ingest; None if an input cannot be recognized again.

    Args:
        inputs: the inputs; `identity` of each is everything that its records depend on.
        options: what else the result depends on.
    """
    found = [getattr(item, "identity", None) for item in inputs]
    if not found or not all(found):
        return None
    # Another version may write other bytes for the same documents.
    versions = [FORM, *map(version, WRITERS)]
    content = orjson.dumps([versions, found, options], option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def begin(store: Store, name: str | None) -> tuple[Transaction, list[JournalEntry]]:
    """Begin an ingest, or continue the transaction of the same one; return it with its shards."""
    for txn, entries in sorted(_found(store.storage, name).items()) if name else ():
        if (
            entries
            and not _has_ended(store, txn, entries[0].base)
            and _is_whole(store.storage, txn, entries)
        ):
            return store.begin("ingest", base=entries[0].base, txn=txn), entries
    return store.begin("ingest"), []


def _found(storage: Storage, name: str) -> dict[str, list[JournalEntry]]:
    """Return the complete journals of this name by transaction."""
    keys: dict[str, list[str]] = {}
    for file in storage.list(f"{INGESTS}/{name}"):
        if not file.key.endswith(".tmp"):
            keys.setdefault(file.key.split("/")[2], []).append(file.key)
    found: dict[str, list[JournalEntry]] = {}
    for txn, own in keys.items():
        entries = storage.read_all(sorted(own))
        with suppress(ValueError, TypeError, KeyError):
            parsed = [JournalEntry.parse(orjson.loads(data)) for data in entries if data]
            if sorted(own) == [_key(name, txn, number) for number in range(len(parsed))]:
                found[txn] = parsed
    return found


def _has_ended(store: Store, txn: str, base: int) -> bool:
    """Return whether a transaction was committed, or aborted by garbage collection."""
    newest = store.log.newest()
    return base < store.snapshot(newest).min_version or any(
        txn == entry.txn or txn in entry.aborted_transactions
        for entry in store.log.entries(base + 1, newest)
    )


def _is_whole(storage: Storage, txn: str, entries: Sequence[JournalEntry]) -> bool:
    """Return whether the store has the files of all entries, in their sizes."""
    folders = {file.path.rpartition("/")[0] for e in entries for file in (e.shard, e.rows)}
    sizes = {file.key: file.size for folder in folders for file in storage.list(folder)}
    missing = [
        path
        for e in entries
        for path, size in ((e.shard.path, e.shard.stored.bytes), (e.rows.path, e.rows.bytes))
        if sizes.get(path) != size
    ]
    if missing:
        _log.warning(
            "an unfinished ingest of these inputs is not continued: %s is missing or changed. "
            "This ingest starts again; `ixt gc` deletes the files of transaction %s",
            missing[0],
            txn,
        )
    return not missing


def _key(name: str | None, txn: str, number: int) -> str:
    return f"{INGESTS}/{name}/{txn}/{number:08d}.json"


class IngestJournal:
    """Publishes shards in the background, each with its entry.

    Attributes:
        entries: the entries that are durable.
    """

    def __init__(self, txn: Transaction, name: str | None, entries: Sequence[JournalEntry]) -> None:
        """Continue the journal of a transaction; without a name, shards wait for the commit."""
        self.entries = list(entries)
        self._txn, self._name = txn, name
        self._waiting: deque[Future[None]] = deque()
        self._added = len(self.entries)
        self._uploads = ThreadPoolExecutor(1)
        self._writer = {"id": uuid.uuid4().hex, "pid": os.getpid(), "host": socket.gethostname()}

    def __enter__(self) -> "IngestJournal":
        return self

    def __exit__(self, *error: object) -> None:
        self._uploads.shutdown()

    def add(self, entry: JournalEntry) -> None:
        """Publish a shard and its rows, then the entry.

        Raises:
            StoreError: another process runs the same ingest and was faster.
        """
        if self._name is None:
            return
        while len(self._waiting) >= UPLOADS_AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._uploads.submit(self._publish, self._added, entry))
        self._added += 1

    def _publish(self, number: int, entry: JournalEntry) -> None:
        self._txn.publish(entry.shard, entry.rows)
        if len(self.entries) < number:
            # An earlier upload has failed.
            return
        key = _key(self._name, self._txn.id, number)
        # Two entries of one number differ by their writers, so one of two processes stops.
        content = orjson.dumps(asdict(entry) | {"writer": self._writer})
        if not create_once(self._txn.storage, key, content):
            other = "another process"
            # A process that has committed deletes its entries.
            with suppress(FileNotFoundError):
                writer = orjson.loads(self._txn.storage.read(key))["writer"]
                other = f"process {writer['pid']} on {writer['host']}"
            raise StoreError(
                f"{other} runs the same ingest, and has published shard {number} first. This "
                "process stops, and nothing is lost: the other commits all documents. If it ends "
                "without a commit, run the command again"
            )
        self.entries.append(entry)

    def finish(self) -> None:
        """Wait until all shards are published."""
        while self._waiting:
            self._waiting.popleft().result()

    def delete(self, *, with_shards: bool = False) -> None:
        """Delete the entries; `ixt gc` deletes what remains after an error."""
        self._uploads.shutdown(cancel_futures=True)
        with suppress(IxtError, OSError):
            numbers = range(len(self.entries))
            self._txn.storage.delete(*(_key(self._name, self._txn.id, n) for n in numbers))
            if with_shards:
                paths = [path for e in self.entries for path in (e.shard.path, e.rows.path)]
                self._txn.storage.delete(*paths)
