"""The open snapshots: one catalog each, shared by all requests, with cached results.

A snapshot never changes, so results are cached. The latest version is checked regularly.
"""

import itertools
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from ixt_data.errors import SnapshotError
from ixt_data.log import Entry, Snapshot
from ixt_data.sql import SharedCatalog
from ixt_data.store import Store, search_rows
from ixt_inspector.web.document_columns import (
    FacetColumn,
    find_facets,
    own_column,
    own_types,
)
from ixt_inspector.web.listing import ListingColumns, listing_order, listing_query, with_own

T = TypeVar("T")
_MAX_DIGITS = 18
"""Digits of a version."""
REFRESH_SECONDS = 0.5
"""Interval between checks for a new version."""
FAST_OPEN_SECONDS = 0.5
"""A snapshot that takes longer to open is opened while pages show the previous one."""
MAX_OPEN_VIEWS = 4
MAX_CACHED_ROWS = 8_000_000
"""Documents over all listings of a snapshot that are cached in memory, about 300 bytes each."""
MAX_CACHED_RESULTS = 500
MAX_CACHED_TEXTS = 20_000


class ResultCache:
    """Results by key: each is computed once, even if several requests need it concurrently."""

    def __init__(self, max_results: int = MAX_CACHED_RESULTS) -> None:
        self._max_results, self._lock = max_results, threading.Lock()
        self._results: OrderedDict[Hashable, Any] = OrderedDict()
        self._computing: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the cached result of a key, or compute it."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                cached: T = self._results[key]
                return cached
            computing = self._computing.setdefault(key, threading.Lock())
        with computing:
            with self._lock:
                if key in self._results:
                    cached = self._results[key]
                    return cached
            result = compute()
            with self._lock:
                self._results[key] = result
                self._computing.pop(key, None)
                while len(self._results) > self._max_results:
                    self._results.popitem(last=False)
            return result


class TextCache:
    """Short texts by key, the most recent ones."""

    def __init__(self, max_texts: int = MAX_CACHED_TEXTS) -> None:
        self._max_texts, self._lock = max_texts, threading.Lock()
        self._texts: OrderedDict[Hashable, str] = OrderedDict()

    def find(self, key: Hashable) -> str | None:
        """Return the text of a key, None if the cache does not have it."""
        with self._lock:
            return self._texts.get(key)

    def add(self, key: Hashable, text: str) -> None:
        """Keep the text of a key."""
        with self._lock:
            self._texts[key] = text
            while len(self._texts) > self._max_texts:
                self._texts.popitem(last=False)


class Listing:
    """A FROM clause of documents; its table, if it has one, exists as long as the object."""

    def __init__(self, source: str) -> None:
        self.source = source


class SnapshotView:
    """One snapshot: its catalog and its cached results."""

    def __init__(self, snapshot: Snapshot, catalog: SharedCatalog) -> None:
        self.snapshot, self._catalog = snapshot, catalog
        self.cache, self.texts = ResultCache(), TextCache()
        self._max_listings = MAX_CACHED_ROWS // max(1, self.documents)
        self._listings = ResultCache(self._max_listings)
        self._numbers = itertools.count()

    @property
    def version(self) -> int:
        """Return the version of the snapshot."""
        return self.snapshot.version

    @property
    def critics(self) -> list[str]:
        """Return the names of critics, in the order of their first critiques."""
        return list(dict.fromkeys(critic.name for critic in self.snapshot.critics.values()))

    @cached_property
    def default_critic(self) -> str | None:
        """Return the first critic that covers many documents, compared with the others.

        Few documents have labels of people, so `human` is the default only where it is alone.
        """
        counts = dict.fromkeys(self.critics, 0)
        for file in self.snapshot.rows.values():
            if file.table == "critiques":
                counts[self.snapshot.critics[file.partition].name] += file.rows
        enough = max(counts.values(), default=0) / 2
        return next((name for name, n in counts.items() if n >= enough), None)

    @property
    def documents(self) -> int:
        """Return the number of documents over all corpora."""
        return sum(corpus.documents for corpus in self.snapshot.corpora.values())

    @cached_property
    def own_columns(self) -> dict[str, str]:
        """Return the types of the columns that the user gave documents, by name."""
        return own_types(self._catalog.columns["documents"])

    @property
    def facets(self) -> tuple[FacetColumn, ...]:
        """Return the columns of the user that have few values."""
        return self.cache.get("facets", lambda: find_facets(self.query, self.own_columns))

    def columns(
        self, critic: str | None, against: str | None = None, own: str | None = None
    ) -> ListingColumns:
        """Return the columns of a listing.

        Args:
            critic: critic whose critiques it shows.
            against: critic to compare with.
            own: column of the user to sort by.

        Raises:
            QueryError: the documents have no such column.
        """
        column = own_column(self.own_columns, own) if own is not None else None
        return ListingColumns(critic, against, self.facets, column)

    def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of a trusted query; queries of users go to `QueryPool`."""
        return self._catalog.records(sql, parameters)

    def query_cached(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a trusted query, from the cache if it ran before."""
        return self.cache.get(sql, lambda: self.query(sql))

    def listing(self, columns: ListingColumns) -> Listing:
        """Return the documents with all that their table shows, sorts and filters by.

        The listing is cached in memory if it fits. A page of a million documents then takes about
        10 ms, compared with 1 s without. Hold it for as long as you query it.
        """
        if not self._max_listings:
            return Listing(f"({listing_query(self.snapshot, columns)})")
        return self._listings.get(columns, lambda: self._materialize(columns))

    def _materialize(self, columns: ListingColumns) -> Listing:
        name = f"listing_{next(self._numbers)}"
        if columns.own is not None:
            # A quarter of the time of a listing from the files.
            base = self.listing(replace(columns, own=None))
            self._catalog.keep(name, with_own(base.source, columns.own))
        else:
            query = listing_query(self.snapshot, columns)
            self._catalog.keep(name, f"SELECT * FROM ({query}) {listing_order(columns)}")
        listing = Listing(name)
        # Requests in flight may still hold it when the cache does not.
        weakref.finalize(listing, self._catalog.drop, name).atexit = False
        return listing


class SnapshotViews:
    """The views of a store: of the latest snapshot, and of some others."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.RLock()
        # Only `_open_latest` uses it, in one thread at a time, so that opening blocks no page.
        self._opener = Store.open(store.root)
        self._open = ResultCache(MAX_OPEN_VIEWS)
        self._latest: SnapshotView | None = None
        self._head, self._checked_at, self._open_seconds = 0, 0.0, 0.0
        self._tags: tuple[float, dict[str, int]] = (0.0, {})
        self._opening: threading.Thread | None = None
        self.cache = ResultCache()

    @property
    def head(self) -> int:
        """Return the latest version of the log, which may still be opening."""
        return self._head

    def latest(self) -> SnapshotView:
        """Return the latest snapshot, or the previous one while the latest is opening."""
        with self._lock:
            now = time.monotonic()
            if self._latest is None or now - self._checked_at > REFRESH_SECONDS:
                self._head, self._checked_at = self.store.log.newest(), now
            if self._latest is None or (
                self._head != self._latest.version and self._open_seconds < FAST_OPEN_SECONDS
            ):
                self._open_latest(self._head)
            elif self._head != self._latest.version and not self._is_opening():
                self._opening = threading.Thread(
                    target=self._open_latest, args=(self._head,), name="latest", daemon=True
                )
                self._opening.start()
            assert self._latest is not None
            return self._latest

    def refresh(self) -> None:
        """Check for a new version at the next request, after a commit of this server."""
        with self._lock:
            self._checked_at = 0.0

    def at(self, at: str | None) -> SnapshotView:
        """Return the view of a version or tag, the latest by default.

        Raises:
            SnapshotError: the version or tag does not exist.
        """
        if not at:
            return self.latest()
        version = self.version_of(at)
        latest = self._latest
        if latest is not None and version == latest.version:
            return latest
        # Without the lock of all pages, and with a log of its own: this may take seconds. Requests
        # in flight still hold a view that the cache does not; it is closed after the last of them.
        return self._open.get(version, lambda: _open_view(Store.open(self.store.root), version))

    def version_of(self, at: str) -> int:
        """Return the version of a number or tag of an address.

        Raises:
            SnapshotError: the version or tag does not exist.
        """
        tags = self.tags()
        if at in tags:
            return tags[at]
        # Python refuses to parse an integer of thousands of digits.
        is_long = at.isdecimal() and len(at) > _MAX_DIGITS
        version = None if is_long else self.store.version_of(at)
        if version is not None and version <= self._head:
            return version
        with self._lock:
            newest = self.store.log.newest()
        if version is None or version > newest:
            shown = at if len(at) <= 2 * _MAX_DIGITS else f"{at[:_MAX_DIGITS]}…"
            raise SnapshotError(f"version {shown} does not exist; the newest is {newest}")
        return version

    def tags(self) -> dict[str, int]:
        """Return the version of each tag."""
        with self._lock:
            checked_at, tags = self._tags
            if not checked_at or time.monotonic() - checked_at > REFRESH_SECONDS:
                tags = dict(sorted(self.store.tags().items()))
                self._tags = (time.monotonic(), tags)
            return tags

    def entries(self, first: int, last: int) -> list[Entry]:
        """Return entries of the log, both ends included."""
        with self._lock:
            return list(self.store.log.entries(first, last))

    def _is_opening(self) -> bool:
        return self._opening is not None and self._opening.is_alive()

    def _open_latest(self, version: int) -> None:
        start = time.monotonic()
        view = _open_view(self._opener, version)
        # Most pages need this listing, so the first page need not compute it.
        view.listing(view.columns(view.default_critic))
        with self._lock:
            self._latest, self._open_seconds = view, time.monotonic() - start


def _open_view(store: Store, version: int) -> SnapshotView:
    snapshot = store.snapshot(version)
    find = search_rows(store, snapshot)
    return SnapshotView(snapshot, SharedCatalog(store.storage, store.log, snapshot, find))
