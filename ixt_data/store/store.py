"""A store: opening it, its tags, and writing to it in transactions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from ixt_data.console import html_table, html_title
from ixt_data.errors import CorruptError, SnapshotError, StoreError
from ixt_data.log import FORMAT, Pin
from ixt_data.records import Span
from ixt_data.storage import open_storage, probe, write_reserve
from ixt_data.store.layout import MARKER, check_name
from ixt_data.store.store_reader import StoreReader
from ixt_data.store.transaction import Transaction

if TYPE_CHECKING:
    from ixt_data.store.labels import LabelReport


class Store(StoreReader):
    """Documents, critiques and their versions under one root.

    Open one with `ixt_data.open_store`.

    Attributes:
        root: the folder, or the address of the bucket and prefix.
        storage: the storage below the root.
        log: the commit log.
        pins: the pins and tags.
    """

    def __repr__(self) -> str:
        """Return where the store is, its latest snapshot, corpora and critics."""
        snapshot = self.snapshot()
        corpora = ", ".join(f"{n} ({c.documents:,})" for n, c in snapshot.corpora.items()) or "none"
        critics = ", ".join(sorted({c.name for c in snapshot.critics.values()})) or "none"
        return (
            f"Store({self.root!r}, snapshot {snapshot.version}; corpora: {corpora}; "
            f"critics: {critics})"
        )

    def _repr_html_(self) -> str:
        """Return corpora and critics of the latest snapshot, for notebooks."""
        snapshot = self.snapshot()
        corpora = [(name, corpus.documents) for name, corpus in snapshot.corpora.items()]
        critics = [(info.name, info.id) for info in snapshot.critics.values()]
        return (
            html_title(f"{self.root}, snapshot {snapshot.version}")
            + html_table(["corpus", "documents"], corpora)
            + html_table(["critic", "critic_id"], critics)
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

    def label(
        self,
        name: str,
        *,
        by: str,
        score: float | None = None,
        critique: str = "",
        spans: Sequence[Span] = (),
        flags: Sequence[str] = (),
    ) -> "LabelReport":
        """Label a document as a person; a later label of it replaces this one.

        Args:
            name: its doc_id, the start of it, or its source_id.
            by: name of the person.
            score: 0 to 1.
            critique: free text.
            spans: judged stretches of the text.
            flags: short labels.

        Raises:
            UnknownDocument: no document has this name.
            StoreError: a value is not valid, or several documents have this name.
        """
        from ixt_data.store.label_values import Label
        from ixt_data.store.labels import find_labeled, label_documents

        doc_id = find_labeled(self, name)
        return label_documents(self, [Label(doc_id, by, score, critique, spans, flags)])

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
