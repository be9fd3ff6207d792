"""One document of a snapshot with its critiques: text, thinking, scores and spans."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from ixt_data.console import html_columns, html_details, html_table, html_text, html_title
from ixt_data.errors import QueryError, StoreError, UnknownDocument
from ixt_data.log import ShardInfo, Snapshot
from ixt_data.records import Span
from ixt_data.sql import check_order, find_document, join_clause, parenthesize, sql_literal

if TYPE_CHECKING:
    import pyarrow as pa

    from ixt_data.mds import Shard
    from ixt_data.sql import Catalog


SampleReader = Callable[[ShardInfo, int], dict[str, Any]]
"""Function that reads one sample of a shard, such as `Store.sample`."""
MAX_DOCUMENTS = 10_000
"""Documents that one call returns with their texts."""
_SHOWN_OF_CRITIC = ("critic", "status", "score", "critique", "flags")


@dataclass
class StoredCritique:
    """The latest critique of a critic: its row, its spans, and the thinking of its judge."""

    row: dict[str, Any]
    spans: list[Span] = field(default_factory=list)
    thinking: str | None = None


@dataclass
class StoredDocument:
    """A document: its row with the user's metadata, its text, and its critiques."""

    row: dict[str, Any]
    text: str
    critiques: list[StoredCritique]
    snapshot: int

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        return {
            "kind": "document",
            "snapshot": self.snapshot,
            **self.row,
            "text": self.text,
            "critiques": [
                {
                    **critique.row,
                    "spans": list(map(asdict, critique.spans)),
                    "thinking": critique.thinking,
                }
                for critique in self.critiques
            ],
        }

    def _repr_html_(self) -> str:
        """Return the text beside its critiques, for notebooks; spans are marked in the text."""
        spans = [span for critique in self.critiques for span in critique.spans]
        marks = [
            (one.start, one.end, ": ".join(filter(None, (one.tag or one.verdict, one.comment))))
            for one in spans
        ]
        row = {name: value for name, value in self.row.items() if name not in ("shard", "row")}
        name = self.row["source_id"] or self.row["doc_id"]
        about = html_details("columns", html_table(["column", "value"], list(row.items())))
        critiques = "".join(map(_critique_html, self.critiques)) or html_title("no critiques")
        return html_title(str(name)) + html_columns(html_text(self.text, marks), critiques) + about


def _critique_html(critique: StoredCritique) -> str:
    row = critique.row
    score = "no score" if row["score"] is None else f"score {row['score']:.3g}"
    shown = html_title(f"{row['critic']}: {score}, {row['status']}")
    shown += html_text(row["critique"] or row["error"] or "")
    if critique.thinking:
        shown += html_details("thinking", html_text(critique.thinking))
    return shown


def matching_rows(
    catalog: "Catalog",
    where: str,
    critic: str | None,
    corpora: Sequence[str],
    order_by: str | None,
    limit: int,
) -> "pa.Table":
    """Return the rows of `Store.documents`, which explains the arguments, without texts."""
    if not 1 <= limit <= MAX_DOCUMENTS:
        raise StoreError(f"limit: {limit} is not 1 to {MAX_DOCUMENTS:,}")
    of_critic = [f"critiques.{name}" for name in _SHOWN_OF_CRITIC] if critic is not None else []
    inside = f"corpus IN ({', '.join(map(sql_literal, corpora))})" if corpora else "true"
    order = "documents.shard, documents.row" if order_by is None else check_order(order_by)
    condition = parenthesize(where)
    try:
        return catalog.arrow(
            f"SELECT {', '.join(['documents.*', *of_critic])} "
            f"{join_clause(catalog.snapshot, critic)} "
            f"WHERE {inside} AND {condition} ORDER BY {order} LIMIT {limit}"
        )
    except QueryError as error:
        raise QueryError(f"where {where!r}, order_by {order_by!r}: {error.reason}") from None


def add_texts(
    snapshot: Snapshot, read_shard: Callable[[ShardInfo], "Shard"], rows: "pa.Table"
) -> "pa.Table":
    """Return rows with the texts of their documents instead of their places."""
    import pyarrow as pa

    places = list(zip(rows["shard"].to_pylist(), rows["row"].to_pylist(), strict=True))
    paths = sorted({path for path, _ in places})
    texts = {path: read_shard(snapshot.shards_by_path[path]).column("text") for path in paths}
    column = pa.array([texts[path][row] for path, row in places], pa.string())
    return rows.drop_columns(["shard", "row"]).append_column("text", column)


def read_document(catalog: "Catalog", sample: SampleReader, name: str) -> StoredDocument:
    """Return a document of a catalog's snapshot; see `Store.document`."""
    snapshot = catalog.snapshot
    try:
        doc_id = find_document(partial(_rows, catalog), name)
    except UnknownDocument as error:
        raise UnknownDocument(
            f"{error} in snapshot {snapshot.version}. "
            'Documents: ixt query "FROM documents LIMIT 10"'
        ) from None
    documents = "SELECT * FROM documents WHERE doc_id = $id::UUID ORDER BY corpus LIMIT 1"
    critiques = "SELECT * FROM critiques WHERE doc_id = $id::UUID ORDER BY critic"
    (row,) = _rows(catalog, documents, {"id": doc_id})
    text = sample(snapshot.shards_by_path[row["shard"]], row["row"])["text"]
    judged = _rows(catalog, critiques, {"id": doc_id})
    views = [_critique(snapshot, sample, one, row) for one in judged]
    return StoredDocument(row, str(text), views, snapshot.version)


def _rows(catalog: "Catalog", sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = catalog.arrow(sql, values).to_pylist()
    return [{**row, "doc_id": str(row["doc_id"])} for row in rows]


def _critique(
    snapshot: Snapshot, sample: SampleReader, row: dict[str, Any], document: dict[str, Any]
) -> StoredCritique:
    """Return a critique with the spans and the thinking from its shards."""
    if row.get("label_spans"):
        spans = [Span(*span) for span in orjson.loads(row["label_spans"])]
        return StoredCritique({**row, "scores": {}}, spans)
    if isinstance(row["scores"], list):
        # Arrow returns a map as a list of pairs.
        row = {**row, "scores": dict(row["scores"])}
    critique = StoredCritique(row)
    shard = snapshot.shards_by_path.get(row["shard"] or "")
    if shard is None:
        return critique
    number = row["row"]
    critique.spans = [Span(*span) for span in sample(shard, number)["spans"]]
    thinking = snapshot.aligned(shard.aligned_with or "", f"thinking/{row['critic_id']}")
    if thinking is not None:
        critique.thinking = str(sample(thinking, number)["thinking"]) or None
    return critique
