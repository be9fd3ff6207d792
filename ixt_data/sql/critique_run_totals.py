"""Critique runs, added up from the log entries of the units that they published."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from ixt_data.log import Entry, Log, Snapshot
from ixt_data.records import OK

RUNS = {
    "run": "VARCHAR",
    "critic_id": "VARCHAR",
    "critic": "VARCHAR",
    "corpus": "VARCHAR",
    "started": "TIMESTAMPTZ",
    "ended": "TIMESTAMPTZ",
    "units": "BIGINT",
    "documents": "BIGINT",
    "reused": "BIGINT",
    "ok": "BIGINT",
    "statuses": "JSON",
    "requests": "BIGINT",
    "tokens_in": "BIGINT",
    "tokens_out": "BIGINT",
    "thinking_tokens": "BIGINT",
    "version": "BIGINT",
}
"""Columns of the view `critique_runs`, with their types."""


def critique_runs(log: Log, snapshot: Snapshot) -> Iterator[Sequence[Any]]:
    """One row a critique run, in the order of their first commits."""
    runs: dict[str, list[Entry]] = {}
    for entry in log.entries(1, snapshot.version):
        if entry.op == "critique" and "run" in entry.summary:
            runs.setdefault(entry.summary["run"], []).append(entry)
    for run, entries in runs.items():
        yield _row(run, entries, snapshot)


def _row(run: str, entries: Sequence[Entry], snapshot: Snapshot) -> Sequence[Any]:
    statuses, usage = Counter[str](), Counter[str]()
    for entry in entries:
        statuses.update(entry.summary["statuses"])
        usage.update(entry.summary["usage"])
    first = entries[0].summary
    critic = snapshot.critics[first["critic"]]
    return (
        run,
        critic.id,
        critic.name,
        first["corpus"],
        min(entry.summary["started"] for entry in entries),
        entries[-1].created,
        len(entries),
        statuses.total(),
        sum(entry.summary["reused"] for entry in entries),
        statuses[OK],
        orjson.dumps(dict(statuses)).decode(),
        *(usage.get(key) for key in ("requests", "tokens_in", "tokens_out", "thinking_tokens")),
        entries[-1].version,
    )
