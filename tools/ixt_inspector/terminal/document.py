"""One document with what its critics said: critique, thinking, scores and spans."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ixt_data.errors import StoreError
from ixt_data.log import Snapshot
from ixt_data.records import Span, parse_id
from ixt_data.store import Store

MOST = 20
"""Documents of one source_id that are named, at most."""


@dataclass
class CritiqueView:
    """What one critic said of a document: its row, its spans, and its thinking if it thought."""

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
        """For programs."""
        return {
            "kind": "document",
            "snapshot": self.snapshot,
            **self.row,
            "text": self.text,
            "critiques": [
                {**one.row, "spans": list(map(asdict, one.spans)), "thinking": one.thinking}
                for one in self.critiques
            ],
        }


def view_document(store: Store, name: str, at: int | str | None = None) -> DocumentView:
    """The document that a doc_id or a source_id names.

    Raises:
        StoreError: there is none, or there are several of this source_id.
    """
    snapshot = store.snapshot(at)
    catalog = store.catalog(snapshot.version)
    try:
        row = _row(catalog, name, snapshot, store.root)
        wanted = "SELECT * FROM critiques WHERE doc_id = ?::UUID ORDER BY critic"
        critiques = [
            {**one, "doc_id": str(one["doc_id"])}
            for one in catalog.arrow(wanted, [row["doc_id"]]).to_pylist()
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
        found = catalog.arrow(
            "SELECT * FROM documents WHERE doc_id = ?::UUID", [parse_id(name).hex()]
        ).to_pylist()
    except ValueError:
        found = []
    if not found:
        wanted = "SELECT * FROM documents WHERE source_id = ? ORDER BY corpus, doc_id"
        found = catalog.arrow(wanted, [name]).to_pylist()
        if len({row["doc_id"] for row in found}) > 1:
            ids = ", ".join(f"{row['doc_id']} ({row['corpus']})" for row in found[:MOST])
            more = f" and {len(found) - MOST:,} more" if len(found) > MOST else ""
            raise StoreError(f"source_id {name!r} is of {len(found):,} documents: {ids}{more}")
    if not found:
        raise StoreError(
            f"{name}: no file, folder or store, and no doc_id or source_id in snapshot "
            f'{snapshot.version} of {root}. Documents: ixt query "FROM documents LIMIT 10"'
        )
    return {**found[0], "doc_id": str(found[0]["doc_id"])}


def _critique(store: Store, snapshot: Snapshot, row: dict[str, Any]) -> CritiqueView:
    """A critique with what its shards have beside its row."""
    if isinstance(row["scores"], list):
        # So Arrow gives a map.
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


def marked(text: str, spans: list[Span], most: int) -> Mapping[int, str]:
    """The beginning of what each span is about, by the number of the span."""
    return {i: text[span.start : min(span.end, span.start + most)] for i, span in enumerate(spans)}
