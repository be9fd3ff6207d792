"""Fault injection for a store: annotators, compaction, garbage collection, readers, and SIGKILL.

    python tests/chaos/night.py --seconds 60
    python tests/chaos/night.py --on s3

Four annotators publish units (some sleep before their commit, for longer than the grace of garbage
collection), one process compacts, one collects garbage twice a second, two readers pin versions and
check that every file of them is there and adds up. All of them are killed at random and start
again. In the morning nothing that was acknowledged may be gone, nothing twice, nothing missing.
With `--on s3` the store is on a real S3 server, a process that this one starts, with `--on gs` on
its form of Google Cloud Storage, and with `--on ADDRESS` on a storage that is there already.
Prints the counts as one JSON object; exit code 1 if anything was lost, or no worker ran.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path[:0] = [
    str(Path(__file__).resolve().parents[2] / "tools/benchmarks"),
    str(Path(__file__).resolve().parents[1] / "support"),
]

from moto_server import s3_server

from ixt_data.critique_runs.units import publish
from ixt_data.errors import CommitError, SnapshotError, TransactionAborted, UnitAlreadyPublished
from ixt_data.log.snapshot import CriticInfo
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import PREFIXES, verify
from ixt_data.records import Critique, document_id
from ixt_data.store.store import Store

SHARDS, DOCUMENTS, CRITICS = 40, 20, 100
ROLES = {"annotate": 4, "compact": 1, "collect": 1, "read": 2}
GRACE = 1.0
SECONDS, SECONDS_ELSEWHERE = 60.0, 20.0
START_TIMEOUT = 90.0
"""Timeout in seconds for the first acknowledged unit; the kills start then."""
SLOW_START = 10.0
"""Seconds during which a role without an event is rarely killed."""


def log_event(event: str, **details: Any) -> None:
    """Write one line of the role's event log, in one system call."""
    os.write(1, json.dumps({"event": event, **details}).encode() + b"\n")


def create_store(root: str) -> Store:
    """Create the store: one corpus, no critiques."""
    from small_stores import documents_table

    from ixt_data.mds.shards import TEXT_COLUMNS

    store = Store.init(root)
    with store.begin("ingest") as txn:
        family = txn.family("text", "web", TEXT_COLUMNS)
        for k in range(SHARDS):
            texts = [f"document {k} {i}" for i in range(DOCUMENTS)]
            for text in texts:
                record = {"doc_id": document_id(text), "source": "s", "source_id": "i"}
                family.write({**record, "text": text})
            path = family.cut().path
            txn.add_rows("documents", "web", documents_table(texts, "web", path, {}))
        txn.commit()
    return store


def annotate(store: Store) -> None:
    """Publishes random units for ever; acknowledges each by its transaction."""
    commit = store.log.commit

    def hesitant(*args: Any, **options: Any) -> int:
        if random.random() < 0.15:
            time.sleep(random.uniform(0.5, 2.5))
        return commit(*args, **options)

    store.log.commit = hesitant  # type: ignore[method-assign]
    shards = store.snapshot().text_shards()
    while True:
        shard, critic = random.choice(shards), f"c{random.randrange(CRITICS)}"
        critiques = [
            Critique(d, score=random.random()) for d in store.shard(shard).column("doc_id")
        ]
        try:
            version = publish(store, shard, CriticInfo(f"{critic}-0", critic, {}), critiques)
        except UnitAlreadyPublished:
            log_event("already done")
        except TransactionAborted:
            log_event("aborted")
        else:
            log_event("acknowledged", unit=f"critique/{critic}-0:{shard.path}", version=version)


def compact_often(store: Store) -> None:
    """Compacts for ever."""
    while True:
        time.sleep(0.5)
        try:
            log_event("compacted", merges=len(compact(store, min_files=4)))
        except CommitError as error:
            log_event("compaction dropped", why=str(error))


def collect_often(store: Store) -> None:
    """Collects garbage for ever, far more eagerly than anyone should."""
    while True:
        time.sleep(0.5)
        report = collect_garbage(
            store, keep_versions=10, keep=timedelta(0), grace=timedelta(seconds=GRACE)
        )
        log_event("collected", files=len(report.deleted), aborted=len(report.aborted))


def read(store: Store) -> None:
    """Pins recent versions; each must stay whole while it is pinned."""
    while True:
        version = max(1, store.snapshot().version - random.randrange(14))
        try:
            with store.pins.hold(version, "reader", timedelta(seconds=20)):
                log_event("read", version=version, missing=_missing_for(store, version, 2.0))
        except SnapshotError:
            log_event("expired")


def _missing_for(store: Store, version: int, seconds: float) -> list[str]:
    end, state = time.time() + seconds, store.snapshot(version)
    rows = sum(file.rows for file in state.rows.values() if file.table == "critiques")
    while time.time() < end:
        there = {file.key for prefix in PREFIXES for file in store.storage.list(prefix)}
        missing = [path for path in (*state.rows, *state.shards_by_path) if path not in there]
        if missing:
            return missing
        found = store.sql("SELECT count(*) AS n FROM critiques", at=version).arrow()["n"][0].as_py()
        if found != rows:
            return [f"{found} rows instead of {rows}"]
        time.sleep(0.1)
    return []


class Roles:
    """The processes, each with its own event log."""

    def __init__(self, root: str, folder: Path) -> None:
        self._root, self._folder = root, folder
        self._errors = (folder / "errors").open("ab")
        self._started: list[tuple[str, subprocess.Popen[bytes], Path, float]] = []
        self._event_logs: list[Path] = []
        self.kills = self.crashes = 0
        for role, n in ROLES.items():
            for _ in range(n):
                self._started.append(self._start(role))

    def _start(self, role: str) -> tuple[str, subprocess.Popen[bytes], Path, float]:
        event_log = self._folder / f"event_log-{len(self._event_logs)}"
        self._event_logs.append(event_log)
        command = [sys.executable, __file__, "--role", role, "--store", self._root]
        with event_log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=self._errors)
        return role, process, event_log, time.time()

    def kill_one(self) -> None:
        """Kill and restart a role; one that is still starting is rarely killed."""
        i = random.randrange(len(self._started))
        role, process, event_log, started = self._started[i]
        starting = not event_log.stat().st_size and time.time() - started < SLOW_START
        if process.poll() is not None:
            self.crashes += 1
        elif starting and random.random() < 0.9:
            return
        else:
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.kills += 1
        self._started[i] = self._start(role)

    def stop(self) -> None:
        """Kill all processes."""
        for _, process, _, _ in self._started:
            self.crashes += process.poll() is not None
            process.kill()
            process.wait()
        self._errors.close()

    def events(self) -> list[dict[str, Any]]:
        """Return the events of all processes."""
        lines = [
            line
            for event_log in self._event_logs
            for line in event_log.read_bytes().splitlines(True)
        ]
        return [json.loads(line) for line in lines if line.endswith(b"\n")]


def night(root: str, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """Run all roles, kill them at random, then audit the store."""
    create_store(root)
    random.seed(seed)
    roles = Roles(root, folder)
    try:
        deadline = time.time() + START_TIMEOUT
        while time.time() < deadline and not count(roles.events(), "acknowledged"):
            time.sleep(0.2)
        end = time.time() + seconds
        while time.time() < end:
            # S3 is slower, and its server is on the same machine.
            time.sleep(random.uniform(0.5, 1.2) * (2 if "://" in root else 1))
            roles.kill_one()
    finally:
        roles.stop()
    errors = (folder / "errors").read_text()[-2000:]
    night = {"store": root, "seconds": seconds, "kills": roles.kills, "crashes": roles.crashes}
    return {**night, **audit(root, roles.events()), "errors": errors}


def count(events: list[dict[str, Any]], kind: str) -> int:
    """Return the number of events of a kind."""
    return sum(event["event"] == kind for event in events)


def audit(root: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the result of the audit."""
    store = Store.open(root)
    state = store.snapshot()
    acknowledged = [event["unit"] for event in events if event["event"] == "acknowledged"]
    counts = (
        store.sql("SELECT count(*) AS n, count(DISTINCT (doc_id, critic)) AS d FROM critiques_all")
        .arrow()
        .to_pylist()[0]
    )
    pins = store.pins.all()
    for name in pins:
        store.pins.release(name)
    time.sleep(GRACE)
    for _ in range(2):
        collect_garbage(store, keep_versions=1, keep=timedelta(0), grace=timedelta(0))
    report = verify(store)
    return {
        "versions": state.version,
        "acknowledged": len(acknowledged),
        "lost": sum(unit not in state.units for unit in acknowledged),
        "rows": counts["n"],
        "duplicate_rows": counts["n"] - counts["d"],
        "rows_off": counts["n"] - DOCUMENTS * len(state.units),
        "missing_under_a_pin": sum(len(e["missing"]) for e in events if e["event"] == "read"),
        "reads": count(events, "read"),
        "problems": [f"{p.path}: {p.problem}" for p in report.problems],
        "orphans": len(report.orphans),
        "events": dict(Counter(event["event"] for event in events)),
    }


@contextmanager
def place(on: str | None, folder: Path) -> Iterator[str]:
    """Yield the root of the store."""
    # What killed processes leave behind goes with the folder.
    os.environ |= {"TMPDIR": str(folder), "IXT_CACHE": str(folder / "cache")}
    tempfile.tempdir = None
    if on == "s3":
        with s3_server() as bucket:
            yield f"{bucket}/store"
    elif on == "gs":
        from gcs_server import gcs

        with gcs() as (_, account):
            os.environ |= {"GOOGLE_SERVICE_ACCOUNT_KEY": account, "GOOGLE_ALLOW_HTTP": "true"}
            yield "gs://corpora/store"
    else:
        yield f"{on}/night-{time.time_ns()}" if on else str(folder / "store")


def main() -> None:
    """Run all roles, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=None, help="60; elsewhere 20")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on", default=None, help="s3, gs, or an address; by default a folder")
    parser.add_argument("--store", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--role", choices=ROLES, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        roles = {
            "annotate": annotate,
            "compact": compact_often,
            "collect": collect_often,
            "read": read,
        }
        random.seed(os.getpid())
        roles[options.role](Store.open(options.store))
    seconds = options.seconds or (SECONDS_ELSEWHERE if options.on else SECONDS)
    with tempfile.TemporaryDirectory() as name, place(options.on, Path(name)) as root:
        report = night(root, seconds, options.seed, Path(name))
    print(json.dumps(report))
    bad = ("lost", "duplicate_rows", "rows_off", "missing_under_a_pin", "problems", "orphans")
    sys.exit(any(report[key] for key in bad) or not report["acknowledged"])


if __name__ == "__main__":
    main()
