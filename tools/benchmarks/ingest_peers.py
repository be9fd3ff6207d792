"""Peers of `ixt ingest`: each reads JSON lines and writes shards, in a process of its own.

    python ingest_peers.py NAME INPUT.jsonl FOLDER WORKERS

Each prints its seconds without imports, its processor seconds with them, and the peak memory of its
largest process in MiB, as one JSON object.
"""

import json
import resource
import sys
import time
from pathlib import Path


def streaming(path: Path, folder: Path, workers: int) -> float:
    """Write MDS shards of the same columns, size and compression, with a reader by orjson."""
    import orjson
    from streaming import MDSWriter

    columns = {"id": "str", "text": "str", "url": "str"}
    start = time.perf_counter()
    with (
        MDSWriter(
            columns=columns,
            out=str(folder / "mds"),
            compression="zstd:3",
            hashes=["xxh64"],
            size_limit=1 << 26,
        ) as writer,
        path.open("rb") as lines,
    ):
        for line in lines:
            record = orjson.loads(line)
            writer.write({name: record[name] for name in columns})
    return time.perf_counter() - start


def datasets(path: Path, folder: Path, workers: int) -> float:
    """Load the lines as a dataset, and save it as uncompressed Arrow shards."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    start = time.perf_counter()
    loaded = load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(folder / "cache")
    )
    loaded.save_to_disk(folder / "saved")
    return time.perf_counter() - start


def duckdb(path: Path, folder: Path, workers: int) -> float:
    """Read every value of the lines, and write nothing: the limit."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {workers}")
    start = time.perf_counter()
    # A hash needs every value, and no place.
    found = connection.execute(f"SELECT sum(hash(rows)) FROM read_json('{path}') rows").fetchall()
    assert found
    return time.perf_counter() - start


def datatrove(path: Path, folder: Path, workers: int) -> float:
    """Read the lines and write compressed JSON lines, as datatrove's manual does."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.logging import logger

    logger.remove()
    start = time.perf_counter()
    # It divides inputs by file; the caller has divided the input.
    pieces = path.with_suffix("")
    LocalPipelineExecutor(
        pipeline=[JsonlReader(str(pieces)), JsonlWriter(str(folder / "out"), compression="gzip")],
        tasks=len([*pieces.iterdir()]),
        workers=workers,
        logging_dir=str(folder / "logs"),
    ).run()
    return time.perf_counter() - start


def ixt(path: Path, folder: Path, workers: int) -> float:
    """Ingest the lines: types, ids, deduplication, compressed MDS shards, rows in Parquet."""
    from ixt_data.ingestion import ingest, open_inputs
    from ixt_data.store import open_store

    store = open_store(folder / "S", create=True)
    start = time.perf_counter()
    ingest(store, "web", open_inputs([path]), workers=workers)
    return time.perf_counter() - start


PEERS = {f.__name__: f for f in (ixt, streaming, datasets, duckdb, datatrove)}


def main() -> None:
    """Run one peer."""
    name, path, folder, workers = sys.argv[1:]
    seconds = PEERS[name](Path(path), Path(folder), int(workers))
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    memory = max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024
    cpu = sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "memory": memory}))


if __name__ == "__main__":
    main()
