"""One document with its critiques: text, thinking, scores and spans."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ixt_data.console import format_count
from ixt_data.errors import StoreError
from ixt_data.log import Snapshot
from ixt_data.records import Span, parse_id
from ixt_data.store import Store

MAX_NAMED = 20
"""Documents of one source_id that an error names."""


@dataclass
class CritiqueView:
    """One critique: its row, its spans, and the thinking of a reasoning judge."""

    row: dict[str, Any]
    spans: list[Span] = field(default_factory=list)
    thinking: str | None = None


@dataclass
class DocumentView:
    """A document: its row with the user's metadata, its text, and its critiques."""

    row: dict[str, Any]
    text: str
    critiques: list[CritiqueView]
    snapshot: int

    def to_json(self) -> dict[str, Any]:
        """Return the view as JSON values."""
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


def view_document(store: Store, name: str, at: int | str | None = None) -> DocumentView:
    """Return the document with a doc_id or source_id.

    Raises:
        StoreError: no document has this id, or several have this source_id.
    """
    snapshot = store.snapshot(at)
    catalog = store.catalog(snapshot.version)
    try:
        row = _row(catalog, name, snapshot, store.root)
        sql = "SELECT * FROM critiques WHERE doc_id = ?::UUID ORDER BY critic"
        critiques = [
            {**one, "doc_id": str(one["doc_id"])}
            for one in catalog.arrow(sql, [row["doc_id"]]).to_pylist()
        ]
    finally:
        catalog.close()
    text_shard = snapshot.shards_by_path[row["shard"]]
    text = str(store.shard(text_shard).column(_TEXT)[row["row"]])
    views = [_critique(store, snapshot, one) for one in critiques]
    return DocumentView(row, text, views, snapshot.version)


_TEXT = "text"


def _row(catalog: Any, name: str, snapshot: Snapshot, root: str) -> dict[str, Any]:
    try:
        rows = catalog.arrow(
            "SELECT * FROM documents WHERE doc_id = ?::UUID", [parse_id(name).hex()]
        ).to_pylist()
    except ValueError:
        rows = []
    if not rows:
        sql = "SELECT * FROM documents WHERE source_id = ? ORDER BY corpus, doc_id"
        rows = catalog.arrow(sql, [name]).to_pylist()
        if len({row["doc_id"] for row in rows}) > 1:
            ids = ", ".join(f"{row['doc_id']} ({row['corpus']})" for row in rows[:MAX_NAMED])
            more = f" and {len(rows) - MAX_NAMED:,} more" if len(rows) > MAX_NAMED else ""
            raise StoreError(
                f"source_id {name!r} names {format_count(len(rows), 'document')}: {ids}{more}"
            )
    if not rows:
        raise StoreError(
            f"{name}: not a file, folder or store, and not a doc_id or source_id in snapshot "
            f'{snapshot.version} of {root}. Documents: ixt query "FROM documents LIMIT 10"'
        )
    return {**rows[0], "doc_id": str(rows[0]["doc_id"])}


def _critique(store: Store, snapshot: Snapshot, row: dict[str, Any]) -> CritiqueView:
    """Return a critique with the spans and the thinking from its shards."""
    if isinstance(row["scores"], list):
        # Arrow returns a map as a list of pairs.
        row = {**row, "scores": dict(row["scores"])}
    view = CritiqueView(row)
    shard = snapshot.shards_by_path.get(row["shard"] or "")
    if shard is None:
        return view
    number = row["row"]
    view.spans = [Span(*span) for span in store.shard(shard).column("spans")[number]]
    thinking = snapshot.aligned(shard.aligned_with or "", f"thinking/{row['critic_id']}")
    if thinking is not None:
        view.thinking = str(store.shard(thinking).column("thinking")[number]) or None
    return view


def span_texts(text: str, spans: list[Span], max_chars: int) -> Mapping[int, str]:
    """Return the first `max_chars` characters of each span, by the number of the span."""
    return {
        i: text[span.start : min(span.end, span.start + max_chars)] for i, span in enumerate(spans)
    }
