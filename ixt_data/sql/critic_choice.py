"""The critic that a query means if it names none."""

from ixt_data.errors import QueryError, StoreError
from ixt_data.log import HUMAN, Snapshot
from ixt_data.sql.catalog import Catalog
from ixt_data.sql.expressions import check_order, parenthesize
from ixt_data.sql.joins import critic_order


def choose_critic(snapshot: Snapshot, critic: str | None, root: str) -> str | None:
    """Return the named critic, else the only critic; None if the snapshot has no critiques.

    The labels of people are meant by default only if no other critic exists.

    Args:
        snapshot: the snapshot with the critiques.
        critic: name or id of a critic, an order such as `human,quality`, or None.
        root: root of the store, for errors.

    Raises:
        StoreError: the critic has no critiques, or several critics exist and none is named.
    """
    names = sorted({info.name for info in snapshot.critics.values()})
    if critic is None:
        judges = [name for name in names if name != HUMAN] or names
        if len(judges) > 1:
            raise StoreError(
                f"critiques by {', '.join(names)}: choose one of them, such as "
                f"critic={judges[0]!r} (command line: --critic {judges[0]})"
            )
        return judges[0] if judges else None
    for name in critic_order(critic):
        if name not in names and name not in snapshot.critics:
            known = ", ".join(names) or "none"
            raise StoreError(f"no critiques by {name!r} in {root}; critics: {known}")
    return critic


def choose_critic_for(
    catalog: Catalog, critic: str | None, root: str, where: str, order_by: str | None = None
) -> str | None:
    """Return the critic for a predicate and an order; see `choose_critic`.

    Of several critics none need be named if the SQL reads only documents: then it is None.

    Args:
        catalog: the views of the snapshot.
        critic: name or id of a critic, an order such as `human,quality`, or None.
        root: root of the store, for errors.
        where: predicate over the columns of documents and of the critic's critiques.
        order_by: terms of an order, over the same columns.

    Raises:
        StoreError: see `choose_critic`.
        QueryError: the predicate or the order is not an expression.
    """
    try:
        return choose_critic(catalog.snapshot, critic, root)
    except StoreError:
        if critic is None and _reads_documents(catalog, where, order_by):
            return None
        raise


def _reads_documents(catalog: Catalog, where: str, order_by: str | None = None) -> bool:
    """Return whether a predicate and an order are valid over documents without critiques."""
    condition = parenthesize(where)
    order = "" if order_by is None else f"ORDER BY {check_order(order_by)}\n"
    try:
        catalog.arrow(f"SELECT 1 FROM documents WHERE {condition} {order}LIMIT 0")
    except QueryError:
        return False
    return True
