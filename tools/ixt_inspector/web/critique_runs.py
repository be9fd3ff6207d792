"""The page of critique runs: progress, active workers, failures, and past runs."""

import time
from typing import Any

from starlette.responses import Response

from ixt_data.critique_runs import (
    journal_folder,
    lease_holders,
    lease_name,
    units_in_progress,
)
from ixt_data.log import HUMAN, Snapshot
from ixt_data.store import unit_name
from ixt_inspector.web.overview import labels
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.snapshot_cache import SnapshotView

MAX_FAILURES = 30
MAX_RUNS = 50
_FAILED = f"""
SELECT critic, status, error, count(*) AS n, max(attempts) AS attempts
FROM critiques WHERE status <> 'ok' GROUP BY ALL
ORDER BY n DESC, critic, status LIMIT {MAX_FAILURES}
"""
_RUNS = f"SELECT * FROM critique_runs ORDER BY version DESC LIMIT {MAX_RUNS}"


def show(request: PageRequest) -> Response:
    """Return the page."""
    view = request.view
    store = request.inspector.views.store
    workers = list(lease_holders(store.storage, view.snapshot.critics))
    journals = list(units_in_progress(journal_folder(store)))
    units = view.cache.get("units", lambda: _units(view.snapshot))
    return request.page(
        "critique_runs.html",
        "Critique runs",
        coverage=_coverage(view, journals),
        workers=[_worker(worker, units) for worker in workers],
        journals=journals,
        runs=view.query_cached(_RUNS),
        failures=view.query_cached(_FAILED),
        names={critic.id: critic.name for critic in view.snapshot.critics.values()},
        now=time.time(),
        live=not request.at and (any(worker.is_alive for worker in workers) or bool(journals)),
    )


def _units(snapshot: Snapshot) -> dict[tuple[str, str], tuple[str, Any]]:
    """Return unit and text shard by critic and name of the lease."""
    units: dict[tuple[str, str], tuple[str, Any]] = {}
    for critic in snapshot.critics:
        for shard in snapshot.text_shards():
            unit = unit_name(critic, shard)
            units[critic, lease_name(unit)] = (unit, shard)
    return units


def _worker(worker: Any, units: dict[tuple[str, str], tuple[str, Any]]) -> dict[str, Any]:
    unit, shard = units.get((worker.critic, worker.name), ("", None))
    return {"lease": worker, "unit": unit, "shard": shard}


def _coverage(view: SnapshotView, journals: list[Any]) -> list[dict[str, Any]]:
    """Return the progress of each critic in each corpus, the latest critic first."""
    snapshot = view.snapshot
    rows = []
    unpublished = {journal.unit: journal for journal in journals}
    for critic in reversed(snapshot.critics.values()):
        for corpus in snapshot.corpora.values():
            shards = snapshot.text_shards({corpus.name})
            names = [unit_name(critic.id, shard) for shard in shards]
            published = [
                shard for name, shard in zip(names, shards, strict=True) if name in snapshot.units
            ]
            in_progress = [unpublished[name] for name in names if name in unpublished]
            if not published and not in_progress:
                continue
            total = sum(shard.samples for shard in shards)
            documents = sum(shard.samples for shard in published)
            if critic.name == HUMAN:
                total, documents = corpus.documents, labels(view).get(corpus.name, 0)
            rows.append(
                {
                    "critic": critic.name,
                    "id": critic.id,
                    "corpus": corpus.name,
                    "units": len(published),
                    "of": len(shards),
                    "documents": documents,
                    "in_journals": sum(journal.critiques for journal in in_progress),
                    "total": total,
                }
            )
    return rows
