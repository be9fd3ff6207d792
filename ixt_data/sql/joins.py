"""SQL for documents beside their critiques: what the predicates of mixes and selections see."""

from ixt_data.errors import StoreError
from ixt_data.log import SelectionInfo, Snapshot


def join_clause(snapshot: Snapshot, critic: str | None) -> str:
    """FROM clause: documents, each with its latest critique by one critic, by name or id."""
    if critic is None:
        return "FROM documents"
    critiques = critiques_query(snapshot, critic)
    return f"FROM documents LEFT JOIN ({critiques}) AS critiques USING (doc_id)"


def critiques_query(snapshot: Snapshot, critic: str) -> str:
    """SELECT: the latest critiques by one critic, by name or id, without their places."""
    if critic in snapshot.critics:
        return (
            "SELECT * EXCLUDE (shard, row, generation) FROM critiques_all "
            f"WHERE critic_id = {sql_literal(critic)} QUALIFY row_number() OVER "
            "(PARTITION BY doc_id ORDER BY generation DESC) = 1"
        )
    return f"SELECT * EXCLUDE (shard, row) FROM critiques WHERE critic = {sql_literal(critic)}"


def selection_query(snapshot: Snapshot, selection: SelectionInfo) -> str:
    """SELECT: the documents of a selection, each with its latest critique by the critic."""
    return f"SELECT * {join_clause(snapshot, selection.critic)} WHERE (\n{selection.where}\n)"


def choose_critic(snapshot: Snapshot, critic: str | None, root: str) -> str | None:
    """The critic that is meant: the one that is named, or else the only one; None without any.

    Raises:
        StoreError: there is no such critic, or one of several must be named.
    """
    names = sorted({info.name for info in snapshot.critics.values()})
    if critic is None:
        if len(names) > 1:
            raise StoreError(f"critiques by {', '.join(names)}: name one of them (--critic)")
        return names[0] if names else None
    if critic not in names and critic not in snapshot.critics:
        known = ", ".join(names) or "none"
        raise StoreError(f"no critiques by {critic!r} in {root}; critics: {known}")
    return critic


def sql_literal(value: str) -> str:
    """A string as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"
