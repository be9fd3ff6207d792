"""Reading indexes of many shards as one.

An index of tantivy is a list of segments, and a segment is a set of files with a unique name. So
the files of all shards, linked into one folder with one list, are one index: a search compares
texts of all shards by the same statistics. The files are unpacked once per machine, into the cache
of remote files, which evicts them when it is full.
"""

import io
import re
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from ixt_data.errors import CorruptError
from ixt_data.search.index_archive import (
    FIELD,
    HIGH,
    LOW,
    MANIFEST,
    META,
    STORED,
    TOKENIZER,
    VERSION,
    analyzer,
    schema,
)
from ixt_data.search.words import Clause, SearchWords
from ixt_data.storage import CacheUse, FileCache

if TYPE_CHECKING:
    import tantivy

    from ixt_data.log import ShardInfo
    from ixt_data.mds import Shard

REMEDY = "Remove it with `ixt verify --repair`, and build it again with `ixt search --index`"
MAX_OPEN = 24
"""Indexes that stay open: one per family of a snapshot that was searched."""


@dataclass(frozen=True, slots=True)
class IndexMatches:
    """The best matches of one search in one index.

    Attributes:
        total: number of texts that match.
        doc_ids: ids of the best ones, the best first, as text.
        relevances: BM25 of each.
        text: returns the text of a match by its number.
    """

    total: int
    doc_ids: list[str]
    relevances: list[float]
    text: Callable[[int], str]


class SearchIndexes:
    """The indexes of a store; each stays open with its links until `close`, or until others do."""

    def __init__(self, root: str, read_shard: Callable[["ShardInfo"], "Shard"]) -> None:
        """Bind it to a store.

        Args:
            root: root of the store.
            read_shard: reads a shard of the store.
        """
        self._cache, self._read = FileCache(f"{root}#search"), read_shard
        self._open: OrderedDict[tuple[str, ...], _OpenIndex] = OrderedDict()
        self._lock = threading.Lock()

    def search(
        self, shards: Sequence["ShardInfo"], words: SearchWords, limit: int | None
    ) -> IndexMatches:
        """Search the indexes of some shards as one.

        Args:
            shards: shards of a family `search/...`.
            words: the search.
            limit: number of matches; None for all.
        """
        return self._index(shards).search(words, limit)

    def texts(self, shards: Sequence["ShardInfo"], doc_ids: Collection[str]) -> dict[str, str]:
        """Return the texts of some documents that the indexes of some shards have, by doc_id."""
        return self._index(shards).texts(doc_ids)

    def _index(self, shards: Sequence["ShardInfo"]) -> "_OpenIndex":
        with self._lock:
            key = tuple(shard.path for shard in shards)
            opened = self._open.get(key)
            if opened is None:
                opened = self._open_index(shards)
                self._open[key] = opened
                while len(self._open) > MAX_OPEN:
                    self._open.popitem(last=False)[1].close()
            self._open.move_to_end(key)
            return opened

    def _open_index(self, shards: Sequence["ShardInfo"]) -> "_OpenIndex":
        """Open an index; unpack its files again if one in the cache is damaged.

        Raises:
            CorruptError: the index in the store is damaged or missing.
        """
        try:
            return _OpenIndex(self._cache, shards, self._read)
        except (ValueError, KeyError, TypeError):
            for shard in shards:
                folder = self._cache.path(shard.path)
                for path in folder.iterdir() if folder.is_dir() else ():
                    self._cache.discard(f"{shard.path}/{path.name}")
        try:
            return _OpenIndex(self._cache, shards, self._read)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{shards[0].path}: cannot be read: {error}. {REMEDY}") from None

    def close(self) -> None:
        """Close all indexes."""
        with self._lock:
            for opened in self._open.values():
                opened.close()
            self._open.clear()


class _OpenIndex:
    def __init__(
        self,
        cache: FileCache,
        shards: Sequence["ShardInfo"],
        read_shard: Callable[["ShardInfo"], "Shard"],
    ) -> None:
        import tantivy

        self._use = use = cache.use().__enter__()
        try:
            folder = use.folder / "index"
            folder.mkdir()
            manifests = [_link_segments(use, shard, read_shard, folder) for shard in shards]
            segments = [one for manifest in manifests for one in manifest["segments"]]
            meta = {"segments": segments, "schema": manifests[0]["schema"], "opstamp": 0}
            (folder / META).write_bytes(orjson.dumps(meta))
            index = tantivy.Index.open(str(folder))
            index.register_tokenizer(TOKENIZER, analyzer())
            index.config_reader(reload_policy="manual")
            self._searcher = index.searcher()
        except BaseException:
            use.close()
            raise

    def close(self) -> None:
        # A search in progress has its files open.
        self._use.close()

    def search(self, words: SearchWords, limit: int | None) -> IndexMatches:
        limit = limit or max(1, self._searcher.num_docs)
        found = self._searcher.search(build_query(words), limit)
        addresses = [address for _, address in found.hits]

        def text(number: int) -> str:
            return self._text(addresses[number])

        relevances = [score for score, _ in found.hits]
        return IndexMatches(found.count or 0, self._ids(addresses), relevances, text)

    def texts(self, doc_ids: Collection[str]) -> dict[str, str]:
        import tantivy

        low = [UUID(doc_id).int & (1 << 64) - 1 for doc_id in doc_ids]
        query = tantivy.Query.term_set_query(schema(), LOW, low)
        # A document of several corpora has several entries.
        found = self._searcher.search(query, 10 * len(low) + 1)
        addresses = [address for _, address in found.hits]
        return {
            doc_id: self._text(address)
            for doc_id, address in zip(self._ids(addresses), addresses, strict=True)
            if doc_id in doc_ids
        }

    def _ids(self, addresses: Sequence["tantivy.DocAddress"]) -> list[str]:
        halves = (self._searcher.fast_field_values(name, addresses) for name in (HIGH, LOW))
        return [str(UUID(int=(high << 64) | low)) for high, low in zip(*halves, strict=True)]

    def _text(self, address: "tantivy.DocAddress") -> str:
        return bytes(self._searcher.doc(address)[STORED][0]).decode()


def _link_segments(
    use: CacheUse,
    shard: "ShardInfo",
    read_shard: Callable[["ShardInfo"], "Shard"],
    folder: Path,
) -> dict[str, Any]:
    """Link the files of a shard's index into a folder; return its manifest.

    Raises:
        ValueError: a file in the cache is not complete.
        CorruptError: the index in the store is damaged, missing or of another version.
    """
    opened: list[zipfile.ZipFile] = []

    def link(name: str) -> Path:
        def unpack(path: Path) -> None:
            if not opened:
                opened.append(_read_archive(shard, read_shard))
            path.write_bytes(opened[0].read(name))

        return use.get(f"{shard.path}/{name}", unpack)

    manifest: dict[str, Any] = orjson.loads(link(MANIFEST).read_bytes())
    if manifest.get("version") != VERSION:
        raise CorruptError(
            f"{shard.path}: another version of ixt built this index. "
            "Build it again: ixt search --index --rebuild"
        )
    for name, size in manifest["files"].items():
        path = link(name)
        if path.stat().st_size != size:
            raise ValueError(f"{name} has {path.stat().st_size:,} bytes instead of {size:,}")
        (folder / name).hardlink_to(path)
    return manifest


def _read_archive(
    shard: "ShardInfo", read_shard: Callable[["ShardInfo"], "Shard"]
) -> zipfile.ZipFile:
    """Return the archive in a shard.

    Raises:
        CorruptError: it is damaged or missing.
    """
    try:
        return zipfile.ZipFile(io.BytesIO(b"".join(read_shard(shard).column("part"))))
    except (CorruptError, zipfile.BadZipFile) as error:
        reason = str(error).removeprefix(f"{shard.path}: ")
        raise CorruptError(f"{shard.path}: {reason}. {REMEDY}") from None


def build_query(words: SearchWords) -> "tantivy.Query":
    """Return a search as tantivy's query: all clauses must match, except excluded ones."""
    import tantivy

    clauses = [
        (tantivy.Occur.MustNot if clause.is_excluded else tantivy.Occur.Must, _clause(clause))
        for clause in words.clauses
    ]
    return tantivy.Query.boolean_query(clauses)


def _clause(clause: Clause) -> "tantivy.Query":
    import tantivy

    fields, words = schema(), list(clause.words)
    if clause.is_prefix and len(words) == 1:
        # Without words before it, this is a range of words and not limited to some expansions.
        return tantivy.Query.phrase_prefix_query(fields, FIELD, words)
    if clause.is_prefix:
        patterns = [re.escape(word) for word in words]
        return tantivy.Query.regex_phrase_query(
            fields, FIELD, [*patterns[:-1], f"{patterns[-1]}.*"]
        )
    if len(words) == 1:
        return tantivy.Query.term_query(fields, FIELD, words[0])
    return tantivy.Query.phrase_query(fields, FIELD, words)
