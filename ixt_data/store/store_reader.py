"""Reading a store: its snapshots, SQL, searches, documents and shards."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixt_data.errors import SnapshotError
from ixt_data.log import Log, Pins, RowsFile, ShardInfo, Snapshot
from ixt_data.storage import Storage

if TYPE_CHECKING:
    from ixt_data.mds import Shard
    from ixt_data.sql import Catalog, Parameters, QueryResult
    from ixt_data.store.search_result import SearchResult
    from ixt_data.store.stored_document import StoredDocument


class StoreReader:
    """The part of a store that only reads; see `Store`."""

    def __init__(self, storage: Storage) -> None:
        """Bind a store to its storage, which must contain the marker ixt.json."""
        self.storage = storage
        self.root = storage.root
        self.log = Log(storage)
        self.pins = Pins(storage, self.log)

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
            critic: critic whose columns the predicate reads, by default the only one besides
                `human`.
            at: version or tag, the newest version by default.
            limit: maximum number of hits.
            fields: fields to search.

        Raises:
            QueryError: the search or the predicate is not valid.
            StoreError: the critic does not exist, or the predicate reads critiques, several
                critics exist and none is named.
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

    def documents(
        self,
        where: str = "true",
        *,
        critic: str | None = None,
        corpora: Sequence[str] = (),
        order_by: str | None = None,
        limit: int = 50,
        at: int | str | None = None,
    ) -> "QueryResult":
        """Return documents with their texts, and with the critique of one critic.

        Of several critics none need be named if `where` and `order_by` read only documents: then
        the result has no critiques.

        Each shard with a match is read once: a small `limit` reads few shards.

        Args:
            where: SQL over the columns of documents and of the critic's critiques.
            critic: name or id of the critic, by default the only one besides `human`.
            corpora: names of the corpora, all by default; one name is a list of one.
            order_by: SQL, such as "score DESC"; by default the order of the shards.
            limit: maximum number of documents, 1 to 10,000.
            at: version or tag, the newest version by default.

        Raises:
            QueryError: DuckDB refuses the predicate or the order.
            StoreError: a corpus or the critic does not exist, critiques are read, several critics
                exist and none is named, or the limit is out of its bounds.
            SnapshotError: the version or tag does not exist.
        """
        from ixt_data.sql import QueryResult, choose_critic_for
        from ixt_data.store.stored_document import add_texts, matching_rows

        catalog = self.catalog(at)
        try:
            names = [corpora] if isinstance(corpora, str) else list(corpora)
            catalog.snapshot.check_corpora(names, self.root)
            chosen = choose_critic_for(catalog, critic, self.root, where, order_by)
            rows = matching_rows(catalog, where, chosen, names, order_by, limit)
            return QueryResult(add_texts(catalog.snapshot, self.shard, rows))
        finally:
            catalog.close()

    def shard(self, info: ShardInfo) -> "Shard":
        """Read one shard of a snapshot and check its hash.

        A shard of an adopted folder has the columns of a text shard.

        Raises:
            CorruptError: the shard is missing, or differs from what was written.
        """
        from ixt_data.store.stored_shards import read_stored

        return read_stored(self.storage, info)

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
        from ixt_data.store.stored_shards import read_stored_sample

        return read_stored_sample(self.storage, info, row)

    def original(self, file: RowsFile | ShardInfo) -> AbstractContextManager[Path]:
        """Provide a local file with the storage's current bytes, without a cache, in a `with`."""
        if isinstance(file, ShardInfo) and file.is_external:
            from ixt_data.store.external_shards import original_copy

            return original_copy(file)
        return self.storage.original(file.path)
