"""A store: opening it, querying it, and writing to it in transactions."""

import itertools
import re
from collections.abc import Collection
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ixt_data.errors import CorruptError, SnapshotError, StoreError
from ixt_data.log import (
    FORMAT,
    Log,
    Pin,
    Pins,
    RowsFile,
    ShardInfo,
    Snapshot,
)
from ixt_data.storage import Storage, open_storage, probe, write_reserve
from ixt_data.store.layout import MARKER
from ixt_data.store.transaction import Transaction

if TYPE_CHECKING:
    from ixt_data.mds import Shard
    from ixt_data.sql import Catalog, Parameters, QueryResult
    from ixt_data.store.document_search import SearchResult
    from ixt_data.store.stored_document import StoredDocument

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str, what: str) -> str:
    """Check that `name` is valid for a corpus, critic, tag or selection; return it.

    Raises:
        StoreError: the name is invalid; the message states the valid characters.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{what} {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', the first one a "
            "letter or a digit"
        )
    return name


class Store:
    """Documents, critiques and their versions under one root.

    Open one with `ixt_data.open_store`.

    Attributes:
        root: the folder, or the address of the bucket and prefix.
        storage: the storage below the root.
        log: the commit log.
        pins: the pins and tags.
    """

    def __init__(self, storage: Storage) -> None:
        """Bind a store to its storage, which must contain the marker ixt.json."""
        self.storage = storage
        self.root = storage.root
        self.log = Log(storage)
        self.pins = Pins(storage, self.log)

    def __repr__(self) -> str:
        """Return where the store is, its latest snapshot, corpora and critics."""
        snapshot = self.snapshot()
        corpora = ", ".join(f"{n} ({c.documents:,})" for n, c in snapshot.corpora.items()) or "none"
        critics = ", ".join(sorted({c.name for c in snapshot.critics.values()})) or "none"
        return (
            f"Store({self.root!r}, snapshot {snapshot.version}; corpora: {corpora}; "
            f"critics: {critics})"
        )

    @classmethod
    def init(cls, root: str | Path) -> "Store":
        """Create an empty store.

        Raises:
            StoreError: a store exists there, or the storage is not suitable (see `probe`).
        """
        storage = open_storage(root)
        if storage.exists(MARKER):
            raise StoreError(f"{root} already is a store")
        probe(storage)
        marker = {"format": FORMAT, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        if not storage.create(MARKER, orjson.dumps(marker) + b"\n"):
            raise StoreError(f"{root} already is a store")
        write_reserve(storage)
        return cls(storage)

    @classmethod
    def open(cls, root: str | Path) -> "Store":
        """Open a store.

        Raises:
            StoreError: no store exists there, or it has another format.
            CorruptError: its ixt.json differs from what was written.
        """
        storage = open_storage(root)
        try:
            store_format = orjson.loads(storage.read(MARKER))["format"]
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(
                f"{root} is not a store. Create one: ixt init --store {root}"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise CorruptError(
                f"{storage.root}/{MARKER}: truncated or changed. Restore it from a backup, or "
                f'write {{"format":{FORMAT}}} into it if this version of ixt created the store'
            ) from None
        if store_format != FORMAT:
            raise StoreError(
                f"{root} has store format {store_format}, this version of ixt reads format "
                f"{FORMAT}. Ingest its data again with this version, or install the ixt version "
                "that created it"
            )
        return cls(storage)

    def snapshot(self, at: int | str | None = None) -> Snapshot:
        """Return the state at a version or tag, the newest by default.

        Raises:
            SnapshotError: the version or tag does not exist.
        """
        return self.log.snapshot(None if at is None else self.version_of(at))

    def version_of(self, at: int | str) -> int:
        """Resolve a version number or tag to a version number.

        Raises:
            SnapshotError: the tag does not exist.
        """
        return int(at) if isinstance(at, int) or at.isdecimal() else self._tagged(at)

    def _tagged(self, name: str) -> int:
        tags = self.tags()
        if name not in tags:
            known = ", ".join(sorted(tags)) or "none"
            raise SnapshotError(f"no tag {name!r} in {self.root}; tags: {known}")
        return tags[name]

    def tag(self, name: str, at: int | str | None = None) -> int:
        """Tag a version, so that garbage collection retains it; return the version.

        Args:
            name: name of the tag: 1 to 64 letters, digits, `.`, `_` or `-`, and not a number.
            at: version or tag to name, the newest version by default.

        Raises:
            StoreError: the name is invalid.
            SnapshotError: the name is in use for another version, or `at` does not exist.
        """
        check_name(name, "tag")
        if name.isdigit():
            raise StoreError(f"tag {name!r}: a number means a version. Add a letter")
        version = self.snapshot(at).version
        if not self.pins.create(Pin(name, version)):
            tagged = self.pins.all()[name].version
            if tagged != version:
                raise SnapshotError(
                    f"tag {name!r} is at version {tagged} and tags do not move. Use another name, "
                    f"or delete it first: ixt tag --delete {name}"
                )
        return version

    def untag(self, name: str) -> int:
        """Remove a tag; return the version that it named.

        Raises:
            SnapshotError: the tag does not exist.
        """
        version = self._tagged(name)
        self.pins.release(name)
        return version

    def tags(self) -> dict[str, int]:
        """Return the version of every tag, by name."""
        return {name: pin.version for name, pin in self.pins.all().items() if pin.is_tag}

    def catalog(
        self,
        at: int | str | None = None,
        before: int | str | None = None,
        *,
        plain: bool = False,
    ) -> "Catalog":
        """Open the SQL views of a snapshot; the caller closes them.

        Args:
            at: version or tag, the newest version by default.
            before: another version or tag, visible in the schema `before`; see `Catalog`.
            plain: Arrow data without extension types; see `Catalog`.

        Raises:
            SnapshotError: a version or tag does not exist.
        """
        from ixt_data.sql import Catalog
        from ixt_data.store.document_search import search_rows

        earlier = None if before is None else self.snapshot(before)
        snapshot = self.snapshot(at)
        find = search_rows(self, snapshot)
        return Catalog(self.storage, self.log, snapshot, earlier, find, plain=plain)

    def search(
        self,
        words: str,
        *,
        where: str | None = None,
        critic: str | None = None,
        at: int | str | None = None,
        limit: int = 20,
        fields: Collection[str] = ("text", "critique", "thinking"),
    ) -> "SearchResult":
        """Search texts, critiques and thinking; return the best hits with snippets.

        Texts that `ixt search --index` has not indexed are read, up to 256 MB.

        Args:
            words: words that must all occur, `"a phrase"`, `prefix*`, `-without`.
            where: predicate as in a mix; it applies to the 10,000 best matches.
            critic: critic whose critiques the predicate is about, if there are several.
            at: version or tag, the newest version by default.
            limit: maximum number of hits.
            fields: fields to search.

        Raises:
            QueryError: the search or the predicate is not valid.
            SnapshotError: the version or tag does not exist.

        Examples:
            >>> import tempfile, ixt_data
            >>> store = ixt_data.open_store(tempfile.mkdtemp() + "/S", create=True)
            >>> store.search('"brown fox" jump*').total
            0
        """
        from ixt_data.store.document_search import search_documents

        return search_documents(
            self,
            self.snapshot(at),
            words,
            where=where,
            critic=critic,
            limit=limit,
            fields=fields,
        )

    def sql(
        self, query: str, *, at: int | str | None = None, parameters: "Parameters" = None
    ) -> "QueryResult":
        """Run one read-only SQL statement over the views of a snapshot.

        Args:
            query: the statement, in DuckDB's SQL. See docs/querying.md for the views.
            at: version or tag, the newest version by default.
            parameters: values for `?` and `$1` as a sequence, or for `$name` as a mapping.

        Returns:
            The rows, with DuckDB's names: `.df() .pl() .arrow() .fetchall() .show()`.

        Raises:
            QueryError: DuckDB refuses the statement, or it is not a single read-only one.
            SnapshotError: the version or tag does not exist.

        Examples:
            >>> import tempfile, ixt_data
            >>> store = ixt_data.open_store(tempfile.mkdtemp() + "/S", create=True)
            >>> query = "SELECT count(*) FROM documents WHERE n_bytes > ?"
            >>> result = store.sql(query, parameters=[9])
            >>> result.fetchall()
            [(0,)]
        """
        from ixt_data.sql import QueryResult

        catalog = self.catalog(at)
        try:
            return QueryResult(catalog.arrow(query, parameters))
        finally:
            catalog.close()

    def document(self, name: str, *, at: int | str | None = None) -> "StoredDocument":
        """Return a document with its text and its critiques.

        Args:
            name: its doc_id, with or without dashes; the first digits of it; or its source_id.
            at: version or tag, the newest version by default.

        Raises:
            UnknownDocument: no document has this name.
            StoreError: several documents have it; the message lists them.
            SnapshotError: the version or tag does not exist.
        """
        from ixt_data.store.stored_document import read_document

        catalog = self.catalog(at)
        try:
            return read_document(catalog, self.sample, name)
        finally:
            catalog.close()

    def shard(self, info: ShardInfo) -> "Shard":
        """Read one shard of a snapshot and check its hash.

        A shard of an adopted folder has the columns of a text shard.

        Raises:
            CorruptError: the shard is missing, or differs from what was written.
        """
        from ixt_data.mds import read_shard

        if info.is_external:
            from ixt_data.store.external_shards import read_adopted

            return read_adopted(info)
        try:
            with self.storage.local(info.path) as path:
                return read_shard(path, info.index)
        except FileNotFoundError:
            missing = f"{info.path}: missing. `ixt verify` names the documents that it contained"
            raise CorruptError(missing) from None

    def sample(self, info: ShardInfo, row: int) -> dict[str, Any]:
        """Read one sample of a shard; decompress the shard only up to it.

        Args:
            info: the shard.
            row: index of the sample, from 0.

        Returns:
            The values of the sample by column.

        Raises:
            CorruptError: the shard is missing, differs from what was written, or has no such row.
        """
        from ixt_data.mds import read_sample

        if info.is_external:
            return next(itertools.islice(self.shard(info).rows(), row, None))
        try:
            with self.storage.local(info.path) as path:
                return read_sample(path, info.index, row)
        except FileNotFoundError:
            missing = f"{info.path}: missing. `ixt verify` names the documents that it contained"
            raise CorruptError(missing) from None

    def original(self, file: RowsFile | ShardInfo) -> AbstractContextManager[Path]:
        """Provide a local file with the storage's current bytes, without a cache, in a `with`."""
        if isinstance(file, ShardInfo) and file.is_external:
            from ixt_data.store.external_shards import original_copy

            return original_copy(file)
        return self.storage.original(file.path)

    def begin(
        self,
        op: str,
        unit: str | None = None,
        *,
        base: int | None = None,
        txn: str | None = None,
    ) -> "Transaction":
        """Start a transaction: nothing is visible before its `commit`.

        Args:
            op: the verb, for the log.
            unit: the unit of work that the transaction publishes, if any.
            base: the version that the changes depend on, the newest by default.
            txn: id of a transaction that has not ended, to continue it; by default a new one.
        """
        base_version = self.log.newest() if base is None else base
        return Transaction(self.storage, self.log, op, unit, base_version, txn)


def open_store(root: str | Path, create: bool = False) -> Store:
    """Open the store at a root; with `create`, make an empty one there if none exists.

    Args:
        root: a folder, or an address such as `s3://bucket/prefix`.
        create: create an empty store if none exists.

    Raises:
        StoreError: no store exists there and `create` is false, or it has another format.
        CorruptError: its ixt.json differs from what was written.
        MissingExtra: the root is on S3, and boto3 is not installed.

    Examples:
        >>> import tempfile, ixt_data
        >>> store = ixt_data.open_store(tempfile.mkdtemp() + "/S", create=True)
        >>> store.snapshot().version
        0
    """
    if create and not open_storage(root).exists(MARKER):
        return Store.init(root)
    return Store.open(root)
