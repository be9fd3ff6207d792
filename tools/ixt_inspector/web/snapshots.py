"""What was committed when, and what changed between two snapshots."""

from typing import Any

from starlette.responses import Response

from ixt_data.analysis import diff
from ixt_data.errors import QueryError
from ixt_data.store import Store
from ixt_inspector.web.request import PageRequest

ROWS = 30


def show(call: PageRequest) -> Response:
    """The commits, newest first, so many at a time."""
    head, views = call.view.version, call.inspector.views
    before = call.number("before")
    last = head if before is None else min(head, int(before) - 1)
    first = max(1, last - ROWS + 1)
    entries = views.entries(first, last) if last > 0 else []
    named: dict[int, list[str]] = {}
    for name, version in views.tags().items():
        named.setdefault(version, []).append(name)
    newer = last + ROWS + 1
    return call.page(
        "snapshots.html",
        "Snapshots",
        entries=entries[::-1],
        named=named,
        head=head,
        older=first if first > 1 else None,
        newer=(newer if newer <= head else "") if last < head else None,
    )


def show_diff(call: PageRequest) -> Response:
    """What the later snapshot has that the earlier one has not, and the other way round."""
    old = call.get("from") or str(max(0, call.view.version - 1))
    new = call.get("to") or str(call.view.version)
    views = call.inspector.views
    one, other = views.version_of(old), views.version_of(new)
    if one > other:
        raise QueryError(f"from {old} to {new}: the first must be the earlier one; turn them round")

    def compute() -> dict[str, Any]:
        # A log of its own: this takes seconds, and other requests go on.
        return diff(Store.open(views.store.root), one, other)

    changes = views.memo.get(("diff", one, other), compute)
    entries = views.entries(one + 1, min(other, one + ROWS))
    title = f"From snapshot {old} to {new}"
    return call.page(
        "diff.html",
        title,
        changes=changes,
        old=old,
        new=new,
        entries=entries,
        more=other - one - len(entries),
    )
