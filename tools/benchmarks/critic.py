"""Speed of the vllm critic's client with a server that responds immediately.

    python tools/benchmarks/critic.py --output json

This process is pinned to one core, the server to the others. critic_vllm.py uses a real vLLM.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import instant_server
import uneven_server
from measurements import (
    ROUNDS,
    Measurement,
    check_limit,
    compare,
    interleave,
    log,
    measure_seconds,
    parse_arguments,
    report,
)

from ixt_data.critics import Client, JudgeSampling, PromptBuilder, VllmCritic
from ixt_data.critique_runs import annotate
from ixt_data.ingestion import ingest
from ixt_data.records import Document, document_id
from ixt_data.store import Store

PACKAGES = ("ixt", "aiohttp", "orjson")
GOAL = 2000
BUSY_GOAL = 0.97
SLOTS, MEAN_SECONDS, UNIT_DOCUMENTS = 16, 0.2, 60
CONCURRENCY = 128
DOCUMENT_BYTES = 2048
PLAIN = JudgeSampling(expected=False)
WORDS = "the water of a river carries sand and stones down to the sea where it lays them in banks"


def text(i: int) -> str:
    """Return a unique document of about 2 KB."""
    return f"Page {i}. " + " ".join([WORDS] * 22)


@contextmanager
def serve_instantly() -> Iterator[str]:
    """Start an instant server in a separate process; yield its address."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, instant_server.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            if len(cores) > 1:
                os.sched_setaffinity(server.pid, cores[1:])
            os.sched_setaffinity(0, cores[:1])
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            os.sched_setaffinity(0, cores)
            server.terminate()


def judge(url: str, documents: list[Document], sampling: JudgeSampling) -> None:
    """Critique documents with the critic alone, without storing critiques."""
    with VllmCritic(url, "judge", "web", sampling, concurrency=CONCURRENCY) as critic:
        assert all(critique.status == "ok" for critique in critic.run(documents))


def bare(url: str, documents: list[Document]) -> None:
    """Send the same requests with aiohttp alone, without parsing the responses."""
    with VllmCritic(url, "judge", "web", PLAIN) as critic:
        requests = PromptBuilder("judge", critic.rubric, PLAIN)
        bodies = iter([requests.chat(critic.rubric.user_message(d), 0) for d in documents])

    async def send() -> None:
        client = Client()

        async def worker() -> None:
            for body in bodies:
                await client.post(f"{url}/chat/completions", body, 60.0)

        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
        await client.close()

    asyncio.run(send())


def corpus(folder: Path, n: int, name: str, shard_bytes: int = 8 << 20) -> Store:
    """Create a store with a corpus of n documents."""
    file = folder / f"{name}.jsonl"
    with file.open("w") as lines:
        for i in range(n):
            lines.write(f'{{"text": "{text(i)}", "id": {i}}}\n')
    store = Store.init(folder / name)
    ingest(store, "web", [file], shard_bytes=shard_bytes)
    return store


def critique(url: str, store: Store) -> None:
    """Run a complete critique run: journal, shards, rows, commits."""
    with VllmCritic(url, "judge", "web", PLAIN, concurrency=CONCURRENCY) as critic:
        done = annotate(store, "web", critic)
        assert done.statuses["ok"] == done.documents > 0


def memory(url: str, store: Store) -> float:
    """Return the peak memory in MB of a process that critiques a corpus, above its start."""
    code = (
        "import sys; from isolate import peak_memory\n"
        "from critic import *; import pyarrow.parquet, ixt_data.sql.catalog\n"
        "before = peak_memory(); critique(sys.argv[1], Store.open(sys.argv[2]))\n"
        "print(peak_memory() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, store.root],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def run_seconds(url: str, store: Store) -> tuple[float, float]:
    """Return wall time and processor time of a complete critique run."""
    cpu = time.process_time()
    wall = measure_seconds(lambda: critique(url, store))
    return wall, time.process_time() - cpu


@contextmanager
def serve_unevenly() -> Iterator[str]:
    """Start a judge with few slots and uneven response times; yield its root."""
    command = [sys.executable, uneven_server.__file__, str(SLOTS), str(MEAN_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def busy_share(root: str, store: Store, is_pipelined: bool) -> float:
    """Return the share of the slots' time that they were busy during a critique run."""

    def busy_seconds() -> float:
        with urllib.request.urlopen(f"{root}/busy") as response:
            return float(response.read())

    url = f"{root}/v1"
    with VllmCritic(url, "judge", "web", PLAIN, concurrency=2 * SLOTS) as critic:
        critic.pipelined = is_pipelined
        critic.connect()
        before = busy_seconds()
        seconds = measure_seconds(lambda: annotate(store, "web", critic))
        return (busy_seconds() - before) / (SLOTS * seconds)


def busy_shares(folder: Path, quick: bool) -> tuple[float, float]:
    """Return the median busy shares with units in a pipeline, and with one after the other."""
    n = 600 if quick else 2400
    shares: dict[bool, list[float]] = {True: [], False: []}
    with serve_unevenly() as root:
        for i in range(ROUNDS):
            for is_pipelined in shares:
                name = f"uneven-{is_pipelined}-{i}"
                store = corpus(folder, n, name, shard_bytes=UNIT_DOCUMENTS * DOCUMENT_BYTES)
                shares[is_pipelined].append(busy_share(root, store, is_pipelined))
    return median(shares[True]), median(shares[False])


def measure_critic(folder: Path, quick: bool) -> list[Measurement]:
    """Return all measurements."""
    n = 4000 if quick else 20000
    documents = [Document(document_id(text(i)), text(i)) for i in range(n)]
    with serve_instantly() as url:
        log(f"{n} documents by the critic, and the same requests by aiohttp alone")
        ours, theirs = interleave(
            lambda: judge(url, documents, PLAIN), lambda: bare(url, documents)
        )
        cpu = time.process_time()
        judge(url, documents, PLAIN)
        cpu = time.process_time() - cpu
        (expected,) = interleave(lambda: judge(url, documents, JudgeSampling()))
        log("complete critique runs")
        stores = [corpus(folder, n, f"run{i}") for i in range(ROUNDS)]
        runs = [run_seconds(url, store) for store in stores]
        stored, stored_cpu = (median(column) for column in zip(*runs, strict=True))
        log("memory")
        # Units of equal size, and enough of them: the units that a worker has open fill up first.
        unit = n * DOCUMENT_BYTES // 8
        small, large = (memory(url, corpus(folder, k, f"memory{k}", unit)) for k in (n, 4 * n))
    log("share of time that an uneven judge is busy, over many units")
    piped, sequential = busy_shares(folder, quick)
    return [
        compare(
            "busy share of a judge with uneven responses",
            piped,
            "",
            "one unit after the other",
            sequential,
            1.0,
            is_maximum=False,
        ),
        check_limit("busy share of a judge", piped, "", BUSY_GOAL, is_maximum=False),
        Measurement("documents judged", n / ours, "1/s", "bare aiohttp", n / theirs, theirs / ours),
        check_limit("documents judged, one core", n / ours, "1/s", GOAL, is_maximum=False),
        check_limit("documents judged per CPU-second", n / cpu, "1/s", GOAL, is_maximum=False),
        Measurement("documents judged, with expected scores", n / expected, "1/s"),
        check_limit("documents stored, one core", n / stored, "1/s", GOAL, is_maximum=False),
        check_limit(
            "documents stored per CPU-second", n / stored_cpu, "1/s", GOAL, is_maximum=False
        ),
        Measurement(f"memory, {n} documents", small, "MB"),
        compare(f"memory, {4 * n} documents", large, "MB", f"{n}", small, 1.25, is_maximum=True),
    ]


def main() -> None:
    """Print the measurements."""
    options = parse_arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        report(measure_critic(Path(folder), options.quick), PACKAGES, options.output)


if __name__ == "__main__":
    main()
