"""Speed of the store: commits, queries over 20M critiques, ingest.

    python tools/benchmarks/store.py --output json

The references: commits of Delta Lake, DuckDB over one sorted Parquet file per table, and
streaming's MDSWriter with the same parsed documents.
"""

import io
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import zstandard
from isolate import peak_memory, run_isolated
from measurements import (
    ROUNDS,
    Measurement,
    check_limit,
    compare,
    interleave,
    log,
    make_parser,
    measure_seconds,
    report,
)
from moto_server import s3_server
from store_queries import measure_queries

from ixt_data.ingestion import ingest
from ixt_data.log import RowsFile
from ixt_data.store import Store, Transaction

PACKAGES = ("ixt", "duckdb", "pyarrow", "deltalake", "mosaicml-streaming")


def add_file_of_rows(txn: Transaction) -> None:
    """Add one small file that no query reads."""
    key = f"meta/critiques/c/{txn.id}-0.parquet"
    (txn.scratch / key).parent.mkdir(parents=True)
    (txn.scratch / key).write_bytes(b"x" * 4000)
    txn.add_rows_file(RowsFile(key, "critiques", "c", 1, 4000, "", {}))


def commit_empty(store: Store, n: int) -> list[float]:
    """Return the milliseconds of each of `n` commits of one small file of rows."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        with store.begin("critique") as txn:
            add_file_of_rows(txn)
            txn.commit()
        times.append(1000 * (time.perf_counter() - start))
    return times


LOW, HIGH = 500, 5000
COMMITS_PER_ROUND = 60


def measure_commits(folder: Path, quick: bool) -> list[Measurement]:
    """Measure commit latency at two ages of the store, interleaved with appends of Delta Lake.

    A quick run measures the same, because the age of the store is what matters.
    """
    store = Store.init(folder / "commits")
    delta = _delta_table(folder / "delta")
    commit_empty(store, LOW - ROUNDS * COMMITS_PER_ROUND)
    delta(LOW - ROUNDS * COMMITS_PER_ROUND)
    rounds = [
        (commit_empty(store, COMMITS_PER_ROUND), delta(COMMITS_PER_ROUND)) for _ in range(ROUNDS)
    ]
    early = statistics.median(statistics.median(ours) for ours, _ in rounds)
    theirs = [statistics.median(times) for _, times in rounds if times]
    commit_empty(store, HIGH - LOW - ROUNDS * COMMITS_PER_ROUND)
    late = statistics.median(
        statistics.median(commit_empty(store, COMMITS_PER_ROUND)) for _ in range(ROUNDS)
    )
    (opened,) = interleave(lambda: Store.open(store.root).snapshot())
    at_low, at_high = f"commit p50 at {LOW} versions", f"commit p50 at {HIGH:,} versions"
    reference = statistics.median(theirs) if theirs else None
    return [
        check_limit(at_low, early, "ms", 10, is_maximum=True),
        compare(at_high, late, "ms", f"ours at {LOW}", early, 1.5, is_maximum=True),
        compare(
            f"{at_low}, interleaved",
            early,
            "ms",
            "Delta append, no fsync",
            reference,
            1.0,
            is_maximum=True,
        ),
        check_limit(f"open at {HIGH:,} versions", 1000 * opened, "ms", 1000, is_maximum=True),
    ]


def _delta_table(folder: Path) -> Callable[[int], list[float]]:
    """Return a function that times appends to a Delta table; no times without deltalake."""
    try:
        import pyarrow as pa
        from deltalake import write_deltalake
    except ImportError:
        return lambda n: []
    rows = pa.table({"score": [0.5] * 10})

    def append(n: int) -> list[float]:
        write = partial(write_deltalake, str(folder), rows, mode="append")
        return [1000 * measure_seconds(write) for _ in range(n)]

    return append


def _commit_until(root: str, end: float, counts: "multiprocessing.Queue[int]") -> None:
    store, n = Store.open(root), 0
    while time.time() < end:
        commit_empty(store, 1)
        n += 1
    counts.put(n)


def measure_writers(folder: Path, quick: bool) -> list[Measurement]:
    """Measure four processes that commit concurrently."""
    store = Store.init(folder / "writers")
    duration = 3.0 if quick else 10.0
    context = multiprocessing.get_context("spawn")
    counts: multiprocessing.Queue[int] = context.Queue()
    end = time.time() + 2 + duration
    start = time.time() + 2
    workers = [
        context.Process(target=_commit_until, args=(store.root, end, counts)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    acknowledged = sum(counts.get() for _ in workers)
    for worker in workers:
        worker.join()
    elapsed = time.time() - start
    state = Store.open(store.root).snapshot()
    failed = sum(worker.exitcode != 0 for worker in workers)
    return [
        check_limit(
            "4 writer processes together",
            acknowledged / elapsed,
            "commits/s",
            150,
            is_maximum=False,
        ),
        check_limit("4 writer processes: failed", failed, "writers", 0, is_maximum=True),
        check_limit(
            "4 writer processes: lost",
            acknowledged - len(state.rows),
            "commits",
            0,
            is_maximum=True,
        ),
    ]


def _commit_on_s3(root: str, units: int, shards: bool, start: Any, counts: Any) -> None:
    """Commit `units` times, and report the number of requests."""
    from ixt_data.mds import TEXT_COLUMNS

    store = Store.open(root)
    version, requests = store.snapshot().version, 0

    def count(**_: Any) -> None:
        nonlocal requests
        requests += 1

    store.storage.client.meta.events.register("before-send.s3", count)  # type: ignore[attr-defined]
    start.wait()
    for _ in range(units):
        with store.begin("critique", base=version) as txn:
            if shards:
                family = txn.family("text", "web", TEXT_COLUMNS)
                family.write({"doc_id": b"x" * 16, "source": "", "source_id": "", "text": txn.id})
                family.cut()
            add_file_of_rows(txn)
            version = txn.commit()
    counts.put(requests)


def measure_s3(folder: Path, quick: bool) -> list[Measurement]:
    """Measure the requests of four processes that commit to S3 concurrently."""
    os.environ["IXT_CACHE"] = str(folder / "cache")
    units = 15 if quick else 50
    context = multiprocessing.get_context("spawn")
    measurements = []
    with s3_server() as bucket:
        for shards, name in ((False, "rows, entry"), (True, "shard, index, rows, entry")):
            root = Store.init(f"{bucket}/{shards}").root
            start, counts = context.Barrier(4), context.Queue()
            workers = [
                context.Process(target=_commit_on_s3, args=(root, units, shards, start, counts))
                for _ in range(4)
            ]
            for worker in workers:
                worker.start()
            requests = sum(counts.get() for _ in workers) / (4 * units)
            for worker in workers:
                worker.join()
            lost = 4 * units - Store.open(root).snapshot().version
            title, unit = f"S3, 4 writers: {name}", "requests per commit"
            # A unit needs 4 requests; 3 more read the commits of the other writers.
            goal = (
                Measurement(title, requests, unit)
                if shards
                else check_limit(title, requests, unit, 6, is_maximum=True)
            )
            measurements.append(goal)
            measurements.append(check_limit(f"{title}: lost", lost, "commits", 0, is_maximum=True))
    return measurements


def make_documents(path: Path, size: int) -> int:
    """Write a JSONL.zst of 2 KB documents with `size` bytes of text; return their number."""
    words = [f"{random.Random(i).getrandbits(40):x}"[: 2 + i % 9] for i in range(20_000)]
    chooser, written, n = random.Random(0), 0, 0
    with path.open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as file:
        while written < size:
            text = " ".join(chooser.choices(words, k=320))
            record = {"id": n, "text": text, "url": f"https://example.org/{n}", "lang": "en"}
            file.write(json.dumps(record).encode() + b"\n")
            written += len(text)
            n += 1
    return n


def write_with_mdswriter(path: Path, out: Path) -> None:
    """Parse the same documents and write them with streaming's MDSWriter, the reference."""
    from streaming import MDSWriter

    columns = {"doc_id": "bytes", "source": "str", "source_id": "str", "text": "str"}
    with (
        MDSWriter(columns=columns, out=str(out), compression="zstd:3", hashes=["xxh64"]) as writer,
        path.open("rb") as raw,
    ):
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(raw), "utf-8"):
            record = json.loads(line)
            sample = {"doc_id": uuid.uuid4().bytes, "source": "x", "source_id": str(record["id"])}
            writer.write({**sample, "text": record["text"]})


def measure_ingest(folder: Path, quick: bool) -> list[Measurement]:
    """Measure the ingestion of JSONL.zst, with MDSWriter as reference."""
    import streaming  # noqa: F401  its import is not measured

    size = (50 if quick else 1000) * 1_000_000
    source = folder / "documents.jsonl.zst"
    log(f"creating {size:,} bytes of documents ...")
    documents = make_documents(source, size)
    numbers = iter(range(100))

    def ours() -> None:
        store = Store.init(folder / f"ingest-{next(numbers)}")
        ingest(store, "web", [source])

    def theirs() -> None:
        write_with_mdswriter(source, folder / f"mds-{next(numbers)}")

    log("ingesting ...")
    a, b = interleave(ours, theirs)
    third = folder / "third.jsonl.zst"
    make_documents(third, size // 3)
    # Both write several shards: with one or two, memory still grows.
    shard = size // 16
    small, large = (
        run_isolated(ingest_memory, path, folder / path.stem, shard) for path in (third, source)
    )
    name, reference = "memory of ingest, above its imports", "a third of the documents"
    return [
        compare(
            "ingest",
            documents / a,
            "documents/s",
            "MDSWriter alone",
            documents / b,
            0.7,
            is_maximum=False,
        ),
        compare(name, large, "MiB", reference, small, 1.25, is_maximum=True),
    ]


def ingest_memory(source: Path, root: Path, shard_bytes: int) -> float:
    """Return the peak memory of an ingestion in MiB, above that of its process before."""
    store = Store.init(root)
    before = peak_memory()
    ingest(store, "web", [source], shard_bytes=shard_bytes)
    return peak_memory() - before


PARTS: dict[str, Callable[[Path, bool], list[Measurement]]] = {
    "commits": measure_commits,
    "writers": measure_writers,
    "s3": measure_s3,
    "ingest": measure_ingest,
    "queries": measure_queries,
}


def main() -> None:
    """Run the requested parts."""
    options_of = make_parser(__doc__)
    options_of.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = options_of.parse_args()
    measurements: list[Measurement] = []
    for name in options.parts:
        log(f"== {name}")
        with tempfile.TemporaryDirectory() as folder:
            measurements += PARTS[name](Path(folder), options.quick)
    report(measurements, PACKAGES, options.output)


if __name__ == "__main__":
    main()
