"""Differences between two snapshots: documents, critiques, scores, columns, shards, selections."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from ixt_data.analysis.document_changes import Change, DocumentChanges, rescored_documents
from ixt_data.log import Snapshot
from ixt_data.sql import Catalog, quote_name
from ixt_data.store import Store

_CRITIQUES = """
SELECT coalesce(a.critic, b.critic) AS critic,
  count(*) FILTER (b.doc_id IS NULL) AS added,
  count(*) FILTER (a.doc_id IS NULL) AS removed,
  count(*) FILTER (b.doc_id IS NOT NULL AND a.doc_id IS NOT NULL
    AND a.score IS DISTINCT FROM b.score) AS rescored,
  count(*) FILTER (a.score > b.score) AS higher,
  count(*) FILTER (a.score < b.score) AS lower,
  avg(a.score - b.score) FILTER (a.score IS DISTINCT FROM b.score) AS mean_change,
  avg(b.score) AS mean_before,
  avg(a.score) AS mean_after
FROM critiques a FULL JOIN before.critiques b USING (doc_id, critic)
GROUP BY 1
HAVING added + removed + rescored > 0
ORDER BY 1
"""


Types = Mapping[str, str]
"""DuckDB type by column."""
SHOWN_DOCUMENTS = 10
"""Documents that a difference lists for each kind of change."""


def diff(
    store: Store,
    before: int | str,
    after: int | str | None = None,
    *,
    documents: int = SHOWN_DOCUMENTS,
) -> dict[str, Any]:
    """Return the differences between two snapshots.

    Args:
        store: the store.
        before: version or tag.
        after: version or tag; the latest version by default.
        documents: maximum number of documents that are listed for each kind of change.

    Returns:
        `from` and `to`; `documents`: per corpus added and removed; `critiques`: per critic added,
        removed, rescored, how many higher and lower, the mean change of those, and the mean score
        before and after; `columns`: those that a view gained or lost, or whose type changed, with
        the number of documents that have a value, and those of which documents in both snapshots
        have other values, with their number; `shards`: per family added and removed;
        `selections`, `queries`: saved, changed or dropped ones; `changed`: `total` and `documents`
        of those that were `added`, `removed`, `rescored`, and a list of those by column in
        `values`.

    Raises:
        SnapshotError: a version or tag does not exist.
    """
    old, new = store.snapshot(before), store.snapshot(after)
    catalog, changes = store.catalog(after, before), DocumentChanges(store, old, new)
    try:
        by_corpus = changes.counts()
        critiques = catalog.arrow(_CRITIQUES).to_pylist() if _differ(old, new, "critiques") else []
        earlier = store.catalog(before)
        columns = list(_columns(catalog, earlier))
        types = earlier.columns["documents"], catalog.columns["documents"]
        values = list(changes.values([name for name in types[0] if name in types[1]], documents))
        columns += [_value_change(one["column"], types, one["total"]) for one in values]
        totals = {name: sum(row[name] for row in by_corpus) for name in ("added", "removed")}
        rescored = sum(row["rescored"] for row in critiques)
        changed = {
            "added": _listed(totals["added"], changes.added, documents),
            "removed": _listed(totals["removed"], changes.removed, documents),
            "rescored": _listed(rescored, partial(rescored_documents, catalog), documents),
            "values": values,
        }
    finally:
        catalog.close()
        changes.close()
    shards: dict[str, dict[str, int]] = {}
    for name, one, other in (("added", new, old), ("removed", old, new)):
        for path, shard in one.shards_by_path.items():
            if path not in other.shards_by_path:
                counts = shards.setdefault(shard.family, {"added": 0, "removed": 0})
                counts[name] += 1
    return {
        "from": old.version,
        "to": new.version,
        "documents": by_corpus,
        "critiques": critiques,
        "columns": columns,
        "shards": [{"family": family, **counts} for family, counts in sorted(shards.items())],
        "selections": list(_named(old.selections, new.selections, "where")),
        "queries": list(_named(old.queries, new.queries, "sql")),
        "changed": changed,
    }


def _differ(old: Snapshot, new: Snapshot, table: str) -> bool:
    """Return whether a table of two snapshots has other files."""
    files = [{path for path, file in one.rows.items() if file.table == table} for one in (old, new)]
    return files[0] != files[1]


def _listed(total: int, read: Callable[[int], list[Change]], documents: int) -> dict[str, Any]:
    return {"total": total, "documents": read(documents) if total and documents else []}


def _value_change(name: str, types: tuple[Types, Types], total: int) -> dict[str, Any]:
    return {
        "view": "documents",
        "column": name,
        "change": "values",
        "before": types[0][name],
        "after": types[1][name],
        "values": total,
    }


def _columns(catalog: Catalog, old: Catalog) -> Iterator[dict[str, Any]]:
    with closing(old):
        for view in ("documents", "critiques"):
            one, other = old.columns[view], catalog.columns[view]
            for name in dict.fromkeys((*one, *other)):
                if one.get(name) == other.get(name):
                    continue
                change = "added" if name not in one else "removed" if name not in other else "type"
                count = f"SELECT count({quote_name(name)}) FROM {view}"
                values = (catalog if name in other else old).arrow(count).column(0)[0].as_py()
                yield {
                    "view": view,
                    "column": name,
                    "change": change,
                    "before": one.get(name),
                    "after": other.get(name),
                    "values": values,
                }


def _named(
    old: Mapping[str, Any], new: Mapping[str, Any], content: str
) -> Iterator[dict[str, Any]]:
    """Yield the saved selections or queries that differ, with one of their fields."""
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one != other:
            change = "saved" if one is None else "dropped" if other is None else "changed"
            before, after = one and getattr(one, content), other and getattr(other, content)
            yield {"name": name, "change": change, "before": before, "after": after}
