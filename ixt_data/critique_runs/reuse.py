"""Critiques that a store already has, for reuse instead of new requests."""

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
    """Return a critic's `ok` critiques of a text shard's documents, by doc_id, from any corpus.

    Args:
        store: contains them.
        snapshot: state to read.
        shard: the text shard.
        critic: the critic.
    """
    rows = (
        store.sql(_ROWS, at=snapshot.version, parameters=[shard.path, critic.id])
        .arrow()
        .to_pylist()
    )
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == OK and row["shard"] in snapshot.shards_by_path:
            by_shard.setdefault(row["shard"], []).append(row)
    critiques: dict[bytes, Critique] = {}
    for path, members in by_shard.items():
        critiques.update(_read_critiques(store, snapshot, snapshot.shards_by_path[path], members))
    return critiques


def units_with_failures(
    store: Store, snapshot: Snapshot, corpus: str, critic: str
) -> list[ShardInfo]:
    """Return the text shards of a corpus with a critique that is not `ok`."""
    rows = store.sql(_FAILED, at=snapshot.version, parameters=[critic]).arrow()["shard"].to_pylist()
    existing = (snapshot.shards_by_path.get(path) for path in rows)
    text_paths = {shard.aligned_with for shard in existing if shard is not None}
    return [shard for shard in snapshot.text_shards({corpus}) if shard.path in text_paths]


def _read_critiques(
    store: Store, snapshot: Snapshot, shard: ShardInfo, rows: Iterable[Mapping[str, Any]]
) -> dict[bytes, Critique]:
    """Return critiques from their rows, with spans and thinking from the shards."""
    spans = store.shard(shard).column("spans")
    family = shard.family.replace("critique/", "thinking/", 1)
    thinking_shard = snapshot.aligned(shard.aligned_with or "", family)
    thinking = (
        store.shard(thinking_shard).column("thinking") if thinking_shard is not None else None
    )
    critiques = (_critique(row, spans, thinking) for row in rows)
    return {critique.doc_id: critique for critique in critiques}


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
