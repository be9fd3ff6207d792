"""One document of a snapshot with its critiques: text, thinking, scores and spans."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ixt_data.errors import UnknownDocument
from ixt_data.log import ShardInfo, Snapshot
from ixt_data.records import Span
from ixt_data.sql import find_document

if TYPE_CHECKING:
    from ixt_data.sql import Catalog


SampleReader = Callable[[ShardInfo, int], dict[str, Any]]
"""Function that reads one sample of a shard, such as `Store.sample`."""


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
    views = [_critique(snapshot, sample, one) for one in judged]
    return StoredDocument(row, str(text), views, snapshot.version)


def _rows(catalog: "Catalog", sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = catalog.arrow(sql, values).to_pylist()
    return [{**row, "doc_id": str(row["doc_id"])} for row in rows]


def _critique(snapshot: Snapshot, sample: SampleReader, row: dict[str, Any]) -> StoredCritique:
    """Return a critique with the spans and the thinking from its shards."""
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
