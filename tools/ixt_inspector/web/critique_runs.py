"""Critique runs: how far each critic is, who is at work, what failed, and what was done when."""

import time
from typing import Any

from starlette.responses import Response

from ixt_data.critique_runs import (
    journal_folder,
    lease_holders,
    lease_name,
    unit_name,
    units_in_progress,
)
from ixt_data.log import Snapshot
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.snapshot_cache import SnapshotView

FAILURES = 30
RUNS = 50
_FAILED = f"""
SELECT critic, status, error, count(*) AS n, max(attempts) AS attempts
FROM critiques WHERE status <> 'ok' GROUP BY ALL ORDER BY n DESC, critic, status LIMIT {FAILURES}
"""
_RUNS = f"SELECT * FROM critique_runs ORDER BY version DESC LIMIT {RUNS}"


def show(call: PageRequest) -> Response:
    """The page."""
    view = call.view
    store = call.inspector.views.store
    workers = list(lease_holders(store.storage, view.snapshot.critics))
    journals = list(units_in_progress(journal_folder(store)))
    units = view.memo.get("units", lambda: _units(view.snapshot))
    return call.page(
        "critique_runs.html",
        "Critique runs",
        coverage=_coverage(view, journals),
        workers=[_worker(worker, units) for worker in workers],
        journals=journals,
        runs=view.once(_RUNS),
        failures=view.once(_FAILED),
        names={critic.id: critic.name for critic in view.snapshot.critics.values()},
        now=time.time(),
        live=not call.at and (any(worker.is_alive for worker in workers) or bool(journals)),
    )


def _units(snapshot: Snapshot) -> dict[tuple[str, str], tuple[str, Any]]:
    """Unit and text shard by critic and name of the lease."""
    found: dict[tuple[str, str], tuple[str, Any]] = {}
    for critic in snapshot.critics:
        for shard in snapshot.text_shards():
            unit = unit_name(critic, shard)
            found[critic, lease_name(unit)] = (unit, shard)
    return found


def _worker(worker: Any, units: dict[tuple[str, str], tuple[str, Any]]) -> dict[str, Any]:
    unit, shard = units.get((worker.critic, worker.name), ("", None))
    return {"lease": worker, "unit": unit, "shard": shard}


def _coverage(view: SnapshotView, journals: list[Any]) -> list[dict[str, Any]]:
    """How far each critic is with each corpus that it has begun, the newest critic first."""
    snapshot = view.snapshot
    rows = []
    waiting = {journal.unit: journal for journal in journals}
    for critic in reversed(snapshot.critics.values()):
        for corpus in snapshot.corpora.values():
            shards = snapshot.text_shards({corpus.name})
            names = [unit_name(critic.id, shard) for shard in shards]
            done = [
                shard for name, shard in zip(names, shards, strict=True) if name in snapshot.units
            ]
            under_way = [waiting[name] for name in names if name in waiting]
            if not done and not under_way:
                continue
            total = sum(shard.samples for shard in shards)
            rows.append(
                {
                    "critic": critic.name,
                    "id": critic.id,
                    "corpus": corpus.name,
                    "units": len(done),
                    "of": len(shards),
                    "documents": sum(shard.samples for shard in done),
                    "waiting": sum(journal.critiques for journal in under_way),
                    "total": total,
                }
            )
    return rows
