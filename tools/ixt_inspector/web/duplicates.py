"""The pages of near-duplicates: clusters, one cluster, and the difference of two documents."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from starlette.responses import Response

from ixt_data.errors import QueryError, UnknownDocument
from ixt_data.sql import DOCUMENTS, critiques_query, find_document, quote_name
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.snapshot_cache import SnapshotView
from ixt_inspector.web.text_difference import MAX_CHARS, compare_texts

ROWS = 30
MAX_CLUSTERS = 3_000
"""Clusters that the pages list, the largest ones."""
MAX_DOCUMENTS = 200
"""Documents of a cluster that its page lists."""
_PLACES = ("shard", "row", "doc_id")


def show(request: PageRequest) -> Response:
    """Return the page of clusters, or of one cluster."""
    view = request.view
    columns = cluster_columns(view)
    if not columns:
        return request.page("duplicates.html", "Near-duplicates", column=None)
    column = request.choice("column", columns, columns[0])
    if request.get("cluster"):
        return _show_cluster(request, column)
    clusters = view.cache.get(("clusters", column), lambda: _read_clusters(view, column))
    last = max(1, -(-len(clusters["largest"]) // ROWS))
    number = min(last, max(1, int(request.number("page") or 1)))
    shown = clusters["largest"][ROWS * (number - 1) : ROWS * number]
    return request.page(
        "duplicates.html",
        "Near-duplicates",
        column=column,
        columns=columns,
        **{name: clusters[name] for name in ("clusters", "documents", "characters")},
        listed=len(clusters["largest"]),
        rows=_with_titles(view, shown),
        first=ROWS * (number - 1),
        newer=number - 1,
        older=number + 1 if number < last else None,
    )


def show_difference(request: PageRequest) -> Response:
    """Return the page of two documents side by side; without both, the form that names them."""
    names = request.get("a"), request.get("b")
    if not all(names):
        return request.page("difference.html", "Compare documents", names=names, both=None)
    view = request.view
    try:
        ids = [find_document(view.query, name) for name in names]
    except UnknownDocument as error:
        raise UnknownDocument(f"{error} in snapshot {view.version}") from None
    rows = [_document(view, doc_id) for doc_id in ids]
    store = request.inspector.views.store
    texts = [
        str(store.sample(view.snapshot.shards_by_path[row["shard"]], row["row"])["text"])
        for row in rows
    ]
    return request.page(
        "difference.html",
        "Compare documents",
        names=names,
        both=rows,
        difference=compare_texts(*texts),
        compared_chars=MAX_CHARS,
        values=_different_values(view, rows),
    )


def cluster_columns(view: SnapshotView) -> list[str]:
    """Return the columns that `ixt dedupe` has written: a doc_id, and NAME_keep."""
    own = view.own_columns
    return [
        name
        for name, kind in own.items()
        if kind == "UUID" and own.get(f"{name}_keep") == "BOOLEAN"
    ]


def same_cluster(view: SnapshotView, location: Mapping[str, Any], rows: int) -> list[Any]:
    """Return other documents of the cluster of a document, for its page."""
    for column in cluster_columns(view):
        if location[column] is not None:
            return view.query(
                f"SELECT DISTINCT doc_id, source_id FROM documents WHERE {quote_name(column)} "
                f"= $cluster AND doc_id <> $id ORDER BY doc_id LIMIT {rows}",
                {"cluster": location[column], "id": location["doc_id"]},
            )
    return []


def _show_cluster(request: PageRequest, column: str) -> Response:
    view, name = request.view, quote_name(column)
    try:
        cluster = str(UUID(request.get("cluster")))
    except ValueError:
        raise QueryError(f"cluster: {request.get('cluster')!r} is not a doc_id") from None
    critic = view.default_critic
    scored = (
        f"LEFT JOIN ({critiques_query(view.snapshot, critic)}) AS critiques USING (doc_id)"
        if critic
        else ""
    )
    rows = view.query(
        "SELECT documents.doc_id, any_value(source_id) AS source_id, any_value(source) AS source, "
        "string_agg(DISTINCT corpus, ', ' ORDER BY corpus) AS corpus, any_value(n_chars) AS "
        f"n_chars, any_value({'critiques.score' if critic else 'NULL::DOUBLE'}) AS score, "
        f"doc_id = $cluster::UUID AS is_kept, count(*) OVER () AS n FROM documents {scored} "
        f"WHERE {name} = $cluster::UUID GROUP BY doc_id "
        f"ORDER BY is_kept DESC, n_chars DESC, doc_id LIMIT {MAX_DOCUMENTS}",
        {"cluster": cluster},
    )
    if not rows:
        raise UnknownDocument(f"no cluster {cluster!r} in column {column!r}")
    return request.page(
        "cluster.html", "Near-duplicates", column=column, cluster=cluster, rows=rows, critic=critic
    )


def _read_clusters(view: SnapshotView, column: str) -> dict[str, Any]:
    """Return the largest clusters, and the totals over all."""
    name = quote_name(column)
    # A document of two corpora is in its cluster once.
    found = (
        f"SELECT {name} AS cluster, count(*) AS n, sum(n_chars) AS characters FROM (SELECT "
        f"doc_id, any_value({name}) AS {name}, any_value(n_chars) AS n_chars FROM documents "
        f"WHERE {name} IS NOT NULL GROUP BY doc_id) GROUP BY cluster HAVING n > 1"
    )
    rows = view.query(
        f"WITH found AS MATERIALIZED ({found}) SELECT *, (SELECT count(*) FROM found) AS clusters, "
        "(SELECT sum(n) - count(*) FROM found) AS documents FROM found "
        f"ORDER BY n DESC, cluster LIMIT {MAX_CLUSTERS}"
    )
    return {
        "largest": rows,
        "clusters": rows[0]["clusters"] if rows else 0,
        "documents": int(rows[0]["documents"]) if rows else 0,
        "characters": sum(row["characters"] for row in rows),
    }


def _with_titles(view: SnapshotView, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return clusters with the name and the source of the document that represents each."""
    named = view.query(
        "SELECT DISTINCT ON (doc_id) doc_id, source_id, source FROM documents "
        "WHERE doc_id IN (SELECT unnest($ids::UUID[]))",
        {"ids": [str(row["cluster"]) for row in rows]},
    )
    by_id = {row["doc_id"]: row for row in named}
    return [
        {"source_id": None, "source": None, **by_id.get(row["cluster"], {}), **row} for row in rows
    ]


def _document(view: SnapshotView, doc_id: str) -> dict[str, Any]:
    rows = view.query(
        "SELECT * FROM documents WHERE doc_id = $id::UUID ORDER BY corpus LIMIT 1", {"id": doc_id}
    )
    return rows[0]


def _different_values(view: SnapshotView, rows: list[dict[str, Any]]) -> list[tuple[str, Any, Any]]:
    """Return the columns and scores in which two documents differ."""
    first, second = (str(row["doc_id"]) for row in rows)
    critiques = view.query(
        "SELECT doc_id, critic, score FROM critiques WHERE doc_id IN (SELECT unnest($ids::UUID[]))",
        {"ids": [first, second]},
    )
    scores = {(str(one["doc_id"]), one["critic"]): one["score"] for one in critiques}
    columns = [name for name in rows[0] if name not in _PLACES]
    columns.sort(key=lambda name: name not in DOCUMENTS)
    pairs = [(name, rows[0][name], rows[1][name]) for name in columns]
    pairs += [
        (f"score by {name}", scores.get((first, name)), scores.get((second, name)))
        for name in view.critics
    ]
    return [(name, one, other) for name, one, other in pairs if one != other]
