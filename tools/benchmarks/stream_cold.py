"""The stream from a slow remote; reference: the stock StreamingDataset."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import peers
from documents_store import CRITIC, make_store, write_parquet
from isolate import run_isolated
from measurements import ROUNDS, Measurement, compare, log

LATENCY = 0.02


def _slow_remote() -> None:
    """Register a remote `slow://folder` whose requests take 20 ms, for ixt and for stock."""
    import shutil

    from streaming.base.storage import download

    class Slow(download.CloudDownloader):  # type: ignore[misc]
        @staticmethod
        def prefix() -> str:
            return "slow://"

        @staticmethod
        def client_name() -> str:
            return "slow"

        def _client_identifier(self) -> str:
            return "slow"

        def clean_up(self) -> None:
            pass

        def _validate_path(self, remote: str, cloud_prefix: str | None = None) -> None:
            pass

        def _download_file_impl(self, remote: str, local: str, timeout: float) -> None:
            time.sleep(LATENCY)
            shutil.copyfile(remote.removeprefix("slow://"), local)

    download.DOWNLOADER_MAPPINGS["slow"] = Slow


def cold_once(which: str, store_root: Path, mds: Path) -> tuple[float, float]:
    """Return seconds to the first batch and to the end of an epoch without local files."""
    _slow_remote()
    with tempfile.TemporaryDirectory() as local:
        dataset = _ours_cold(store_root, local) if which == "ours" else _stock_cold(mds, local)
        start = time.perf_counter()
        samples, first = iter(dataset), 0.0
        for number, _ in enumerate(samples):
            if number == peers.BATCH:
                first = time.perf_counter() - start
        return first, time.perf_counter() - start


def _ours_cold(store_root: Path, local: str) -> Any:
    from ixt_data.mix import Mix, plan_mix
    from ixt_data.store import Store
    from ixt_train.stream import MixStream

    plan = plan_mix(Mix(critic=CRITIC), store=Store.open(store_root), batch=peers.BATCH)
    return MixStream(plan, None, store=f"slow://{store_root}", local=local, batch_size=peers.BATCH)


def _stock_cold(mds: Path, local: str) -> Any:
    from streaming import StreamingDataset

    return StreamingDataset(
        remote=f"slow://{mds}", local=local, shuffle=True, batch_size=peers.BATCH
    )


def measure_cold(folder: Path, quick: bool) -> list[Measurement]:
    """Measure ixt (two families) and stock (one record) from a remote with 20 ms per request."""
    import pyarrow.parquet as pq
    from streaming import MDSWriter

    documents = 15_000 if quick else 60_000
    log("cold, from a slow remote ...")
    store, mds = folder / "cold", folder / "cold-mds"
    make_store(store, documents, shard_bytes=1 << 22)
    table = folder / "cold.parquet"
    write_parquet(table, documents)
    columns = dict.fromkeys(peers.COLUMNS, "str")
    options = {"size_limit": 1 << 22, "compression": "zstd:3", "hashes": ["xxh64"]}
    with MDSWriter(columns=columns, out=str(mds), **options) as writer:
        for record in pq.read_table(table).to_pylist():
            writer.write(record)
    times = [[run_isolated(cold_once, which, store, mds) for which in ("ours", "stock")]
             for _ in range(ROUNDS)]  # fmt: skip
    measurements = []
    for index, what in enumerate(("first batch", "complete epoch")):
        ours, theirs = (statistics.median(t[side][index] for t in times) for side in (0, 1))
        name = f"{what}, cold, 20 ms per request"
        measurements.append(
            compare(name, ours, "s", "stock StreamingDataset", theirs, 1.0, is_maximum=True)
        )
    return measurements
