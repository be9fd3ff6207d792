"""Speed of the store: commits, queries over 20M critiques, ingest.

    python tools/benchmarks/store.py --output json

Commits beside Delta Lake's, queries beside DuckDB over one sorted Parquet file a table, ingest
beside streaming's MDSWriter fed with the same parsed documents.
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
from figures import ROUNDS, Figure, beside, bound, in_turn, parser, report, say, seconds
from isolate import apart, peak_memory
from moto_server import s3_server
from store_queries import query_figures

from ixt_data.ingestion import ingest
from ixt_data.log import RowsFile
from ixt_data.store import Store, Transaction

PACKAGES = ("ixt", "duckdb", "pyarrow", "deltalake", "mosaicml-streaming")


def add_file_of_rows(txn: Transaction) -> None:
    """Adds one small file that nobody reads."""
    key = f"meta/critiques/c/{txn.id}-0.parquet"
    (txn.scratch / key).parent.mkdir(parents=True)
    (txn.scratch / key).write_bytes(b"x" * 4000)
    txn.add_rows_file(RowsFile(key, "critiques", "c", 1, 4000, "", {}))


def commit_empty(store: Store, n: int) -> list[float]:
    """Milliseconds of each of `n` commits of one small file of rows."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        with store.begin("critique") as txn:
            add_file_of_rows(txn)
            txn.commit()
        times.append(1000 * (time.perf_counter() - start))
    return times


LOW, HIGH = 500, 5000
WINDOW = 60
"""Commits whose median is one round; three rounds are up to each age of the store."""


def commit_figures(folder: Path, quick: bool) -> list[Figure]:
    """Commit latency at two ages of the store, and Delta Lake's appends in turn with ours.

    A quick run is the same: what is asked is what age does.
    """
    store = Store.init(folder / "commits")
    delta = _delta_table(folder / "delta")
    commit_empty(store, LOW - ROUNDS * WINDOW)
    delta(LOW - ROUNDS * WINDOW)
    rounds = [(commit_empty(store, WINDOW), delta(WINDOW)) for _ in range(ROUNDS)]
    early = statistics.median(statistics.median(ours) for ours, _ in rounds)
    theirs = [statistics.median(times) for _, times in rounds if times]
    commit_empty(store, HIGH - LOW - ROUNDS * WINDOW)
    late = statistics.median(statistics.median(commit_empty(store, WINDOW)) for _ in range(ROUNDS))
    (opened,) = in_turn(lambda: Store.open(store.root).snapshot())
    at_low, at_high = f"commit p50 at {LOW} versions", f"commit p50 at {HIGH:,} versions"
    reference = statistics.median(theirs) if theirs else None
    return [
        bound(at_low, early, "ms", 10, most=True),
        beside(at_high, late, "ms", f"ours at {LOW}", early, 1.5, most=True),
        beside(
            f"{at_low}, in turn", early, "ms", "Delta append, no fsync", reference, 1.0, most=True
        ),
        bound(f"open at {HIGH:,} versions", 1000 * opened, "ms", 1000, most=True),
    ]


def _delta_table(folder: Path) -> Callable[[int], list[float]]:
    """Appends to a Delta table; milliseconds of each, none without deltalake."""
    try:
        import pyarrow as pa
        from deltalake import write_deltalake
    except ImportError:
        return lambda n: []
    rows = pa.table({"score": [0.5] * 10})

    def append(n: int) -> list[float]:
        write = partial(write_deltalake, str(folder), rows, mode="append")
        return [1000 * seconds(write) for _ in range(n)]

    return append


def _commit_until(root: str, end: float, counts: "multiprocessing.Queue[int]") -> None:
    store, n = Store.open(root), 0
    while time.time() < end:
        commit_empty(store, 1)
        n += 1
    counts.put(n)


def writer_figures(folder: Path, quick: bool) -> list[Figure]:
    """Four processes that commit at once."""
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
        bound("4 writer processes together", acknowledged / elapsed, "commits/s", 150, most=False),
        bound("4 writer processes: failed", failed, "writers", 0, most=True),
        bound("4 writer processes: lost", acknowledged - len(state.rows), "commits", 0, most=True),
    ]


def _commit_on_s3(root: str, units: int, shards: bool, start: Any, counts: Any) -> None:
    """Commits `units` times, and says how many requests that took."""
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


def s3_figures(folder: Path, quick: bool) -> list[Figure]:
    """Requests of four processes that commit to S3 at once, from the first byte to the entry."""
    os.environ["IXT_CACHE"] = str(folder / "cache")
    units = 15 if quick else 50
    context = multiprocessing.get_context("spawn")
    figures = []
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
            title, unit = f"S3, 4 writers: {name}", "requests a commit"
            # Of a whole unit 4 requests are its own, and 3 read what the others have committed.
            goal = (
                Figure(title, requests, unit)
                if shards
                else bound(title, requests, unit, 6, most=True)
            )
            figures.append(goal)
            figures.append(bound(f"{title}: lost", lost, "commits", 0, most=True))
    return figures


def make_documents(path: Path, size: int) -> int:
    """A JSONL.zst of about `size` bytes of text of 2 KB documents; returns their number."""
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
    """The reference: the same documents parsed and written by streaming's own writer."""
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


def ingest_figures(folder: Path, quick: bool) -> list[Figure]:
    """Ingest of JSONL.zst, whole way, beside MDSWriter alone."""
    import streaming  # noqa: F401  its import is not what is measured

    size = (50 if quick else 1000) * 1_000_000
    source = folder / "documents.jsonl.zst"
    say(f"making {size:,} bytes of documents ...")
    documents = make_documents(source, size)
    numbers = iter(range(100))

    def ours() -> None:
        store = Store.init(folder / f"ingest-{next(numbers)}")
        ingest(store, "web", [source])

    def theirs() -> None:
        write_with_mdswriter(source, folder / f"mds-{next(numbers)}")

    say("ingesting ...")
    a, b = in_turn(ours, theirs)
    third = folder / "third.jsonl.zst"
    make_documents(third, size // 3)
    # Both write several shards: with one or two the memory is still growing.
    shard = size // 16
    less, more = (apart(ingest_memory, path, folder / path.stem, shard) for path in (third, source))
    name, reference = "memory of ingest, above its imports", "a third of the documents"
    return [
        beside(
            "ingest",
            documents / a,
            "documents/s",
            "MDSWriter alone",
            documents / b,
            0.7,
            most=False,
        ),
        beside(name, more, "MiB", reference, less, 1.25, most=True),
    ]


def ingest_memory(source: Path, root: Path, shard_bytes: int) -> float:
    """MiB that an ingest takes at most, above what its process takes before."""
    store = Store.init(root)
    before = peak_memory()
    ingest(store, "web", [source], shard_bytes=shard_bytes)
    return peak_memory() - before


PARTS: dict[str, Callable[[Path, bool], list[Figure]]] = {
    "commits": commit_figures,
    "writers": writer_figures,
    "s3": s3_figures,
    "ingest": ingest_figures,
    "queries": query_figures,
}


def main() -> None:
    """Runs the parts that were asked for."""
    options_of = parser(__doc__)
    options_of.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = options_of.parse_args()
    figures: list[Figure] = []
    for name in options.parts:
        say(f"== {name}")
        with tempfile.TemporaryDirectory() as folder:
            figures += PARTS[name](Path(folder), options.quick)
    report(figures, PACKAGES, options.output)


if __name__ == "__main__":
    main()
