"""Transactions: shards and rows that one commit publishes together."""

import hashlib
import itertools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ixt_data.errors import (
    CommitError,
    CommitStateUnknown,
    IxtError,
    NothingNew,
    TransactionAborted,
)
from ixt_data.log import (
    CriticInfo,
    Entry,
    EntryCallback,
    Log,
    QueryInfo,
    RowsFile,
    SelectionInfo,
    ShardInfo,
    Snapshot,
)
from ixt_data.storage import Storage, remove_scratch

if TYPE_CHECKING:
    import pyarrow as pa


class FamilyWriter:
    """Writer of the shards of one family in a transaction. The caller aligns the families."""

    def __init__(
        self,
        scratch: Path,
        folder: str,
        family: str,
        corpus: str,
        columns: Mapping[str, str],
        first: int,
        add_shard: Callable[[ShardInfo], None],
    ) -> None:
        from ixt_data.mds import ShardWriter

        self.family, self.corpus = family, corpus
        self.folder = scratch / folder
        self._key, self._add_shard = folder, add_shard
        self._writer = ShardWriter(self.folder, columns, first)
        self.write = self._writer.write

    @property
    def size(self) -> int:
        """Uncompressed bytes in the open shard."""
        return self._writer.size

    @property
    def samples(self) -> int:
        """Number of samples in the open shard."""
        return self._writer.samples

    def cut(self, aligned_with: str | None = None) -> ShardInfo:
        """Finish the open shard; `aligned_with` is the path of the shard with the same samples."""
        info = self._info(self._writer.cut(), aligned_with)
        self._add_shard(info)
        return info

    def path_of(self, number: int) -> str:
        """Return the path in the store of the shard with this number."""
        from ixt_data.mds import shard_name

        return f"{self._key}/{shard_name(number)}"

    def add_written(self, index: dict[str, Any]) -> ShardInfo:
        """Add a shard that the caller has written to `folder`; `index` is its entry there."""
        info = self._info(index)
        self.restore(info)
        self._add_shard(info)
        return info

    def restore(self, shard: ShardInfo) -> None:
        """Add a shard of the transaction to the folder's index.json."""
        self._writer.index.append(shard.index)

    def _info(self, index: dict[str, Any], aligned_with: str | None = None) -> ShardInfo:
        return ShardInfo.from_index(self._key, self.family, self.corpus, index, aligned_with)

    def close(self) -> None:
        """Write the folder's index.json.

        Raises:
            ValueError: the open shard has samples; `cut` it first.
        """
        if self._writer.samples:
            raise ValueError("cut the open shard before the commit")
        self._writer.close()


class Transaction:
    """Shards and rows that one commit publishes together.

    Use it in a `with`: without a commit, the end of the block removes its files. If garbage
    collection has deleted the files of a stale transaction, the end of the block raises
    TransactionAborted.

    Attributes:
        storage: the storage of the store.
        log: the commit log of the store.
        id: the transaction id, 32 hexadecimal digits.
        base_version: the version that the transaction started from.
        scratch: a local folder for the files to publish.
    """

    def __init__(
        self, storage: Storage, log: Log, op: str, unit: str | None, base: int, txn: str | None
    ) -> None:
        self.storage, self.log = storage, log
        self.id = txn or uuid.uuid4().hex
        self.base_version = base
        self._entry = Entry(0, self.id, op, unit=unit)
        self.scratch = storage.scratch(self.id)
        self._families: list[FamilyWriter] = []
        self._numbers = itertools.count()
        self._published: set[str] = set()

    @property
    def unit(self) -> str | None:
        """The unit of work that the commit publishes, if any."""
        return self._entry.unit

    @property
    def created(self) -> str:
        """The time of the commit, UTC, ISO 8601; empty before it."""
        return self._entry.created

    @property
    def added_rows(self) -> tuple[RowsFile, ...]:
        """The files of rows that the commit adds."""
        return tuple(self._entry.rows_add)

    @property
    def added_shards(self) -> tuple[ShardInfo, ...]:
        """The shards that the commit adds."""
        return tuple(self._entry.shards_add)

    @cached_property
    def base(self) -> Snapshot:
        """The state that the transaction started from, built on first use."""
        return self.log.snapshot(self.base_version)

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        remove_scratch(self.scratch)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            # Errors of a write, such as of a full disk, name no file.
            error.filename = str(self.scratch.parent)
        if isinstance(error, FileNotFoundError):
            self._check_aborted(error)

    def _check_aborted(self, error: FileNotFoundError) -> None:
        """Check whether missing files were deleted by garbage collection.

        Raises:
            TransactionAborted: garbage collection aborted this transaction.
        """
        for entry in self.log.entries(self.base_version + 1, self.log.newest()):
            if self.id in entry.aborted_transactions:
                raise TransactionAborted(
                    f"transaction {self.id} was aborted as stale by version {entry.version}"
                ) from error

    def family(
        self, family: str, corpus: str, columns: Mapping[str, str], *, first: int = 0
    ) -> "FamilyWriter":
        """Create a writer of shards of one family; `first` is the number of its first shard."""
        folder = f"shards/{family}/{self.id}"
        writer = FamilyWriter(self.scratch, folder, family, corpus, columns, first, self.add_shard)
        self._families.append(writer)
        return writer

    def add_rows(
        self, table: str, partition: str, rows: "pa.Table", generation: int = 0
    ) -> RowsFile:
        """Write one Parquet file of rows, which the commit publishes.

        Args:
            table: `documents` or `critiques`.
            partition: the corpus, or the critic's id.
            rows: table with the columns `sql.DOCUMENTS` or `sql.CRITIQUES`, and the user's own.
            generation: see `RowsFile`.
        """
        import pyarrow.parquet as pq

        from ixt_data.sql import field_type

        key, path = self.rows_path(table, partition)
        pq.write_table(rows, path, compression="zstd")
        schema = {field.name: field_type(field) for field in rows.schema}
        return self.record_rows(key, table, partition, rows.num_rows, schema, generation)

    def rows_path(self, table: str, partition: str) -> tuple[str, Path]:
        """Return key and local path of the next file of rows, for `record_rows`."""
        key = f"meta/{table}/{partition}/{self.id}-{next(self._numbers)}.parquet"
        path = self.scratch / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return key, path

    def record_rows(
        self,
        key: str,
        table: str,
        partition: str,
        rows: int,
        schema: dict[str, str],
        generation: int,
    ) -> RowsFile:
        """Add the file of rows that the caller has written to its `rows_path`."""
        path = self.scratch / key
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        recorded = RowsFile(key, table, partition, rows, size, digest, schema, generation)
        self.add_rows_file(recorded)
        return recorded

    def add_rows_file(self, file: RowsFile) -> None:
        """Add a file of rows that is in the scratch folder."""
        self._entry.rows_add.append(file)

    def publish(self, shard: ShardInfo, rows: RowsFile) -> None:
        """Publish a shard and its rows before the commit, and delete the local files."""
        for key in (shard.path, rows.path):
            path = self.scratch / key
            self.storage.publish({key: path})
            path.unlink(missing_ok=True)
            self._published.add(key)

    def restore(self, shard: ShardInfo, rows: RowsFile) -> None:
        """Add a shard and rows that the transaction published earlier, in another process."""
        self.add_shard(shard)
        self.add_rows_file(rows)
        next(self._numbers)
        self._published |= {shard.path, rows.path}

    def remove_rows(self, paths: Iterable[str]) -> None:
        """Remove files of rows of the base."""
        self._entry.rows_remove += paths

    def replace_rows(self, old: RowsFile, rows: "pa.Table") -> None:
        """Replace a file of rows of this transaction after a newer commit of another writer."""
        self._entry.rows_add.remove(old)
        new = self.add_rows(old.table, old.partition, rows, old.generation)
        self._publish_rows([new])
        # A journal names the published ones, until it is deleted after the commit.
        if old.path not in self._published:
            self.storage.delete(old.path)

    def add_shard(self, shard: ShardInfo) -> None:
        """Add a shard that is in the scratch folder or in an adopted folder."""
        self._entry.shards_add.append(shard)

    def remove_shards(self, paths: Iterable[str]) -> None:
        """Remove shards of the base."""
        self._entry.shards_remove += paths

    def count_orphans(self, samples: Mapping[str, int]) -> None:
        """Mark samples of shards of this transaction as orphans: their number, by path."""
        self._entry.shards_add = [
            replace(shard, orphans=shard.orphans + samples.get(shard.path, 0))
            for shard in self._entry.shards_add
        ]

    def requeue(self, unit: str) -> None:
        """Let workers process a unit again."""
        self._entry.units_remove.append(unit)

    def abort_transactions(self, ids: Iterable[str]) -> None:
        """Set the transactions that can no longer commit after this one."""
        self._entry.aborted_transactions = list(ids)

    def set_min_version(self, version: int) -> None:
        """Set the oldest retained version."""
        self._entry.min_version = version

    def save_selection(self, selection: SelectionInfo) -> None:
        """Save a selection; it replaces an earlier one of its name."""
        self._entry.selections.append(selection)

    def drop_selection(self, name: str) -> None:
        """Drop a saved selection."""
        self._entry.selections_remove.append(name)

    def save_query(self, query: QueryInfo) -> None:
        """Save a query; it replaces an earlier one of its name."""
        self._entry.queries.append(query)

    def drop_query(self, name: str) -> None:
        """Drop a saved query."""
        self._entry.queries_remove.append(name)

    def add_critic(self, critic: CriticInfo) -> None:
        """Record a critic with this commit, unless the store knows it."""
        if critic.id not in self.base.critics:
            self._entry.critics.append(critic)

    def commit(self, on_newer: EntryCallback | None = None, **summary: Any) -> int:
        """Upload shards, then rows, then create the log entry; return the version.

        Args:
            on_newer: called with each entry committed since `begin`; see `Log.commit`.
            summary: human-readable metrics for the log entry.

        Raises:
            CommitError: the commit failed; see `Log.commit`. Its files are deleted, unless
                `publish` has published some: the owner of these decides what follows.
            CommitStateUnknown: the commit may be visible. Its files are retained.
        """
        self._entry.summary = summary
        for family in self._families:
            family.close()
        shards = self.scratch / "shards"
        files = [path for path in sorted(shards.rglob("*")) if path.is_file()]
        keys = {self._key(path): path for path in files}
        self.storage.publish(keys)
        self._publish_rows(self._entry.rows_add)
        try:
            return self.log.commit(self._entry, self.base_version, on_newer)
        except CommitStateUnknown:
            raise
        except CommitError as error:
            # Without a journal the transaction can never commit now, so its files are useless.
            # `ixt gc` deletes the remaining ones.
            if not self._published or isinstance(error, NothingNew):
                with suppress(IxtError, OSError):
                    rows = (file.path for file in self._entry.rows_add)
                    self.storage.delete(*keys, *self._published, *rows)
            raise

    def _publish_rows(self, rows: Sequence[RowsFile]) -> None:
        files = {file.path: self.scratch / file.path for file in rows}
        self.storage.publish({k: path for k, path in files.items() if k not in self._published})

    def _key(self, path: Path) -> str:
        return path.relative_to(self.scratch).as_posix()
