"""Saved queries: statements with a name, stored in the log like selections.

Saving a query is a commit, and a snapshot contains its last saved form.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ixt_data.errors import QueryError, StoreError
from ixt_data.log import QueryInfo, SavedQuery, Snapshot
from ixt_data.store.layout import check_name
from ixt_data.store.store import Store

OP = "query"


@dataclass(frozen=True, slots=True)
class QueryChange:
    """A commit that saved or dropped a query: version, time, and the saved query."""

    version: int
    created: str
    query: QueryInfo | None


def save_query(store: Store, name: str, sql: str, *, note: str = "") -> SavedQuery:
    """Save a statement under a name; it replaces an earlier query of this name.

    The statement is parsed and not run: its parameters have no values yet.

    Args:
        store: the store.
        name: letters, digits, `.`, `_` and `-`.
        sql: one read-only statement, with `$name` for its parameters.
        note: the question that it answers.

    Raises:
        QueryError: the statement is not valid SQL, or not a single read-only one.
        StoreError: the name is invalid.
    """
    check_name(name, "query")
    if not sql.strip():
        raise QueryError('the query is empty; write SQL such as "SELECT count(*) FROM documents"')
    with store.begin(OP) as txn:
        catalog = store.catalog(txn.base.version)
        try:
            names = catalog.check_query(sql)
        finally:
            catalog.close()
        if unnamed := [one for one in names if not one.isidentifier()]:
            raise QueryError(
                f"the query has parameters without a name ({', '.join(unnamed)}): write $name"
            )
        info = QueryInfo(name, sql.strip(), note)
        txn.save_query(info)
        version = txn.commit(query=name)
    return SavedQuery(**asdict(info), version=version, created=txn.created)


def drop_query(store: Store, name: str) -> int:
    """Drop a saved query; return the version. Earlier snapshots still contain it.

    Raises:
        StoreError: the query does not exist.
    """
    with store.begin(OP) as txn:
        saved_query(txn.base, name, store.root)
        txn.drop_query(name)
        return txn.commit(dropped=name)


def saved_query(snapshot: Snapshot, name: str, root: str) -> SavedQuery:
    """Return the query of this name in a snapshot.

    Raises:
        StoreError: the query does not exist; the message lists the existing ones.
    """
    if name not in snapshot.queries:
        known = ", ".join(snapshot.queries) or "none"
        raise StoreError(
            f"no query {name!r} in snapshot {snapshot.version} of {root}; queries: {known}"
        )
    return snapshot.queries[name]


def query_history(store: Store, name: str) -> Iterator[QueryChange]:
    """Yield every commit that saved or dropped a query, oldest first."""
    for entry in store.log.entries(1, store.log.newest()):
        if name in entry.queries_remove:
            yield QueryChange(entry.version, entry.created, None)
        for info in entry.queries:
            if info.name == name:
                yield QueryChange(entry.version, entry.created, info)
