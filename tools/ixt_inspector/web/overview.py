"""The first page: what is in the store, at a glance."""

from collections import Counter
from typing import Any

from starlette.responses import Response

from ixt_data.log import TEXT, Snapshot
from ixt_data.records import OK
from ixt_inspector.web.request import PageRequest, rows_by
from ixt_inspector.web.snapshot_cache import SnapshotView

NEWEST = 8
_CRITICS = """
SELECT critic, status, count(*) AS n, avg(score) AS mean, avg(n_thinking_tokens) AS thinking,
  histogram(round(least(greatest(score, 0), 1) * 10)::INTEGER) AS tenths
FROM critiques GROUP BY ALL ORDER BY n DESC
"""


def show(call: PageRequest) -> Response:
    """The page."""
    view = call.view
    snapshot = view.snapshot
    version = snapshot.version
    entries = call.inspector.views.entries(max(1, version - NEWEST + 1), version)
    figures = view.memo.get("overview", lambda: _figures(view))
    tags = call.inspector.views.tags()
    return call.page(
        "overview.html",
        "Overview",
        **figures,
        snapshot=snapshot,
        entries=entries[::-1],
        named={number: name for name, number in tags.items()},
    )


def _figures(view: SnapshotView) -> dict[str, Any]:
    snapshot = view.snapshot
    critics = [_critic(name, rows) for name, rows in critiques(view).items()]
    return {
        "documents": view.documents,
        "critics": critics,
        "corpora": _corpora(snapshot),
        "bytes": sum(shard.stored.bytes for shard in snapshot.shards),
        "families": Counter(shard.family.partition("/")[0] for shard in snapshot.shards),
    }


def critiques(view: SnapshotView) -> dict[str, list[dict[str, Any]]]:
    """Counts and means by critic, a row a status, the most frequent first."""
    found: dict[str, Any] = {name: [] for name in view.critics}
    return {**found, **rows_by(view.once(_CRITICS), "critic")}


def _critic(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    good = next((row for row in rows if row["status"] == OK), None)
    total = sum(row["n"] for row in rows)
    tenths = dict((good or {}).get("tenths") or {})
    most = max(tenths.values(), default=0)
    return {
        "name": name,
        "critiques": total,
        "failed": total - (good["n"] if good else 0),
        "mean": good and good["mean"],
        "thinking": good and good["thinking"],
        "bars": [(i, tenths.get(i, 0), tenths.get(i, 0) / most if most else 0) for i in range(11)],
    }


def _corpora(snapshot: Snapshot) -> list[dict[str, Any]]:
    """By corpus: documents, shards, bytes, and the share that each critic has read."""
    samples: Counter[tuple[str, str]] = Counter()
    size: Counter[str] = Counter()
    named = {f"critique/{critic.id}": critic.name for critic in snapshot.critics.values()}
    covered = {
        (named[shard.family], shard.aligned_with): shard
        for shard in snapshot.shards
        if shard.family in named
    }
    for (name, _), shard in covered.items():
        samples[shard.corpus, name] += shard.samples
    texts: Counter[str] = Counter()
    for shard in snapshot.shards:
        if shard.family == TEXT:
            texts[shard.corpus] += shard.samples
            size[shard.corpus] += shard.stored.bytes
    return [
        {
            "name": corpus.name,
            "documents": corpus.documents,
            "shards": corpus.shards,
            "bytes": size[corpus.name],
            "read": {
                name: samples[corpus.name, name] / max(1, texts[corpus.name])
                for name in dict.fromkeys(named.values())
            },
        }
        for corpus in snapshot.corpora.values()
    ]
