"""Ingest of JSON lines: against peers that write shards, one core against all, and memory.

    python tools/benchmarks/ingest.py [--quick] [--output json]

Each measurement runs in a process of its own, ours and the peers' in turn; the values are medians.
Imports are not counted in seconds. On a machine with other work, compare processor seconds.
The input is random words with an id, a URL and numbers.
"""

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson
from measurements import (
    ROUNDS,
    Measurement,
    check_limit,
    compare,
    log,
    parse_arguments,
    report,
)
from peers_env import datatrove_python

from ixt_data.worker_processes import cores

SCRIPT = Path(__file__).with_name("ingest_peers.py")
PACKAGES = ("mosaicml-streaming", "datasets", "duckdb", "pyarrow", "orjson", "zstandard")
STORES_SHARDS = ("streaming", "datasets", "datatrove")


def write_lines(path: Path, megabytes: int) -> int:
    """Write an input of this size, once more in 8 files of a folder; return its documents."""
    chooser = random.Random(megabytes)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chooser.choices(letters, k=chooser.randint(2, 10))) for _ in range(20_000)]
    size = documents = 0
    folder = path.with_suffix("")
    folder.mkdir()
    files = [(folder / f"{i}.jsonl").open("wb") for i in range(8)]
    with path.open("wb") as file:
        while size < megabytes << 20:
            record = {
                "id": f"d-{documents}",
                "text": " ".join(chooser.choices(words, k=chooser.randint(50, 700))),
                "url": f"https://example.com/{documents}",
                "likes": documents % 1000,
                "quality": chooser.random(),
            }
            line = orjson.dumps(record) + b"\n"
            file.write(line)
            files[documents % 8].write(line)
            size += len(line)
            documents += 1
    for piece in files:
        piece.close()
    return documents


def run(name: str, path: Path, workers: int) -> dict[str, float] | None:
    """Return seconds, processor seconds and memory of one run; None if the peer cannot run."""
    python: Path | None = Path(sys.executable)
    if name == "datatrove":
        python = datatrove_python()
    if python is None:
        return None
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [str(python), str(SCRIPT), name, str(path), folder, str(workers)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        log(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(
    path: Path, runs: list[tuple[str, int]], rounds: int
) -> tuple[list[float | None], list[float | None]]:
    """Return median seconds and processor seconds of peers, each with a number of workers."""
    times: list[list[Any]] = [[] for _ in runs]
    for _ in range(rounds):
        for column, (name, workers) in zip(times, runs, strict=True):
            if None not in column:
                found = run(name, path, workers)
                column.append(found)
                log(f"  {name}, {workers} workers: {found}")
    seconds, cpu = (
        [None if None in runs else statistics.median(run[key] for run in runs) for runs in times]
        for key in ("seconds", "cpu")
    )
    return seconds, cpu


def measure_speed(folder: Path, quick: bool) -> list[Measurement]:
    """Measure all peers on all cores, and ixt on one."""
    path = folder / "speed.jsonl"
    documents = write_lines(path, 150 if quick else 600)
    megabytes = path.stat().st_size / 1e6
    log(f"{documents:,} documents, {megabytes:,.0f} MB")
    n = cores()
    runs = [("ixt", n), ("ixt", 1), ("duckdb", n), *((name, n) for name in STORES_SHARDS)]
    seconds, cpu = medians(path, runs, 1 if quick else ROUNDS)
    ours, single, limit, *peers = seconds
    assert ours is not None
    assert single is not None
    assert cpu[0] is not None
    speed = megabytes / ours
    found = [
        compare(f"{n} cores", speed, "MB/s", "one core", megabytes / single, 1.7, is_maximum=False),
        compare(
            *(f"{n} cores", documents / ours, "documents/s", "one core", documents / single, 1.7),
            is_maximum=False,
        ),
        compare(
            *(f"{n} cores", cpu[0], "processor s", "one core", cpu[1], 1.2),
            is_maximum=True,
        ),
        # DuckDB only reads.
        compare(
            *("against the limit", speed, "MB/s", "DuckDB reads", limit and megabytes / limit, 0.1),
            is_maximum=False,
        ),
    ]
    for name, seconds in zip(STORES_SHARDS, peers, strict=True):
        value = seconds and megabytes / seconds
        found.append(compare("against a peer", speed, "MB/s", name, value, 2.0, is_maximum=False))
    path.unlink()
    shutil.rmtree(path.with_suffix(""))
    return found


def measure_memory(folder: Path, quick: bool) -> list[Measurement]:
    """Measure the largest process of an ingest, for an input and for one of four times the size."""
    peaks = []
    for megabytes in (128, 512) if quick else (512, 2048):
        path = folder / f"{megabytes}.jsonl"
        write_lines(path, megabytes)
        shutil.rmtree(path.with_suffix(""))
        found = run("ixt", path, cores())
        assert found is not None
        log(f"  {megabytes} MB: {found}")
        peaks.append(found["memory"])
        path.unlink()
    growth = peaks[1] / peaks[0]
    return [check_limit("memory of 4 times the input", growth, "x", 1.15, is_maximum=True)]


def main() -> None:
    """Run all measurements."""
    options = parse_arguments(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        measurements = measure_speed(folder, options.quick) + measure_memory(folder, options.quick)
    report(measurements, PACKAGES, options.output)


if __name__ == "__main__":
    main()
