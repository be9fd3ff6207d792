"""The pages of commits, and of the changes between two snapshots."""

from typing import Any

from starlette.responses import Response

from ixt_data.analysis import diff
from ixt_data.errors import QueryError
from ixt_data.store import Store
from ixt_inspector.web.request import PageRequest

ROWS = 30
SHOWN_DOCUMENTS, MAX_DOCUMENTS = 20, 500
"""Documents that a difference lists for each kind of change, by default and at most."""


def show(request: PageRequest) -> Response:
    """Return a page of commits, the latest first."""
    head, views = request.view.version, request.inspector.views
    before = request.number("before")
    last = head if before is None else min(head, int(before) - 1)
    first = max(1, last - ROWS + 1)
    entries = views.entries(first, last) if last > 0 else []
    tags_by_version: dict[int, list[str]] = {}
    for name, version in views.tags().items():
        tags_by_version.setdefault(version, []).append(name)
    newer = last + ROWS + 1
    return request.page(
        "snapshots.html",
        "Snapshots",
        entries=entries[::-1],
        tags_by_version=tags_by_version,
        head=head,
        older=first if first > 1 else None,
        newer=(newer if newer <= head else "") if last < head else None,
    )


def show_diff(request: PageRequest) -> Response:
    """Return the page of additions and removals between two snapshots."""
    old = request.get("from") or str(max(0, request.view.version - 1))
    new = request.get("to") or str(request.view.version)
    views = request.inspector.views
    first, last = views.version_of(old), views.version_of(new)
    if first > last:
        raise QueryError(
            f"from {old} to {new}: the first version must be the earlier one; swap them"
        )

    def compute() -> dict[str, Any]:
        # A separate store object: this takes seconds, while other requests use the shared one.
        return diff(Store.open(views.store.root), first, last, documents=shown)

    shown = MAX_DOCUMENTS if request.get("all") else SHOWN_DOCUMENTS
    changes = views.cache.get(("diff", first, last, shown), compute)
    entries = views.entries(first + 1, min(last, first + ROWS))
    title = f"From snapshot {old} to {new}"
    return request.page(
        "diff.html",
        title,
        changes=changes,
        old=old,
        new=new,
        entries=entries,
        more=last - first - len(entries),
        changed=_changed(changes["changed"]),
        can_show_more=shown < MAX_DOCUMENTS,
        first=first,
        last=last,
    )


def _changed(changed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the kinds of changes of documents, each with a title, a total and documents."""
    sides = ("added", "removed")
    named = [{"title": f"Documents {one}", "kind": one, **changed[one]} for one in sides]
    named.append({"title": "Scores changed", "kind": "rescored", **changed["rescored"]})
    named += [
        {"title": f"Values of {one['column']} changed", "kind": "values", **one}
        for one in changed["values"]
    ]
    return [one for one in named if one["total"]]
