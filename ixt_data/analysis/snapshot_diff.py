"""Differences between two snapshots: documents, critiques, scores, columns, shards, selections."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from ixt_data.sql import Catalog, quote_name
from ixt_data.store import Store

_DOCUMENTS = """
SELECT corpus, count(*) FILTER (added) AS added, count(*) FILTER (NOT added) AS removed FROM (
  SELECT corpus, true AS added FROM documents ANTI JOIN before.documents USING (corpus, doc_id)
  UNION ALL
  SELECT corpus, false FROM before.documents ANTI JOIN documents USING (corpus, doc_id)
) GROUP BY corpus ORDER BY corpus
"""
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


def diff(store: Store, before: int | str, after: int | str | None = None) -> dict[str, Any]:
    """Return the differences between two snapshots.

    Args:
        store: the store.
        before: version or tag.
        after: version or tag; the latest version by default.

    Returns:
        `from` and `to`; `documents`: per corpus added and removed; `critiques`: per critic added,
        removed, rescored, how many higher and lower, the mean change of those, and the mean score
        before and after; `columns`: those that a view gained or lost, or whose type changed, with
        the number of documents that have a value; `shards`: per family added and removed;
        `selections`, `queries`: saved, changed or dropped ones.

    Raises:
        SnapshotError: a version or tag does not exist.
    """
    old, new = store.snapshot(before), store.snapshot(after)
    catalog = store.catalog(after, before)
    try:
        documents = catalog.arrow(_DOCUMENTS).to_pylist()
        critiques = catalog.arrow(_CRITIQUES).to_pylist()
        columns = list(_columns(catalog, store.catalog(before)))
    finally:
        catalog.close()
    shards: dict[str, dict[str, int]] = {}
    for name, one, other in (("added", new, old), ("removed", old, new)):
        for path, shard in one.shards_by_path.items():
            if path not in other.shards_by_path:
                counts = shards.setdefault(shard.family, {"added": 0, "removed": 0})
                counts[name] += 1
    return {
        "from": old.version,
        "to": new.version,
        "documents": documents,
        "critiques": critiques,
        "columns": columns,
        "shards": [{"family": family, **counts} for family, counts in sorted(shards.items())],
        "selections": list(_named(old.selections, new.selections, "where")),
        "queries": list(_named(old.queries, new.queries, "sql")),
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
