"""A bad night for a store: annotators, compaction, garbage collection, readers, and SIGKILL.

    python tests/chaos/night.py --seconds 60

Four annotators publish units (some sleep before their commit, for longer than the grace of garbage
collection), one process compacts, one collects garbage twice a second, two readers pin versions and
check that every file of them is there and adds up. All of them are killed at random and start
again. In the morning nothing that was acknowledged may be gone, nothing twice, nothing missing.
Prints the counts as one JSON object; exit code 1 if anything was lost.
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
from datetime import timedelta
from pathlib import Path
from typing import Any

from ixt_data.compact import compact
from ixt_data.errors import Aborted, AlreadyDone, CommitError, SnapshotError
from ixt_data.gc import collect
from ixt_data.model import Critique, document_id
from ixt_data.snapshot import CriticInfo
from ixt_data.store import Store
from ixt_data.units import publish
from ixt_data.verify import verify

SHARDS, DOCUMENTS, CRITICS = 40, 20, 100
ROLES = {"annotate": 4, "compact": 1, "collect": 1, "read": 2}
GRACE = 1.0


def say(event: str, **details: Any) -> None:
    """One line of the role's diary; complete lines only, so that a killed one can be read."""
    os.write(1, json.dumps({"event": event, **details}).encode() + b"\n")


def make(root: str) -> Store:
    """The store before the night: one corpus, no critiques."""
    from ixt_data.shards import TEXT_COLUMNS

    sys.path.insert(0, str(Path(__file__).parents[1] / "ixt_data"))
    from small_stores import documents_table

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
    documents = {shard.path: store.shard(shard).column("doc_id") for shard in shards}
    while True:
        shard, critic = random.choice(shards), f"c{random.randrange(CRITICS)}"
        critiques = [Critique(d, score=random.random()) for d in documents[shard.path]]
        try:
            version = publish(store, shard, CriticInfo(f"{critic}-0", critic, {}), critiques)
        except AlreadyDone:
            say("already done")
        except Aborted:
            say("aborted")
        else:
            say("acknowledged", unit=f"critique/{critic}-0:{shard.path}", version=version)


def compact_often(store: Store) -> None:
    """Compacts for ever."""
    while True:
        time.sleep(0.5)
        try:
            say("compacted", lanes=len(compact(store, min_files=4)))
        except CommitError as error:
            say("compaction dropped", why=str(error))


def collect_often(store: Store) -> None:
    """Collects garbage for ever, far more eagerly than anyone should."""
    while True:
        time.sleep(0.5)
        report = collect(store, keep_versions=10, keep=timedelta(0), grace=timedelta(seconds=GRACE))
        say("collected", files=len(report.deleted), aborted=len(report.aborted))


def read(store: Store) -> None:
    """Pins recent versions; each must stay whole while it is pinned."""
    while True:
        version = max(1, store.snapshot().version - random.randrange(14))
        try:
            with store.pins.held(version, "reader", timedelta(seconds=20)):
                say("read", version=version, missing=_missing_for(store, version, 2.0))
        except SnapshotError:
            say("let go")


def _missing_for(store: Store, version: int, seconds: float) -> list[str]:
    end, state = time.time() + seconds, store.snapshot(version)
    rows = sum(file.rows for file in state.rows.values() if file.table == "critiques")
    while time.time() < end:
        missing = [p for p in (*state.rows, *state.shards_by_path) if not store.storage.exists(p)]
        if missing:
            return missing
        found = store.sql("SELECT count(*) AS n FROM critiques", at=version)["n"][0].as_py()
        if found != rows:
            return [f"{found} rows instead of {rows}"]
        time.sleep(0.1)
    return []


def night(root: str, seconds: float, seed: int) -> dict[str, Any]:
    """Runs all roles, kills them at random, and audits the store in the morning."""
    make(root)
    random.seed(seed)
    diary = Path(root + ".diary")
    with diary.open("wb") as out, Path(root + ".errors").open("wb") as errors:

        def start(role: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, __file__, "--role", role, "--store", root]
            return subprocess.Popen(command, stdout=out, stderr=errors)

        running = [(role, start(role)) for role, n in ROLES.items() for _ in range(n)]
        kills, end = 0, time.time() + seconds
        while time.time() < end:
            time.sleep(random.uniform(0.5, 1.2))
            i = random.randrange(len(running))
            role, process = running[i]
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            running[i] = (role, start(role))
        for _, process in running:
            process.kill()
            process.wait()
    report = audit(root, [json.loads(line) for line in diary.read_text().splitlines()])
    crashes = Path(root + ".errors").read_text()
    return {"seconds": seconds, "kills": kills, **report, "crashes": crashes[-2000:]}


def audit(root: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    """What the morning finds."""
    store = Store.open(root)
    state = store.snapshot()
    acknowledged = [event["unit"] for event in events if event["event"] == "acknowledged"]
    counts = store.sql(
        "SELECT count(*) AS n, count(DISTINCT (doc_id, critic)) AS d FROM critiques_all"
    ).to_pylist()[0]
    pins = store.pins.all()
    for name in pins:
        store.pins.release(name)
    time.sleep(GRACE)
    for _ in range(2):
        collect(store, keep_versions=1, keep=timedelta(0), grace=timedelta(0))
    report = verify(store)
    return {
        "versions": state.version,
        "acknowledged": len(acknowledged),
        "lost": sum(unit not in state.units for unit in acknowledged),
        "rows": counts["n"],
        "duplicate_rows": counts["n"] - counts["d"],
        "rows_off": counts["n"] - DOCUMENTS * len(state.units),
        "missing_under_a_pin": sum(len(e["missing"]) for e in events if e["event"] == "read"),
        "reads": sum(event["event"] == "read" for event in events),
        "problems": [f"{p.path}: {p.what}" for p in report.problems],
        "orphans": len(report.orphans),
        "events": dict(Counter(event["event"] for event in events)),
    }


def main() -> None:
    """Runs the night, or one role of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", default=None, help="where to; a temporary folder by default")
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
    with tempfile.TemporaryDirectory() as folder:
        report = night(options.store or f"{folder}/store", options.seconds, options.seed)
    print(json.dumps(report))
    bad = ("lost", "duplicate_rows", "rows_off", "missing_under_a_pin", "problems", "orphans")
    sys.exit(any(report[key] for key in bad) or not report["acknowledged"])


if __name__ == "__main__":
    main()
