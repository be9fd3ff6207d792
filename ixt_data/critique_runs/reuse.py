"""Critiques that a store already has, read back whole: kept or copied, and not asked again."""

from collections.abc import Iterable, Mapping
from typing import Any

from ixt_data.log import CriticInfo, ShardInfo, Snapshot
from ixt_data.records import OK, Critique, Span
from ixt_data.store import Store

_ROWS = """
SELECT c.* FROM critiques_all c SEMI JOIN (SELECT doc_id FROM documents WHERE shard = ?)
USING (doc_id) WHERE critic_id = ? QUALIFY row_number() OVER
(PARTITION BY doc_id ORDER BY (status = 'ok') DESC, generation DESC) = 1
"""
_FAILED = "SELECT DISTINCT shard FROM critiques_all WHERE critic_id = ? AND status <> 'ok'"


def good_critiques(
    store: Store, snapshot: Snapshot, shard: ShardInfo, critic: CriticInfo
) -> dict[bytes, Critique]:
    """The critiques by a critic of a text shard's documents that are `ok`, wherever they are."""
    rows = store.sql(_ROWS, at=snapshot.version, parameters=[shard.path, critic.id]).to_pylist()
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == OK and row["shard"] in snapshot.shards_by_path:
            by_shard.setdefault(row["shard"], []).append(row)
    found: dict[bytes, Critique] = {}
    for path, members in by_shard.items():
        found.update(_whole(store, snapshot, snapshot.shards_by_path[path], members))
    return found


def units_with_failures(
    store: Store, snapshot: Snapshot, corpus: str, critic: str
) -> list[ShardInfo]:
    """The text shards of a corpus of whose documents a critic failed on some."""
    found = store.sql(_FAILED, at=snapshot.version, parameters=[critic])["shard"].to_pylist()
    held = (snapshot.shards_by_path.get(path) for path in found)
    texts = {shard.aligned_with for shard in held if shard is not None}
    return [shard for shard in snapshot.text_shards({corpus}) if shard.path in texts]


def _whole(
    store: Store, snapshot: Snapshot, shard: ShardInfo, rows: Iterable[Mapping[str, Any]]
) -> dict[bytes, Critique]:
    """Critiques from their rows, with spans and thinking from the shards."""
    spans = store.shard(shard).column("spans")
    family = shard.family.replace("critique/", "thinking/", 1)
    aloud = snapshot.aligned(shard.aligned_with or "", family)
    thinking = store.shard(aloud).column("thinking") if aloud is not None else None
    made = (_critique(row, spans, thinking) for row in rows)
    return {critique.doc_id: critique for critique in made}


def _critique(
    row: Mapping[str, Any], spans: list[list[Any]], thinking: list[str] | None
) -> Critique:
    doc_id = row["doc_id"]
    return Critique(
        doc_id if isinstance(doc_id, bytes) else doc_id.bytes,
        row["status"],
        critique=row["critique"],
        score=row["score"],
        scores=dict(row["scores"]),
        spans=tuple(Span(*span) for span in spans[row["row"]]),
        flags=tuple(row["flags"]),
        thinking=(thinking[row["row"]] or None) if thinking is not None else None,
        n_thinking_tokens=row["n_thinking_tokens"],
        expected=row["expected"],
        entropy=row["entropy"],
        error=row["error"],
        attempts=row["attempts"],
    )
