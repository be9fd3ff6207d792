"""Saved selections: predicates with a name, kept in the log, so that a snapshot knows its own.

Saving one is a commit. A snapshot has each as it was last saved before it, queries see it as
`selected.NAME`, and a mix takes it by `use: NAME`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ixt_data.errors import QueryError, StoreError
from ixt_data.log import SavedSelection, SelectionInfo, Snapshot
from ixt_data.sql import choose_critic, selected_rows
from ixt_data.store.store import Store, check_name

OP = "select"


@dataclass(frozen=True, slots=True)
class SelectionChange:
    """One commit that saved or dropped a selection: the version, when, and what it is since."""

    version: int
    created: str
    selection: SelectionInfo | None


def save_selection(
    store: Store, name: str, where: str, *, critic: str | None = None, note: str = ""
) -> SavedSelection:
    """Saves a predicate under a name, in place of the one that had it.

    Args:
        store: the newest snapshot must understand the predicate.
        name: letters, digits, `.`, `_` and `-`.
        where: SQL over the columns of documents and of the critic's critiques.
        critic: whose critiques; by default nobody's if the predicate needs none, else those of the
            only critic.
        note: why it is so.

    Raises:
        QueryError: the predicate is refused.
        StoreError: the name is not one, or the critic must be named.
    """
    check_name(name, "selection")
    with store.begin(OP) as txn:
        if critic is None:
            found = _without_critic(store, txn.base, name, where)
            critic = None if found is not None else _only_critic(store, txn.base, where)
        else:
            found = None
            choose_critic(txn.base, critic, store.root)
        info = SelectionInfo(name, where, critic, note)
        documents = matching(store, txn.base, info) if found is None else found
        info = SelectionInfo(name, where, critic, note, documents)
        txn.entry.selections.append(info)
        version = txn.commit(selection=name, where=where, critic=critic, documents=documents)
    return store.snapshot(version).selections[name]


def drop_selection(store: Store, name: str) -> int:
    """Drops a saved selection; returns the version. Earlier snapshots keep it.

    Raises:
        StoreError: there is none of this name.
    """
    with store.begin(OP) as txn:
        saved_selection(txn.base, name, store.root)
        txn.entry.selections_remove.append(name)
        return txn.commit(dropped=name)


def saved_selection(snapshot: Snapshot, name: str, root: str) -> SavedSelection:
    """The selection of this name at a snapshot.

    Raises:
        StoreError: there is none; those that there are are named.
    """
    if name not in snapshot.selections:
        known = ", ".join(snapshot.selections) or "none"
        raise StoreError(
            f"no selection {name!r} in snapshot {snapshot.version} of {root}; selections: {known}. "
            f"Save it: ixt select save {name} PREDICATE"
        )
    return snapshot.selections[name]


def matching(store: Store, snapshot: Snapshot, selection: SelectionInfo) -> int:
    """How many documents a selection finds at a snapshot; one in two corpora counts twice.

    Raises:
        QueryError: the predicate is refused.
    """
    rows = selected_rows(snapshot, selection)
    catalog = store.catalog(snapshot.version)
    try:
        count = catalog.arrow(f"SELECT count(*) AS n FROM ({rows})")["n"][0].as_py()
    except QueryError as error:
        raise QueryError(f"where {selection.where!r} is refused: {error.reason}") from None
    finally:
        catalog.close()
    return int(count)


def history(store: Store, name: str) -> Iterator[SelectionChange]:
    """Every commit that saved or dropped a selection, oldest first."""
    for entry in store.log.entries(1, store.log.newest()):
        if name in entry.selections_remove:
            yield SelectionChange(entry.version, entry.created, None)
        for info in entry.selections:
            if info.name == name:
                yield SelectionChange(entry.version, entry.created, info)


def _without_critic(store: Store, snapshot: Snapshot, name: str, where: str) -> int | None:
    """How many documents it finds if it needs no critique, None if it does."""
    try:
        return matching(store, snapshot, SelectionInfo(name, where))
    except QueryError:
        # Perhaps it needs a critic's columns: that is tried next, and told if it fails.
        return None


def _only_critic(store: Store, snapshot: Snapshot, where: str) -> str | None:
    try:
        return choose_critic(snapshot, None, store.root)
    except StoreError as error:
        raise StoreError(f"where {where!r} needs critiques; {error}") from None
