"""Critiques as they are stored: samples of a shard, and rows of a file."""

import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ixt_data.log import CriticInfo, ShardInfo
from ixt_data.records import Critique

if TYPE_CHECKING:
    import pyarrow as pa

ORPHAN = "orphan"
"""Status of a placeholder for a sample that is not a document; it has no row."""


def unit_name(critic: str, shard: ShardInfo) -> str:
    """Return the name of a unit of work: one critic and one text shard."""
    return f"critique/{critic}:{shard.path}"


def shard_number(shard: ShardInfo) -> int:
    """Return the number in a shard's file name; files of adopted folders may have any name."""
    return int((re.findall(r"\d+", PurePosixPath(shard.path).name) or ["0"])[0][:9])


def critique_sample(critique: Critique) -> dict[str, object]:
    """Return a record of the critique family; a failed critique is a placeholder."""
    return {
        "doc_id": critique.doc_id,
        "status": critique.status,
        "critique": critique.critique,
        "score": math.nan if critique.score is None else critique.score,
        "scores": dict(critique.scores),
        "spans": [span.to_json() for span in critique.spans],
    }


def critique_table(
    shard: ShardInfo, critic: CriticInfo, rows: Sequence[tuple[int, Critique]]
) -> "pa.Table":
    """Return critiques as a table with the columns of `critiques`.

    Args:
        shard: the critique shard with their samples.
        critic: the critic.
        rows: each critique with the index of its sample.
    """
    import pyarrow as pa

    n, members = len(rows), [critique for _, critique in rows]
    doc_ids = pa.array([c.doc_id for c in members], pa.binary(16))
    return pa.table(
        {
            "doc_id": pa.ExtensionArray.from_storage(pa.uuid(), doc_ids),
            "critic": pa.array([critic.name] * n, pa.string()),
            "critic_id": pa.array([critic.id] * n, pa.string()),
            "status": pa.array([c.status for c in members], pa.string()),
            "score": pa.array([c.score for c in members], pa.float64()),
            "scores": pa.array(
                [list(c.scores.items()) for c in members], pa.map_(pa.string(), pa.float64())
            ),
            "expected": pa.array([c.expected for c in members], pa.float64()),
            "entropy": pa.array([c.entropy for c in members], pa.float64()),
            "critique": pa.array([c.critique for c in members], pa.string()),
            "n_thinking_tokens": pa.array([c.n_thinking_tokens for c in members], pa.int64()),
            "flags": pa.array([list(c.flags) for c in members], pa.list_(pa.string())),
            "n_spans": pa.array([len(c.spans) for c in members], pa.int32()),
            "error": pa.array([c.error for c in members], pa.string()),
            "attempts": pa.array([c.attempts for c in members], pa.int32()),
            "shard": pa.array([shard.path] * n, pa.string()),
            "row": pa.array([i for i, _ in rows], pa.int32()),
        }
    )
