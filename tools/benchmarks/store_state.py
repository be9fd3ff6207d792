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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

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

T = TypeVar("T")
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


def _use(state: Snapshot) -> None:
    for records in (state.rows, state.shards_by_path, state.commits, state.units):
        len(records)  # type: ignore[arg-type]


def measure(units: int, rounds: int) -> dict[str, Any]:
    """Return processor seconds at a size: checkpoints, and opening the last possible one.

    `complete` reads the last checkpoint, as a commit does, and writes the next complete one. `use`
    is the first use of all records of an opened state, which turns them into objects.
    """
    every = checkpoint.EVERY
    base = 2 * units // every * every
    state = Snapshot()
    for version in range(1, base + 1):
        state.apply(entry(version))
    n_records = len(state.rows) + len(state.shards) + len(state.commits)
    versions = base + n_records // checkpoint.RECORDS_PER_ENTRY // every * every
    names = ("complete", "entries", "open", "use")
    times: dict[str, list[float]] = {name: [] for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}

    def measured(name: str, function: Callable[[], T]) -> T:
        start, start_wall = time.process_time(), time.perf_counter()
        result = function()
        times[name].append(time.process_time() - start)
        wall[name].append(time.perf_counter() - start_wall)
        return result

    with tempfile.TemporaryDirectory() as folder:
        store = Store.init(Path(folder, "S"))
        checkpoint.write(store.storage, state)
        for last in range(base + every, versions + 1, every):
            latest = [entry(version) for version in range(last - every + 1, last + 1)]
            for new in latest:
                state.apply(new)
            measured("entries", partial(checkpoint.write_entries, store.storage, last, latest))
        store.storage.create(commit_log.key(versions), commit_log.encode(entry(versions)))
        store.storage.replace(commit_log.LAST, orjson.dumps({"version": versions}))
        for _ in range(rounds):
            opened = measured("open", lambda: Store.open(store.root).snapshot())
            measured("use", partial(_use, opened))
            if opened != state:
                raise SystemExit("the opened state differs from the written one")
            del opened
        following = [entry(versions + number) for number in range(1, every + 1)]

        def write_complete() -> None:
            complete = checkpoint.read(store.storage, versions)
            for new in following:
                complete.apply(new)
            checkpoint.write(store.storage, complete)

        for _ in range(rounds):
            folder_of_next = Path(store.root, checkpoint.key(versions + every, ""))
            shutil.rmtree(folder_of_next, ignore_errors=True)
            measured("complete", write_complete)
        for new in following:
            state.apply(new)
        if checkpoint.read(store.storage, versions + every) != state:
            raise SystemExit("the complete checkpoint differs from the state")
    medians = {f"{name}_seconds": round(statistics.median(t), 3) for name, t in times.items()}
    medians |= {f"{name}_wall": round(statistics.median(t), 3) for name, t in wall.items()}
    longest = max(times["entries"], default=None)
    return {"units": units, "versions": versions, **medians, "longest_entries_seconds": longest}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    json.dump(measure(options.units, options.rounds), sys.stdout)


if __name__ == "__main__":
    main()
