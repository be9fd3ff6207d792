"""A store: open it, ask it, write to it in transactions."""

import hashlib
import itertools
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import orjson

from ixt_data.errors import Aborted, CommitError, CorruptError, SnapshotError, StoreError
from ixt_data.log import (
    FORMAT,
    CriticInfo,
    Entry,
    Hook,
    Log,
    Pin,
    Pins,
    RowsFile,
    ShardInfo,
    Snapshot,
)
from ixt_data.storage import Storage, open_storage, probe, remove_scratch
from ixt_data.store.layout import MARKER

if TYPE_CHECKING:
    import pyarrow as pa

    from ixt_data.mds import Shard
    from ixt_data.sql import Catalog, Parameters

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str, what: str) -> str:
    """`name` itself, if it can name a corpus, a critic or a tag.

    Raises:
        StoreError: it cannot; the message says what can.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{what} {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', the first one a "
            "letter or a digit"
        )
    return name


class Store:
    """Documents, critiques and their versions under one root."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.root = storage.root
        self.log = Log(storage)
        self.pins = Pins(storage, self.log)

    @classmethod
    def init(cls, root: str | Path) -> "Store":
        """Makes an empty store.

        Raises:
            StoreError: there is one already, or the place cannot hold one (see `probe`).
        """
        storage = open_storage(root)
        if storage.exists(MARKER):
            raise StoreError(f"{root} is a store already")
        probe(storage)
        marker = {"format": FORMAT, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        if not storage.create(MARKER, orjson.dumps(marker) + b"\n"):
            raise StoreError(f"{root} is a store already")
        return cls(storage)

    @classmethod
    def open(cls, root: str | Path) -> "Store":
        """Opens a store.

        Raises:
            StoreError: there is none, or one that a newer version has made.
            CorruptError: its ixt.json is not what was written.
        """
        storage = open_storage(root)
        try:
            found = orjson.loads(storage.read(MARKER))["format"]
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{root} is no store. Make one: ixt init --store {root}") from None
        except (ValueError, KeyError, TypeError):
            raise CorruptError(
                f"{storage.root}/{MARKER}: torn or changed. Restore it from a backup, or write "
                f'{{"format":{FORMAT}}} into it if this version of ixt has made the store'
            ) from None
        if found != FORMAT:
            raise StoreError(
                f"{root} has format {found}, this version of ixt reads format {FORMAT}. Upgrade ixt"
            )
        return cls(storage)

    def snapshot(self, at: int | str | None = None) -> Snapshot:
        """The state at a version or tag, the newest by default.

        Raises:
            SnapshotError: there is no such version or tag.
        """
        return self.log.snapshot(None if at is None else self.version_of(at))

    def version_of(self, at: int | str) -> int:
        """The version that a number or a tag means.

        Raises:
            SnapshotError: there is no such tag.
        """
        return int(at) if isinstance(at, int) or at.isdecimal() else self._tagged(at)

    def _tagged(self, name: str) -> int:
        tags = self.tags()
        if name not in tags:
            known = ", ".join(sorted(tags)) or "none"
            raise SnapshotError(f"no tag {name!r} in {self.root}; tags: {known}")
        return tags[name]

    def tag(self, name: str, at: int | str | None = None) -> int:
        """Names a version and keeps it; returns the version.

        Raises:
            SnapshotError: the name is taken by another version.
        """
        check_name(name, "tag")
        if name.isdigit():
            raise StoreError(f"tag {name!r}: a number would be read as a version")
        version = self.snapshot(at).version
        if not self.pins.create(Pin(name, version)):
            taken = self.pins.all()[name].version
            if taken != version:
                raise SnapshotError(f"tag {name!r} is at version {taken} and tags do not move")
        return version

    def untag(self, name: str) -> int:
        """Removes a tag; returns the version that it kept.

        Raises:
            SnapshotError: there is no such tag.
        """
        version = self._tagged(name)
        self.pins.release(name)
        return version

    def tags(self) -> dict[str, int]:
        """The version of every tag."""
        return {name: pin.version for name, pin in self.pins.all().items() if pin.is_tag}

    def catalog(self, at: int | str | None = None, before: int | str | None = None) -> "Catalog":
        """The SQL views at a version or tag, the newest by default; see `Catalog` for `before`."""
        from ixt_data.sql import Catalog

        earlier = None if before is None else self.snapshot(before)
        return Catalog(self.storage, self.log, self.snapshot(at), earlier)

    def sql(
        self, query: str, at: int | str | None = None, parameters: "Parameters" = None
    ) -> "pa.Table":
        """The result of one reading statement over the views, as an Arrow table."""
        catalog = self.catalog(at)
        try:
            return catalog.arrow(query, parameters)
        finally:
            catalog.close()

    def shard(self, info: ShardInfo) -> "Shard":
        """Reads one shard of a snapshot, checked; an adopted one reads like any text shard."""
        from ixt_data.mds import read_shard

        if info.outside:
            from ixt_data.store.external_shards import read_adopted

            return read_adopted(info)
        try:
            return read_shard(self.storage.local(info.path), info.index)
        except FileNotFoundError:
            missing = f"{info.path}: missing. `ixt verify` tells what it held"
            raise CorruptError(missing) from None

    def sample(self, info: ShardInfo, row: int) -> dict[str, Any]:
        """One sample of a shard, of which no more is unpacked than that takes.

        Raises:
            CorruptError: the shard is missing, or not what was written.
        """
        from ixt_data.mds import read_sample

        if info.outside:
            return next(itertools.islice(self.shard(info).rows(), row, None))
        try:
            return read_sample(self.storage.local(info.path), info.index, row)
        except FileNotFoundError:
            missing = f"{info.path}: missing. `ixt verify` tells what it held"
            raise CorruptError(missing) from None

    def local(self, file: RowsFile | ShardInfo) -> Path:
        """A local file with the bytes of a file of rows or a shard."""
        if isinstance(file, ShardInfo) and file.outside:
            from ixt_data.store.external_shards import local_copy

            return local_copy(file)
        return self.storage.local(file.path)

    def original(self, file: RowsFile | ShardInfo) -> AbstractContextManager[Path]:
        """A local file with what the place itself holds now, while the block runs."""
        if isinstance(file, ShardInfo) and file.outside:
            from ixt_data.store.external_shards import original

            return original(file)
        return self.storage.original(file.path)

    def begin(self, op: str, unit: str | None = None, *, base: int | None = None) -> "Transaction":
        """Begins to write: nothing is visible before `commit`.

        Args:
            op: the verb, for the log.
            unit: the unit of work that it publishes, if any.
            base: the version from which it was decided what to write, the newest by default.
        """
        return Transaction(self, op, unit, self.log.newest() if base is None else base)


def open_store(root: str | Path, create: bool = False) -> Store:
    """Open the store at a root; with `create`, make an empty one there if none exists.

    Args:
        root: a folder, or an address such as `s3://bucket/prefix`.
        create: make a store where there is none.

    Raises:
        StoreError: no store exists there and `create` is false, or its format is not ours.
    """
    if create and not open_storage(root).exists(MARKER):
        return Store.init(root)
    return Store.open(root)


class Transaction:
    """Shards and rows that become visible in one step, or not at all.

    Use it in a `with`: leaving it without a commit removes what it made. Where garbage collection
    took its files before, since it was silent for too long, leaving it raises Aborted.
    """

    def __init__(self, store: Store, op: str, unit: str | None, base: int) -> None:
        self.store = store
        self.id = uuid.uuid4().hex
        self.begun_at = base
        self.entry = Entry(0, self.id, op, unit=unit)
        self.scratch = store.storage.scratch(self.id)
        self._families: list[FamilyWriter] = []
        self._numbers = itertools.count()

    @cached_property
    def base(self) -> Snapshot:
        """The state that it began from; built only for those who ask."""
        return self.store.log.snapshot(self.begun_at)

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        remove_scratch(self.scratch)
        if isinstance(error, FileNotFoundError):
            self._check_kept(error)

    def _check_kept(self, error: FileNotFoundError) -> None:
        """Says why files are gone under a slow writer's hands, if garbage collection took them.

        Raises:
            Aborted: it gave this transaction up.
        """
        for entry in self.store.log.entries(self.begun_at + 1, self.store.log.newest()):
            if self.id in entry.aborted_transactions:
                raise Aborted(
                    f"transaction {self.id} was given up as stale by version {entry.version}"
                ) from error

    def family(
        self, family: str, corpus: str, columns: Mapping[str, str], *, first: int = 0
    ) -> "FamilyWriter":
        """A writer of shards of one family; `first` is the number of its first shard."""
        writer = FamilyWriter(self, family, corpus, columns, first)
        self._families.append(writer)
        return writer

    def add_rows(self, table: str, partition: str, rows: "pa.Table", generation: int = 0) -> RowsFile:
        """Writes one Parquet file of rows, which the commit publishes.

        Args:
            table: `documents` or `critiques`.
            lane: the corpus, or the critic's id.
            rows: with the columns of `catalog.DOCUMENTS` or `CRITIQUES`, and the user's own.
            generation: see `RowsFile`.
        """
        import pyarrow.parquet as pq

        key, path = self.rows_path(table, partition)
        pq.write_table(rows, path, compression="zstd")
        schema = {field.name: duckdb_type(field.type) for field in rows.schema}
        return self.record_rows(key, table, partition, rows.num_rows, schema, generation)

    def rows_path(self, table: str, partition: str) -> tuple[str, Path]:
        """Key and local place of the next file of rows, for `record_rows`."""
        key = f"meta/{table}/{lane}/{self.id}-{next(self._numbers)}.parquet"
        path = self.scratch / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return key, path

    def record_rows(
        self, key: str, table: str, partition: str, rows: int, schema: dict[str, str], generation: int
    ) -> RowsFile:
        """Adds a file of rows that stands at its `rows_path`."""
        path = self.scratch / key
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        recorded = RowsFile(key, table, partition, rows, size, digest, schema, generation)
        self.entry.rows_add.append(recorded)
        return recorded

    def replace_rows(self, old: RowsFile, rows: "pa.Table") -> None:
        """Writes a file of this transaction anew, for what has landed meanwhile."""
        self.entry.rows_add.remove(old)
        new = self.add_rows(old.table, old.partition, rows, old.generation)
        self._publish_rows([new])
        self.store.storage.delete(old.path)

    def add_critic(self, critic: CriticInfo) -> None:
        """Records a critic with this commit."""
        if critic.id not in self.base.critics:
            self.entry.critics.append(critic)

    def commit(self, on_newer: Hook | None = None, **summary: Any) -> int:
        """Uploads shards, then rows, then creates the log entry; returns the version.

        Args:
            on_newer: called with each entry that landed since `begin`; see `Log.commit`.
            summary: figures for people, kept in the log entry.
        """
        self.entry.summary = summary
        for family in self._families:
            family.close()
        shards = self.scratch / "shards"
        files = [path for path in sorted(shards.rglob("*")) if path.is_file()]
        keys = {self._key(path): path for path in files}
        self.store.storage.publish(keys)
        self._publish_rows(self.entry.rows_add)
        try:
            return self.store.log.commit(self.entry, self.begun_at, on_newer)
        except CommitError:
            # It can never land now, so nobody else has a use for its files.
            self.store.storage.delete(*keys, *(file.path for file in self.entry.rows_add))
            raise

    def _publish_rows(self, rows: Sequence[RowsFile]) -> None:
        self.store.storage.publish({file.path: self.scratch / file.path for file in rows})

    def _key(self, path: Path) -> str:
        return path.relative_to(self.scratch).as_posix()


class FamilyWriter:
    """Writes the shards of one family in a transaction; families are cut at the same samples."""

    def __init__(
        self, txn: Transaction, family: str, corpus: str, columns: Mapping[str, str], first: int
    ) -> None:
        from ixt_data.mds import ShardWriter

        self.family, self.corpus = family, corpus
        self._txn = txn
        self._folder = f"shards/{family}/{txn.id}"
        self._writer = ShardWriter(txn.scratch / self._folder, columns, first)
        self.write = self._writer.write

    @property
    def size(self) -> int:
        """Uncompressed bytes in the shard that is open."""
        return self._writer.size

    @property
    def samples(self) -> int:
        """Samples in the shard that is open."""
        return self._writer.samples

    def cut(self, of: str | None = None) -> ShardInfo:
        """Ends the open shard, aligned with the text shard `of`."""
        index = self._writer.cut()
        info = ShardInfo.from_index(self._folder, self.family, self.corpus, index, of)
        self._txn.entry.shards_add.append(info)
        return info

    def close(self) -> None:
        """Ends a shard with samples in it, and writes the folder's index.json."""
        if self._writer.samples:
            raise ValueError("cut the open shard before the commit")
        self._writer.close()


def duckdb_type(kind: "pa.DataType") -> str:
    """The DuckDB name of an Arrow type that a file of rows may have."""
    import pyarrow as pa

    if isinstance(kind, pa.UuidType):
        return "UUID"
    if pa.types.is_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    if pa.types.is_map(kind):
        return f"MAP({duckdb_type(kind.key_type)}, {duckdb_type(kind.item_type)})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ" if kind.tz else "TIMESTAMP"
    names = {
        pa.bool_(): "BOOLEAN",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
        pa.string(): "VARCHAR",
        pa.large_string(): "VARCHAR",
        pa.date32(): "DATE",
        pa.binary(): "BLOB",
    }
    if kind not in names:
        raise TypeError(f"no rows column can be of the type {kind}")
    return names[kind]
