"""SQL for documents joined with their critiques, the scope of mix and selection predicates."""

from ixt_data.errors import StoreError
from ixt_data.log import SelectionInfo, Snapshot


def join_clause(snapshot: Snapshot, critic: str | None) -> str:
    """Return a FROM clause: documents joined with their latest critiques by one critic."""
    if critic is None:
        return "FROM documents"
    critiques = critiques_query(snapshot, critic)
    return f"FROM documents LEFT JOIN ({critiques}) AS critiques USING (doc_id)"


def critiques_query(snapshot: Snapshot, critic: str) -> str:
    """Return a SELECT of the latest critiques by one critic, without `shard` and `row`."""
    if critic in snapshot.critics:
        return (
            "SELECT * EXCLUDE (shard, row, generation) FROM critiques_all "
            f"WHERE critic_id = {sql_literal(critic)} QUALIFY row_number() OVER "
            "(PARTITION BY doc_id ORDER BY generation DESC) = 1"
        )
    return f"SELECT * EXCLUDE (shard, row) FROM critiques WHERE critic = {sql_literal(critic)}"


def selection_query(snapshot: Snapshot, selection: SelectionInfo) -> str:
    """Return a SELECT of the documents of a selection, joined with their latest critiques."""
    return f"SELECT * {join_clause(snapshot, selection.critic)} WHERE (\n{selection.where}\n)"


def choose_critic(snapshot: Snapshot, critic: str | None, root: str) -> str | None:
    """Return the named critic, else the only critic; None if the snapshot has no critiques.

    Args:
        snapshot: the snapshot with the critiques.
        critic: name or id of a critic, or None.
        root: root of the store, for errors.

    Raises:
        StoreError: the critic has no critiques, or several critics exist and none is named.
    """
    names = sorted({info.name for info in snapshot.critics.values()})
    if critic is None:
        if len(names) > 1:
            raise StoreError(f"critiques by {', '.join(names)}: choose one of them with --critic")
        return names[0] if names else None
    if critic not in names and critic not in snapshot.critics:
        known = ", ".join(names) or "none"
        raise StoreError(f"no critiques by {critic!r} in {root}; critics: {known}")
    return critic


def sql_literal(value: str) -> str:
    """Return a string as a SQL literal."""
    return "'" + value.replace("'", "''") + "'"
