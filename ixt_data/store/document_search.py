"""Search in the texts, critiques and thinking of a snapshot: by indexes, else by a bounded scan."""

import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

from ixt_data.errors import QueryError, StoreError
from ixt_data.log import SEARCH, TEXT, Log, ShardInfo, Snapshot
from ixt_data.mds import Shard
from ixt_data.search import SearchIndexes, SearchWords, Snippet
from ixt_data.sql import SharedCatalog, choose_critic_for, join_clause, parenthesize
from ixt_data.storage import Storage
from ixt_data.store.search_result import SearchHit, SearchResult
from ixt_data.store.stored_shards import read_stored

if TYPE_CHECKING:
    import pyarrow as pa

    from ixt_data.sql import Catalog

SEARCH_FIELDS = ("text", "critique", "thinking")
SCAN_BYTES = 256 << 20
"""Uncompressed bytes of shards without an index that one search reads, a few seconds."""
MAX_FILTERED = 10_000
"""Best matches to which a predicate applies."""


class SearchableStore(Protocol):
    """The part of a store that a search needs; see `Store`."""

    root: str
    storage: Storage
    log: Log

    def shard(self, info: ShardInfo) -> Shard:
        """Read one shard."""

    def catalog(self, at: int | str | None = None) -> "Catalog":
        """Open the SQL views of a snapshot."""


@dataclass(frozen=True, slots=True)
class SearchSource:
    """What a search reads: the shards of one field, of one critic if it is not the text."""

    field: str
    critic: str | None
    shards: tuple[ShardInfo, ...]


@dataclass
class _Match:
    doc_id: str
    source: SearchSource
    relevance: float
    text: str | Callable[[], str]


@dataclass
class _Found:
    """Matches of all sources, the best first, and the counts of `SearchResult`."""

    matches: list[_Match]
    total: int = 0
    scanned: int = 0
    unsearched: int = 0


def search_family(family: str) -> str:
    """Return the family of the indexes of a family."""
    return f"{SEARCH}/{family}"


def search_sources(
    snapshot: Snapshot,
    fields: Collection[str] = SEARCH_FIELDS,
    critics: Collection[str] | None = None,
) -> list[SearchSource]:
    """Return what a search reads: all text shards, and the latest shards of each critic.

    Raises:
        QueryError: a field does not exist.
        StoreError: a critic does not exist.
    """
    for name in fields:
        if name not in SEARCH_FIELDS:
            raise QueryError(f"field {name!r} does not exist; valid: {', '.join(SEARCH_FIELDS)}")
    names = list(dict.fromkeys(critic.name for critic in snapshot.critics.values()))
    for name in critics or ():
        if name not in names:
            raise StoreError(f"no critiques by {name!r}; critics: {', '.join(names) or 'none'}")
    texts = snapshot.text_shards()
    sources = [SearchSource(TEXT, None, tuple(texts))] if TEXT in fields else []
    for name in names:
        if critics is not None and name not in critics:
            continue
        latest = [snapshot.newest_critique(shard.path, name) for shard in texts]
        critiques = [shard for shard in latest if shard is not None]
        thinking = [
            found
            for shard in critiques
            if (
                found := snapshot.aligned(
                    shard.aligned_with or "", shard.family.replace("critique/", "thinking/", 1)
                )
            )
        ]
        for field, shards in (("critique", critiques), ("thinking", thinking)):
            if field in fields and shards:
                sources.append(SearchSource(field, name, tuple(shards)))
    return [source for source in sources if source.shards]


def search_documents(
    store: "SearchableStore",
    snapshot: Snapshot,
    text: str,
    *,
    where: str | None = None,
    critic: str | None = None,
    limit: int = 20,
    fields: Collection[str] = SEARCH_FIELDS,
    critics: Collection[str] | None = None,
    scan_bytes: int = SCAN_BYTES,
) -> SearchResult:
    """Return the documents whose text, critique or thinking matches; see `Store.search`."""
    start = time.perf_counter()
    words = SearchWords.parse(text)
    sources = search_sources(snapshot, fields, critics)
    found = _find(store, snapshot, sources, words, limit if not where else MAX_FILTERED, scan_bytes)
    rows = _rows(store, snapshot, found.matches, where, critic)
    chosen = [match for match in found.matches if match.doc_id in rows]
    hits = tuple(
        _hit(words, match, rows[match.doc_id], rank) for rank, match in enumerate(chosen[:limit], 1)
    )
    total = len(chosen) if where else found.total
    seconds = time.perf_counter() - start
    return SearchResult(
        text, snapshot.version, total, hits, found.scanned, found.unsearched, seconds
    )


def search_table(store: "SearchableStore", snapshot: Snapshot, text: str) -> "pa.Table":
    """Return all matches as the rows of SQL's `search(words)`.

    Raises:
        QueryError: the search is not valid, or texts without an index exceed the limit of a scan.
    """
    import pyarrow as pa

    words, sources = SearchWords.parse(text), search_sources(snapshot)
    found = _find(store, snapshot, sources, words, None, SCAN_BYTES)
    if found.unsearched:
        raise QueryError(f"search({text!r}): {explain_unsearched(found.unsearched)}")
    matches = found.matches
    ids = pa.array([UUID(match.doc_id).bytes for match in matches], pa.binary(16))
    return pa.table(
        {
            "found_by": pa.array([text] * len(matches), pa.string()),
            "doc_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
            "field": pa.array([match.source.field for match in matches], pa.string()),
            "critic": pa.array([match.source.critic for match in matches], pa.string()),
            "rank": pa.array(range(1, len(matches) + 1), pa.int64()),
            "relevance": pa.array([match.relevance for match in matches], pa.float64()),
        }
    )


def explain_unsearched(texts: int) -> str:
    """Return why texts were not searched, and what to do."""
    return (
        f"{texts:,} texts have no index, and are more than the {SCAN_BYTES >> 20} MB that a search "
        "reads without one. Build the index: ixt search --index"
    )


def _find(
    store: "SearchableStore",
    snapshot: Snapshot,
    sources: Sequence[SearchSource],
    words: SearchWords,
    limit: int | None,
    scan_bytes: int,
) -> _Found:
    found = _Found([])
    for source in sources:
        indexes = {
            shard.path: snapshot.aligned(shard.path, search_family(shard.family))
            for shard in source.shards
        }
        present = [index for index in indexes.values() if index is not None]
        seen: set[str] = set()
        if present:
            result = _state(store).indexes.search(present, words, limit)
            found.total += result.total
            for number, name in enumerate(result.doc_ids):
                if name in seen:
                    # A text of two corpora is one document.
                    found.total -= 1
                    continue
                seen.add(name)
                read = partial(result.text, number)
                found.matches.append(_Match(name, source, result.relevances[number], read))
        for shard in source.shards:
            if indexes[shard.path] is not None:
                continue
            if shard.raw.bytes > scan_bytes:
                found.unsearched += shard.samples
                continue
            scan_bytes -= shard.raw.bytes
            found.scanned += shard.samples
            for doc_id, content in read_texts(store, shard, source.field):
                name = str(UUID(bytes=doc_id))
                if name not in seen and words.matches(content):
                    seen.add(name)
                    found.total += 1
                    number = len(words.find(content))
                    relevance = number / (number + 1.2)
                    found.matches.append(_Match(name, source, relevance, content))
    found.matches.sort(key=lambda match: -match.relevance)
    return found


def find_snippets(
    store: "SearchableStore", snapshot: Snapshot, text: str, doc_ids: Sequence[str]
) -> dict[str, tuple[str, Snippet]]:
    """Return where the words are in some documents: the field, and an excerpt, by doc_id.

    The text of a document precedes critiques and thinking.

    Raises:
        QueryError: the search is not valid.
    """
    words, budget = SearchWords.parse(text), SCAN_BYTES
    found: dict[str, tuple[str, Snippet]] = {}
    for source in search_sources(snapshot):
        wanted = {doc_id for doc_id in doc_ids if doc_id not in found}
        if not wanted:
            break
        indexes = [snapshot.aligned(one.path, search_family(one.family)) for one in source.shards]
        present = [index for index in indexes if index is not None]
        texts = _state(store).indexes.texts(present, wanted) if present else {}
        for shard, index in zip(source.shards, indexes, strict=True):
            if index is None and shard.raw.bytes <= budget and wanted - texts.keys():
                budget -= shard.raw.bytes
                for doc_id, content in read_texts(store, shard, source.field):
                    if (name := str(UUID(bytes=doc_id))) in wanted:
                        texts[name] = content
        found |= {
            name: (source.field, words.snippet(content))
            for name, content in texts.items()
            if words.matches(content)
        }
    return found


def read_texts(
    store: "SearchableStore", shard: ShardInfo, field: str
) -> Iterator[tuple[bytes, str]]:
    """Yield doc_id and text of the samples of a shard that have one."""
    data = store.shard(shard)
    for doc_id, text in zip(data.column("doc_id"), data.column(field), strict=True):
        if text:
            yield doc_id, text


def _rows(
    store: "SearchableStore",
    snapshot: Snapshot,
    matches: Sequence[_Match],
    where: str | None,
    critic: str | None,
) -> dict[str, dict[str, Any]]:
    """Return the documents of matches that the predicate keeps, by doc_id."""
    if not matches:
        return {}
    select = "SELECT doc_id::VARCHAR AS doc_id, corpus, source, source_id"
    inside = "WHERE doc_id IN (SELECT unnest($ids::UUID[]))"
    values = {"ids": list(dict.fromkeys(match.doc_id for match in matches))}
    if not where:
        # Opening a catalog takes longer than the search.
        sql = f"{select} {join_clause(snapshot, None)} {inside}"
        return {row["doc_id"]: row for row in _state(store).records(store, snapshot, sql, values)}
    catalog = store.catalog(snapshot.version)
    try:
        joined = choose_critic_for(catalog, critic, store.root, where)
        sql = f"{select} {join_clause(snapshot, joined)} {inside} AND {parenthesize(where)}"
        return {row["doc_id"]: row for row in catalog.arrow(sql, values).to_pylist()}
    finally:
        catalog.close()


def _hit(words: SearchWords, match: _Match, row: dict[str, Any], rank: int) -> SearchHit:
    text = match.text if isinstance(match.text, str) else match.text()
    return SearchHit(
        **row,
        field=match.source.field,
        critic=match.source.critic,
        rank=rank,
        relevance=match.relevance,
        snippet=words.snippet(text),
    )


def search_rows(store: "SearchableStore", snapshot: Snapshot) -> Callable[[str], "pa.Table"]:
    """Return the function behind SQL's `search(words)` for a snapshot."""
    return partial(search_table, store, snapshot)


class _SearchState:
    """What stays open between searches: the indexes, and the catalog of the latest snapshot.

    It must not refer to the store, which would stay alive for it.
    """

    def __init__(self, root: str, storage: Storage) -> None:
        self.indexes = SearchIndexes(root, partial(read_stored, storage))
        self._catalog: SharedCatalog | None = None
        self._lock = threading.Lock()

    def records(
        self, store: "SearchableStore", snapshot: Snapshot, sql: str, values: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Return the rows of a query at a snapshot."""
        with self._lock:
            if self._catalog is None or self._catalog.snapshot.version != snapshot.version:
                # The former one closes when no search uses it.
                self._catalog = SharedCatalog(store.storage, store.log, snapshot)
            catalog = self._catalog
        return catalog.records(sql, values)

    def close(self) -> None:
        self.indexes.close()
        self._catalog = None


_states: WeakKeyDictionary["SearchableStore", _SearchState] = WeakKeyDictionary()


def _state(store: "SearchableStore") -> _SearchState:
    """Return what stays open for a store as long as it lives."""
    if store not in _states:
        state = _SearchState(store.root, store.storage)
        weakref.finalize(store, state.close)
        _states[store] = state
    return _states[store]
