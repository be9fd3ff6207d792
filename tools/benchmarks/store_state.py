"""The state of a store with a long history: how long a checkpoint and an open take.

The log is synthetic: one text shard and one critique unit per version, with paths, hashes and
schemas of real length. `python tools/benchmarks/store_state.py --units 160000`.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from ixt_data.log import (
    CriticInfo,
    Entry,
    FileInfo,
    RowsFile,
    ShardInfo,
    Snapshot,
    checkpoint,
    commit_log,
)
from ixt_data.store import Store

COLUMNS = (
    "doc_id critic critic_id status score scores expected entropy critique n_thinking_tokens "
    "flags n_spans error attempts shard row"
).split()
SCHEMA = dict.fromkeys(COLUMNS, "VARCHAR") | {"scores": "MAP(VARCHAR, DOUBLE)"}
CRITIC = "quality-0123456789ab"
CONFIG = orjson.dumps({f"column_{i}": "str" for i in range(12)}).decode()


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _shard(family: str, txn: str, number: int, aligned_with: str | None) -> ShardInfo:
    name = f"shard.{number:05d}.mds"
    return ShardInfo(
        f"shards/{family}/{txn}/{name}.zstd",
        family,
        "web",
        4000,
        FileInfo(name, 1 << 26, {"xxh64": _hash(name)[:16]}),
        FileInfo(f"{name}.zstd", 1 << 24, {"xxh64": _hash(txn)[:16]}),
        CONFIG,
        aligned_with,
    )


def entry(version: int) -> Entry:
    """Return an entry: even versions have a text shard, odd ones its critiques."""
    txn = _hash(str(version))[:32]
    text = _shard("text", _hash(f"text {version // 2}")[:32], version // 2 % 100_000, None)
    if version % 2 == 0:
        table, partition, unit, shard = "documents", "web", None, text
    else:
        table, partition, unit = "critiques", CRITIC, f"critique/{CRITIC}:{text.path}"
        shard = _shard(f"critique/{CRITIC}", txn, version // 2 % 100_000, text.path)
    path = f"meta/{table}/{partition}/{txn}-0.parquet"
    rows = RowsFile(path, table, partition, 4000, 1 << 20, _hash(path), dict(SCHEMA))
    critics = [CriticInfo(CRITIC, "quality", {"model": "judge"})] if version == 1 else []
    return Entry(version, txn, "critique", "2026-01-01T00:00:00.000+00:00", unit, [rows],
                 shards_add=[shard], critics=critics)  # fmt: skip


def measure(units: int, rounds: int) -> dict[str, Any]:
    """Return the processor seconds of a checkpoint and of an open at a number of units."""
    versions = 2 * units // checkpoint.EVERY * checkpoint.EVERY
    state = Snapshot()
    times: dict[str, list[float]] = {"checkpoint": [], "open": []}
    with tempfile.TemporaryDirectory() as folder:
        store = Store.init(Path(folder, "S"))
        for version in range(1, versions + 1):
            state.apply(last := entry(version))
        store.storage.create(commit_log.key(versions), commit_log.encode(last))
        store.storage.replace(commit_log.LAST, orjson.dumps({"version": versions}))
        written = Path(store.root, checkpoint.key(versions, ""))
        for _ in range(rounds):
            shutil.rmtree(written, ignore_errors=True)
            start = time.process_time()
            checkpoint.write(store.storage, state)
            times["checkpoint"].append(time.process_time() - start)
        for _ in range(rounds):
            start = time.process_time()
            opened = Store.open(store.root).snapshot()
            times["open"].append(time.process_time() - start)
            if opened != state:
                raise SystemExit("the opened state differs from the written one")
            del opened
        size = sum(file.stat().st_size for file in written.iterdir())
    medians = {f"{name}_seconds": round(statistics.median(t), 3) for name, t in times.items()}
    return {"units": units, "versions": versions, **medians, "checkpoint_bytes": size}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    json.dump(measure(options.units, options.rounds), sys.stdout)


if __name__ == "__main__":
    main()
