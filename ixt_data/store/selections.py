"""Saved selections: predicates with a name, stored in the log.

Saving a selection is a commit. A snapshot contains its last saved form, queries read it as
`selected.NAME`, and a mix refers to it by `use: NAME`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ixt_data.errors import QueryError, StoreError
from ixt_data.log import SavedSelection, SelectionInfo, Snapshot
from ixt_data.sql import choose_critic, selection_query
from ixt_data.store.layout import check_name
from ixt_data.store.store import Store

OP = "select"


@dataclass(frozen=True, slots=True)
class SelectionChange:
    """A commit that saved or dropped a selection: version, time, and the saved selection."""

    version: int
    created: str
    selection: SelectionInfo | None


def save_selection(
    store: Store, name: str, where: str, *, critic: str | None = None, note: str = ""
) -> SavedSelection:
    """Save a predicate under a name; it replaces an earlier selection of this name.

    Args:
        store: the store; the predicate must be valid for its newest snapshot.
        name: letters, digits, `.`, `_` and `-`.
        where: SQL over the columns of documents and of the critic's critiques.
        critic: name or id of the critic; by default none if the predicate reads only documents,
            else the only critic.
        note: a human-readable reason.

    Raises:
        QueryError: the predicate is empty, or DuckDB refuses it.
        StoreError: the name is invalid, or several critics exist and none is named.
    """
    check_name(name, "selection")
    if not where.strip():
        raise QueryError('the predicate is empty; write SQL such as "score >= 0.8"')
    with store.begin(OP) as txn:
        if critic is None:
            matches = _count_without_critic(store, txn.base, name, where)
            critic = None if matches is not None else _only_critic(store, txn.base, where)
        else:
            matches = None
            choose_critic(txn.base, critic, store.root)
        info = SelectionInfo(name, where, critic, note)
        documents = count_matches(store, txn.base, info) if matches is None else matches
        info = SelectionInfo(name, where, critic, note, documents)
        txn.save_selection(info)
        version = txn.commit(selection=name, where=where, critic=critic, documents=documents)
    # Reading the snapshot could fail, although the selection is saved.
    return SavedSelection(**asdict(info), version=version, created=txn.created)


def drop_selection(store: Store, name: str) -> int:
    """Drop a saved selection; return the version. Earlier snapshots still contain it.

    Raises:
        StoreError: the selection does not exist.
    """
    with store.begin(OP) as txn:
        saved_selection(txn.base, name, store.root)
        txn.drop_selection(name)
        return txn.commit(dropped=name)


def saved_selection(snapshot: Snapshot, name: str, root: str) -> SavedSelection:
    """Return the selection of this name in a snapshot.

    Raises:
        StoreError: the selection does not exist; the message lists the existing ones.
    """
    if name not in snapshot.selections:
        known = ", ".join(snapshot.selections) or "none"
        raise StoreError(
            f"no selection {name!r} in snapshot {snapshot.version} of {root}; selections: {known}. "
            f"Save it: ixt select save {name} PREDICATE"
        )
    return snapshot.selections[name]


def count_matches(store: Store, snapshot: Snapshot, selection: SelectionInfo) -> int:
    """Count the matches of a selection in a snapshot; a document in two corpora counts twice.

    Raises:
        QueryError: DuckDB refuses the predicate.
    """
    sql = f"SELECT count(*) AS n FROM ({selection_query(snapshot, selection)})"
    catalog = store.catalog(snapshot.version)
    try:
        catalog.check_repeatable(sql)
        count = catalog.arrow(sql)["n"][0].as_py()
    except QueryError as error:
        raise QueryError(f"where {selection.where!r} is refused: {error.reason}") from None
    finally:
        catalog.close()
    return int(count)


def broken_selections(store: Store, version: int) -> Iterator[str]:
    """Yield a line for each saved selection of a snapshot that DuckDB refuses there."""
    snapshot = store.snapshot(version)
    for saved in snapshot.selections.values():
        try:
            count_matches(store, snapshot, saved)
        except QueryError as error:
            yield f"selection {saved.name} no longer works: {error}"


def selection_history(store: Store, name: str) -> Iterator[SelectionChange]:
    """Yield every commit that saved or dropped a selection, oldest first."""
    for entry in store.log.entries(1, store.log.newest()):
        if name in entry.selections_remove:
            yield SelectionChange(entry.version, entry.created, None)
        for info in entry.selections:
            if info.name == name:
                yield SelectionChange(entry.version, entry.created, info)


def _count_without_critic(store: Store, snapshot: Snapshot, name: str, where: str) -> int | None:
    """Count the matches of a predicate over documents alone; None if DuckDB refuses it."""
    try:
        return count_matches(store, snapshot, SelectionInfo(name, where))
    except QueryError:
        # The predicate may need a critic's columns. The caller tries that next.
        return None


def _only_critic(store: Store, snapshot: Snapshot, where: str) -> str | None:
    try:
        return choose_critic(snapshot, None, store.root)
    except StoreError as error:
        raise StoreError(f"where {where!r} needs critiques; {error}") from None
