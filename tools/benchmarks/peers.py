"""One loader in a separate process: a shuffled epoch for every line on stdin.

    python peers.py NAME DOCUMENTS.parquet FOLDER WORKERS

Each peer writes the documents (text and critique) in its own format, as its manual recommends, and
reads them as dicts. `stream.py` runs it with the interpreter of the peers.
"""

import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

COLUMNS = ("text", "critique")
BATCH = 256
# An epoch of one pass takes a tenth of a second, of which workers need a part to begin it.
LONG = 10
Read = Callable[[], Iterable[Any]]


def documents(source: Path) -> Iterator[dict[str, str]]:
    """Yield the documents in order."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(source).iter_batches():
        yield from batch.to_pylist()


def identity(record: dict[str, str]) -> dict[str, str]:
    """Return the document, which LitData stores."""
    return record


def samples(dataset: Any, workers: int) -> Read:
    """Return a reader of the samples of a torch dataset, directly or through worker processes.

    The workers live from epoch to epoch: an epoch here takes less time than their start.
    """
    from torch.utils.data import DataLoader

    if not workers:
        return lambda: dataset
    loader = DataLoader(
        dataset, batch_size=BATCH, num_workers=workers, collate_fn=list, persistent_workers=True
    )
    return lambda: chain.from_iterable(loader)


def ixt(source: Path, folder: Path, workers: int, passes: int = 1) -> Read:
    """Read ixt's stream: text and critique are separate families, joined while reading."""
    from ixt_data.mix import Mix, plan_mix
    from ixt_data.store import Store
    from ixt_train.stream import MixStream, data_loader

    store = Store.open(source)
    mix, size = Mix(critic="bench"), BATCH if workers else 1
    samples = plan_mix(mix, store=store, batch=BATCH).samples * passes
    plan = plan_mix(mix, samples, store=store, batch=size)
    stream = MixStream(plan, None, store=store.root, local=folder / "local", batch_size=size)
    if not workers:
        return lambda: stream
    loader = data_loader(stream, workers=workers, persistent_workers=True)
    return lambda: chain.from_iterable(loader)


def streaming(source: Path, folder: Path, workers: int) -> Read:
    """Read the stock StreamingDataset."""
    from streaming import MDSWriter, StreamingDataset

    columns = dict.fromkeys(COLUMNS, "str")
    with MDSWriter(columns=columns, out=str(folder / "mds"), size_limit=1 << 25) as writer:
        for record in documents(source):
            writer.write(record)
    dataset = StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=BATCH)
    return samples(dataset, workers)


def litdata(source: Path, folder: Path, workers: int) -> Read:
    """Read LitData with uncompressed chunks."""
    import litdata

    target = str(folder / "chunks")
    litdata.optimize(
        fn=identity,
        inputs=list(documents(source)),
        output_dir=target,
        chunk_bytes="32MB",
        num_workers=1,
        verbose=False,
    )
    dataset = litdata.StreamingDataset(target, shuffle=True)
    if not workers:
        return lambda: dataset
    loader = litdata.StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=workers, collate_fn=list, persistent_workers=True
    )
    return lambda: chain.from_iterable(loader)


def webdataset(source: Path, folder: Path, workers: int) -> Read:
    """Read WebDataset with one tar per 10,000 documents."""
    import webdataset

    names: list[str] = []
    for number, record in enumerate(documents(source)):
        if number % 10_000 == 0:
            names.append(str(folder / f"{len(names):05d}.tar"))
            tar = tarfile.open(names[-1], "w")  # noqa: SIM115
        for column in COLUMNS:
            data = record[column].encode()
            info = tarfile.TarInfo(f"{number:09d}.{column}.txt")
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
        if number % 10_000 == 9_999:
            tar.close()
    tar.close()
    dataset = webdataset.WebDataset(names, shardshuffle=len(names)).shuffle(1000).decode()
    return samples(dataset, workers)


def datasets(source: Path, folder: Path, workers: int) -> Read:
    """Read Hugging Face datasets, streaming from Parquet."""
    from datasets import load_dataset

    files = {"train": str(source)}
    dataset = load_dataset(
        "parquet", data_files=files, split="train", streaming=True, cache_dir=str(folder)
    )
    shuffled = dataset.shuffle(seed=0, buffer_size=1000)
    return samples(shuffled, workers)


def lancedb(source: Path, folder: Path, workers: int) -> Read:
    """Read a shuffled permutation of a LanceDB table."""
    import lancedb
    import pyarrow.parquet as pq
    from lancedb.permutation import Permutation, permutation_builder
    from torch.utils.data import DataLoader

    table = lancedb.connect(str(folder)).create_table("documents", pq.read_table(source))
    shuffled = permutation_builder(table).shuffle(seed=0).execute()
    permutation = Permutation.from_tables(table, shuffled)
    if not workers:
        return lambda: (sample for batch in permutation.iter(BATCH) for sample in batch)
    loader: Any = DataLoader(
        permutation,
        batch_size=BATCH,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    return lambda: chain.from_iterable(loader)


PEERS = {peer.__name__: peer for peer in (litdata, lancedb, datasets, webdataset, streaming)}


def main() -> None:
    """Print `{"samples": n, "seconds": s}` for every line; the first is not counted."""
    name, source, folder, workers = sys.argv[1:]
    # Output of libraries must not mix with the results.
    results, sys.stdout = sys.stdout, sys.stderr
    Path(folder).mkdir(parents=True, exist_ok=True)
    read = {**PEERS, "ixt": ixt, "ixt-long": partial(ixt, passes=LONG)}[name](
        Path(source), Path(folder), int(workers)
    )
    for _ in sys.stdin:
        start = time.perf_counter()
        n_samples = sum(1 for _ in read())
        elapsed = time.perf_counter() - start
        print(json.dumps({"samples": n_samples, "seconds": elapsed}), file=results, flush=True)


if __name__ == "__main__":
    main()
