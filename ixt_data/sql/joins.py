"""SQL for documents joined with their critiques, the scope of mix and selection predicates."""

from ixt_data.log import SelectionInfo, Snapshot
from ixt_data.records import OK
from ixt_data.sql.expressions import parenthesize


def join_clause(snapshot: Snapshot, critic: str | None) -> str:
    """Return a FROM clause: documents joined with their latest critiques by one critic."""
    if critic is None:
        return "FROM documents"
    critiques = critiques_query(snapshot, critic)
    return f"FROM documents LEFT JOIN ({critiques}) AS critiques USING (doc_id)"


def critic_order(critic: str) -> list[str]:
    """Return the critics of an order such as `human,quality`, the first one first."""
    return [name.strip() for name in critic.split(",")]


def critiques_query(snapshot: Snapshot, critic: str) -> str:
    """Return a SELECT of the latest critiques by one critic, without `shard` and `row`.

    Of an order of critics it has, per document, the critique of the first one that succeeded; where
    none did, that of the last one.
    """
    first, *others = critic_order(critic)
    if others:
        rest = critiques_query(snapshot, ",".join(others))
        own = f"SELECT * FROM ({critiques_query(snapshot, first)}) WHERE status = {sql_literal(OK)}"
        return (
            f"SELECT * FROM ({own}) UNION ALL BY NAME SELECT * FROM ({rest}) AS others "
            f"ANTI JOIN ({own}) AS own USING (doc_id)"
        )
    if critic in snapshot.critics:
        return (
            "SELECT * EXCLUDE (shard, row, generation) FROM critiques_all "
            f"WHERE critic_id = {sql_literal(critic)} QUALIFY row_number() OVER "
            "(PARTITION BY doc_id ORDER BY generation DESC) = 1"
        )
    return f"SELECT * EXCLUDE (shard, row) FROM critiques WHERE critic = {sql_literal(critic)}"


def selection_query(snapshot: Snapshot, selection: SelectionInfo) -> str:
    """Return a SELECT of the documents of a selection, joined with their latest critiques."""
    where = parenthesize(selection.where)
    return f"SELECT * {join_clause(snapshot, selection.critic)} WHERE {where}"


def sql_literal(value: str) -> str:
    """Return a string as a SQL literal."""
    return "'" + value.replace("'", "''") + "'"
