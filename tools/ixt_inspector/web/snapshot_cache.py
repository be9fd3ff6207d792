"""The snapshots that are open: one catalog each, shared by all requests, with what they asked.

A snapshot never changes, so that what was computed of it is kept. Which one is the newest is looked
up again and again.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from ixt_data.log import Entry, Snapshot
from ixt_data.sql import SharedCatalog
from ixt_data.store import Store
from ixt_inspector.web.listing import ComparedCritics, first_order, kept

T = TypeVar("T")
LOOK_SECONDS = 0.5
"""How long the newest version is believed to be that."""
AT_ONCE_SECONDS = 0.5
"""A snapshot that takes longer to open is opened while the one before is still shown."""
MOST_VIEWS = 4
MOST_KEPT_ROWS = 8_000_000
"""Documents over all listings of a snapshot that are kept in memory, at about 300 bytes each."""
MOST_ANSWERS = 500


class ResultCache:
    """Results by key: each is computed once, also where several requests want it at once."""

    def __init__(self, most: int = MOST_ANSWERS) -> None:
        self._most, self._lock = most, threading.Lock()
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result of `make`, from before if it is there."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                found: T = self._found[key]
                return found
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._found:
                    found = self._found[key]
                    return found
            made = make()
            with self._lock:
                self._found[key] = made
                self._making.pop(key, None)
                while len(self._found) > self._most:
                    self._found.popitem(last=False)
            return made


class SnapshotView:
    """One snapshot: its catalog, and what was computed of it."""

    def __init__(self, snapshot: Snapshot, catalog: SharedCatalog) -> None:
        self.snapshot, self._catalog = snapshot, catalog
        self.memo = ResultCache()
        self._listings: OrderedDict[ComparedCritics, str] = OrderedDict()
        self._lock = threading.Lock()
        self._numbers = 0

    @property
    def version(self) -> int:
        """Its number."""
        return self.snapshot.version

    @property
    def critics(self) -> list[str]:
        """Names of critics, in the order of their first critiques."""
        return list(dict.fromkeys(critic.name for critic in self.snapshot.critics.values()))

    @property
    def documents(self) -> int:
        """How many there are, over all corpora."""
        return sum(corpus.documents for corpus in self.snapshot.corpora.values())

    def ask(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The result of a statement of ours; what a user has typed goes to `Workers`."""
        return self._catalog.records(sql, parameters)

    def once(self, sql: str) -> list[dict[str, Any]]:
        """The same, from before if it was asked before."""
        return self.memo.get(sql, lambda: self.ask(sql))

    def listing(self, columns: ComparedCritics) -> str:
        """FROM clause: the documents with what the table of documents shows, sorts and filters by.

        It is kept in memory unless that would be too much: a page of a million documents then
        takes some ten milliseconds, and a second without.
        """
        with self._lock:
            if columns in self._listings:
                self._listings.move_to_end(columns)
                return self._listings[columns]
            sql, most = kept(self.snapshot, columns), MOST_KEPT_ROWS // max(1, self.documents)
            if not most:
                return f"({sql})"
            while len(self._listings) >= most:
                self._catalog.drop(self._listings.popitem(last=False)[1])
            self._numbers += 1
            name = f"listing_{self._numbers}"
            self._catalog.keep(name, f"SELECT * FROM ({sql}) {first_order(columns)}")
            self._listings[columns] = name
            return name


class SnapshotViews:
    """The views of a store: the newest snapshot, and some others that were asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.RLock()
        self._open: OrderedDict[int, SnapshotView] = OrderedDict()
        self._newest: SnapshotView | None = None
        self._head, self._looked, self._took = 0, 0.0, 0.0
        self._tags: tuple[float, dict[str, int]] = (0.0, {})
        self._opening: threading.Thread | None = None
        self.memo = ResultCache()

    @property
    def head(self) -> int:
        """The newest version of the store, which may be newer than what `newest` shows."""
        return self._head

    def newest(self) -> SnapshotView:
        """The newest snapshot, or the one before while that is being opened."""
        with self._lock:
            now = time.monotonic()
            if self._newest is None or now - self._looked > LOOK_SECONDS:
                self._head, self._looked = self.store.log.newest(), now
            if self._newest is None or (
                self._head != self._newest.version and self._took < AT_ONCE_SECONDS
            ):
                self._move_on(self._head)
            elif self._head != self._newest.version and not self._is_opening():
                self._opening = threading.Thread(
                    target=self._move_on, args=(self._head,), name="newest", daemon=True
                )
                self._opening.start()
            assert self._newest is not None
            return self._newest

    def at(self, at: str | None) -> SnapshotView:
        """The view of a version or tag, the newest by default.

        Raises:
            SnapshotError: there is no such version or tag.
        """
        if not at:
            return self.newest()
        with self._lock:
            version = self.version_of(at)
            if self._newest is not None and version == self._newest.version:
                return self._newest
            if version not in self._open:
                self._open[version] = self._view(version)
                while len(self._open) > MOST_VIEWS:
                    # Requests that are under way still have it; it goes with the last of them.
                    self._open.popitem(last=False)
            self._open.move_to_end(version)
            return self._open[version]

    def version_of(self, at: str) -> int:
        """The version that a number or tag of an address means.

        Raises:
            SnapshotError: there is no such tag.
        """
        tags = self.tags()
        return tags[at] if at in tags else self.store.version_of(at)

    def tags(self) -> dict[str, int]:
        """The version of every tag."""
        with self._lock:
            looked, tags = self._tags
            if not looked or time.monotonic() - looked > LOOK_SECONDS:
                tags = dict(sorted(self.store.tags().items()))
                self._tags = (time.monotonic(), tags)
            return tags

    def entries(self, first: int, last: int) -> list[Entry]:
        """Entries of the log, both ends included."""
        with self._lock:
            return list(self.store.log.entries(first, last))

    def _view(self, version: int) -> SnapshotView:
        with self._lock:
            snapshot = self.store.snapshot(version)
            return SnapshotView(
                snapshot, SharedCatalog(self.store.storage, self.store.log, snapshot)
            )

    def _is_opening(self) -> bool:
        return self._opening is not None and self._opening.is_alive()

    def _move_on(self, version: int) -> None:
        began = time.monotonic()
        view = self._view(version)
        # What most pages need, so that the first of them need not wait for it.
        view.listing(ComparedCritics(view.critics[0] if view.critics else None))
        with self._lock:
            self._newest, self._took = view, time.monotonic() - began
