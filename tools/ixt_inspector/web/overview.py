"""The first page: an overview of the snapshot."""

from collections import Counter
from typing import Any

from starlette.responses import Response

from ixt_data.log import HUMAN, TEXT
from ixt_data.records import OK
from ixt_data.sql import SCORE_STEP, SCORE_STEPS
from ixt_inspector.web.request import PageRequest, group_rows
from ixt_inspector.web.snapshot_cache import SnapshotView

MAX_COMMITS = 8
_CRITICS = f"""
SELECT critic, status, count(*) AS n, avg(score) AS mean, avg(n_thinking_tokens) AS thinking,
  histogram({SCORE_STEP}) AS tenths
FROM critiques GROUP BY ALL ORDER BY n DESC
"""
_LABELS = f"""
SELECT corpus, count(*) AS n FROM documents JOIN critiques USING (doc_id)
WHERE critic = '{HUMAN}' GROUP BY corpus
"""


def show(request: PageRequest) -> Response:
    """Return the page."""
    view = request.view
    snapshot = view.snapshot
    version = snapshot.version
    entries = request.inspector.views.entries(max(1, version - MAX_COMMITS + 1), version)
    statistics = view.cache.get("overview", lambda: _statistics(view))
    tags = request.inspector.views.tags()
    return request.page(
        "overview.html",
        "Overview",
        **statistics,
        snapshot=snapshot,
        entries=entries[::-1],
        tags_by_version={number: name for name, number in tags.items()},
    )


def _statistics(view: SnapshotView) -> dict[str, Any]:
    snapshot = view.snapshot
    critics = [_critic(name, rows) for name, rows in critiques(view).items()]
    return {
        "documents": view.documents,
        "critics": critics,
        "corpora": _corpora(view),
        "bytes": sum(shard.stored.bytes for shard in snapshot.shards),
        "families": Counter(shard.family.partition("/")[0] for shard in snapshot.shards),
    }


def critiques(view: SnapshotView) -> dict[str, list[dict[str, Any]]]:
    """Return counts and means by critic: one row per status, the most frequent first."""
    rows: dict[str, Any] = {name: [] for name in view.critics}
    return {**rows, **group_rows(view.query_cached(_CRITICS), "critic")}


def _critic(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    ok = next((row for row in rows if row["status"] == OK), None)
    total = sum(row["n"] for row in rows)
    tenths = dict((ok or {}).get("tenths") or {})
    largest = max(tenths.values(), default=0)
    return {
        "name": name,
        "critiques": total,
        "failed": total - (ok["n"] if ok else 0),
        "mean": ok and ok["mean"],
        "thinking": ok and ok["thinking"],
        "bars": [
            (i, tenths.get(i, 0), tenths.get(i, 0) / largest if largest else 0)
            for i in range(SCORE_STEPS)
        ],
    }


def labels(view: SnapshotView) -> dict[str, int]:
    """Return the number of documents with a person's label, by corpus.

    A shard of labels does not tell: samples without a label are placeholders.
    """
    return {row["corpus"]: row["n"] for row in view.query_cached(_LABELS)}


def _corpora(view: SnapshotView) -> list[dict[str, Any]]:
    """Return documents, shards, bytes and coverage by each critic, per corpus."""
    snapshot = view.snapshot
    samples: Counter[tuple[str, str]] = Counter()
    size: Counter[str] = Counter()
    critic_names = {f"critique/{critic.id}": critic.name for critic in snapshot.critics.values()}
    covered = {
        (critic_names[shard.family], shard.aligned_with): shard
        for shard in snapshot.shards
        if shard.family in critic_names
    }
    for (name, _), shard in covered.items():
        samples[shard.corpus, name] += shard.samples
    texts: Counter[str] = Counter()
    for shard in snapshot.shards:
        if shard.family == TEXT:
            texts[shard.corpus] += shard.samples
            size[shard.corpus] += shard.stored.bytes
    labeled = labels(view) if HUMAN in view.critics else {}
    return [
        {
            "name": corpus.name,
            "documents": corpus.documents,
            "shards": corpus.shards,
            "bytes": size[corpus.name],
            "coverage": {
                name: labeled.get(corpus.name, 0) / max(1, corpus.documents)
                if name == HUMAN
                else samples[corpus.name, name] / max(1, texts[corpus.name])
                for name in dict.fromkeys(critic_names.values())
            },
        }
        for corpus in snapshot.corpora.values()
    ]
