"""Speed of the stream; references: loaders of other projects.

    python tools/benchmarks/stream.py --output json

Every loader runs in a separate process, with the same documents and the same shuffle; epochs of the
loaders are interleaved. ixt joins text and critique from two families; the peers have both in one
record.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peers
from documents_store import CRITIC, critique_of, make_store, write_parquet
from isolate import run_isolated
from measurements import ROUNDS, Measurement, check_limit, compare, log, parse_arguments, report
from peers_env import install, peers_python
from stream_cold import measure_cold
from stream_plan import measure_plan

PACKAGES = ("ixt", "mosaicml-streaming", "torch", "numpy", "transformers")


class Loader:
    """One loader in its process."""

    def __init__(self, name: str, python: str, source: Path, folder: Path, workers: int) -> None:
        command = [python, peers.__file__, name, str(source), str(folder), str(workers)]
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**_environment(), "TMPDIR": str(folder.parent)},
        )

    def epoch(self) -> float | None:
        """Return samples per second of wall time over one epoch; None after a failure."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            self._log.seek(0)
            log(f"{self.name} failed: {self._log.read().strip().splitlines()[-1:]}")
            return None
        return float(answer["samples"] / answer["seconds"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def rates(folder: Path, store: Path, table: Path, workers: int, rounds: int) -> dict[str, Any]:
    """Return samples per second of every loader: the median of interleaved rounds."""
    python = peers_python()
    loaders = {"ixt": Loader("ixt", sys.executable, store, folder / "ixt", workers)}
    for name in peers.PEERS:
        if install(python, name):
            # Stock is installed with ixt; the libraries of the peers conflict with it.
            own = sys.executable if name == "streaming" else str(python)
            loaders[name] = Loader(name, own, table, folder / name, workers)
    found: dict[str, list[float | None]] = {name: [] for name in loaders}
    for turn in range(rounds + 1):
        for name, loader in loaders.items():
            rate = None if None in found[name] else loader.epoch()
            # The first round fills caches.
            if turn or rate is None:
                found[name].append(rate)
    for loader in loaders.values():
        loader.close()
    return {
        name: None if None in found.get(name, [None]) else statistics.median(found[name])  # type: ignore[type-var]
        for name in ("ixt", *peers.PEERS)
    }


def measure_loaders(folder: Path, quick: bool) -> list[Measurement]:
    """Measure ixt and every peer, in one process and with two workers."""
    documents = 60_000
    log(f"creating {documents:,} documents ...")
    store, table = folder / "store", folder / "documents.parquet"
    make_store(store, documents)
    write_parquet(table, documents)
    measurements = []
    for workers, name in ((0, "one process"), (2, "2 workers")):
        log(f"loaders, {name} ...")
        rounds = ROUNDS if quick else 2 * ROUNDS - 1
        found = rates(folder / f"w{workers}", store, table, workers, rounds)
        ours = found.pop("ixt") or 0.0
        known = {peer: rate for peer, rate in found.items() if rate is not None}
        fastest = max(known, key=known.__getitem__, default="")
        goal = 1.0 if workers else 1.5
        measurements.append(
            compare(
                f"text and critique, {name}", ours, "samples/s",
                f"fastest peer: {fastest}", known.get(fastest), goal, is_maximum=False,
            )
        )  # fmt: skip
        measurements += [
            Measurement(f"text and critique, {name}", ours, "samples/s", peer, rate,
                   None if rate is None else ours / rate)
            for peer, rate in found.items()
        ]  # fmt: skip
    measurements.append(measure_workers(folder, store))
    measurements += run_isolated(decode_figures, store)
    return measurements


def measure_workers(folder: Path, store: Path) -> Measurement:
    """Measure ixt with two workers, in epochs of ten passes; reference: one process."""
    log("ixt, 2 workers against one process ...")
    loaders = [
        Loader("ixt-long", sys.executable, store, folder / f"long{workers}", workers)
        for workers in (2, 0)
    ]
    rates = [[loader.epoch() or 0.0 for loader in loaders] for _ in range(2 * ROUNDS + 1)][1:]
    for loader in loaders:
        loader.close()
    ours, reference = (statistics.median(each) for each in zip(*rates, strict=True))
    name = f"text and critique, 2 workers, {peers.LONG} passes per epoch"
    return compare(name, ours, "samples/s", "one process", reference, 1.0, is_maximum=False)


def decode_figures(store_root: Path) -> list[Measurement]:
    """Measure ixt; reference: the minimum in Python, slices at known offsets.

    The first reference reads shard after shard, which the processor's caches favour. The second one
    reads the same samples in the same order as ixt.
    """
    from ixt_data.mix import Mix, plan_mix, samples_of
    from ixt_data.store import Store
    from ixt_train.stream import MixStream

    store = Store.open(store_root)
    plan = plan_mix(Mix(critic=CRITIC), store=store)
    with (
        tempfile.TemporaryDirectory() as local,
        MixStream(plan, None, store=store.root, local=local, batch_size=1) as stream,
    ):
        _count(stream)
        offsets = [
            [(c.data, c.starts.tolist(), c.ends.tolist())
             for c in (shard.opened.columns["text"], shard.opened.columns["critique"])]
            for shard in stream.shards
        ]  # fmt: skip
        rng = np.random.default_rng(0)
        ends = np.cumsum([len(starts) for (_, starts, _), _ in offsets])
        shards = np.searchsorted(ends, samples := samples_of(plan.order(0)), "right")
        rows = samples - np.append(0, ends)[shards]

        def by_shard() -> Iterator[dict[str, str]]:
            for (text, a, b), (critique, c, d) in offsets:
                for i in rng.permutation(len(a)).tolist():
                    yield {
                        "text": str(text[a[i] : b[i]], "utf-8"),
                        "critique": str(critique[c[i] : d[i]], "utf-8"),
                    }

        def in_order() -> Iterator[dict[str, str]]:
            for shard, i in zip(shards.tolist(), rows.tolist(), strict=True):
                (text, a, b), (critique, c, d) = offsets[shard]
                yield {
                    "text": str(text[a[i] : b[i]], "utf-8"),
                    "critique": str(critique[c[i] : d[i]], "utf-8"),
                }

        readers = (lambda: stream, by_shard, in_order)
        times = [[_timed(read) for read in readers] for _ in range(2 * ROUNDS)]
    ours, *theirs = (plan.samples / statistics.median(each) for each in zip(*times, strict=True))
    name = "text and critique, the bound of decoding"
    references = ("slices only, shard by shard", "slices only, in the same order")
    return [
        compare(name, ours, "samples/s", reference, rate, goal, is_maximum=False)
        for reference, rate, goal in zip(references, theirs, (0.95, 0.95), strict=True)
    ]


def _count(samples: Any) -> int:
    return sum(1 for _ in samples)


def _timed(samples: Callable[[], Any]) -> float:
    start = time.perf_counter()
    _count(samples())
    return time.perf_counter() - start


def tokens_once(store_root: Path, rounds: int) -> float:
    """Return tokens per second, from the tokens family to batches packed to 2,048."""
    from ixt_data.mix import Mix, plan_mix
    from ixt_data.store import Store
    from ixt_train.conditioning import SPECIAL_TOKENS, Conditioner, train_tokenizer
    from ixt_train.config import TokenizerTraining
    from ixt_train.stream import Collator, MixStream, batch_tokens, data_loader, tokenize

    store = Store.open(store_root)
    first = store.shard(store.snapshot().text_shards()[0]).column("text")[:2000]
    training = TokenizerTraining(kind="bpe", vocab_size=8192)
    tokenizer = train_tokenizer([*first, critique_of(0)], training, SPECIAL_TOKENS)
    tokenize(store, tokenizer)
    mix = Mix(critic=CRITIC)
    plan = plan_mix(mix, store=store, batch=peers.BATCH)
    conditioner = Conditioner(tokenizer, mix.condition)
    collate = Collator(tokenizer.pad_token_id, 2048, "concat")
    rates = []
    with (
        tempfile.TemporaryDirectory() as local,
        MixStream(
            plan, conditioner, store=store.root, local=local, batch_size=peers.BATCH
        ) as stream,
    ):
        loader = data_loader(stream, collate)
        for _ in range(rounds + 1):
            start = time.perf_counter()
            tokens = sum(batch_tokens(batch) for batch in loader)
            rates.append(tokens / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def measure_tokens(folder: Path, quick: bool) -> list[Measurement]:
    """Measure the packed tokens family."""
    log("tokens ...")
    store = folder / "tokens"
    make_store(store, 6_000 if quick else 30_000)
    rate = run_isolated(tokens_once, store, ROUNDS)
    name = "tokens family, packed to 2,048, one process"
    return [check_limit(name, rate / 1e6, "M tokens/s", 20, is_maximum=False)]


def resume_once(at: int, samples: int, store_root: Path) -> float:
    """Return seconds to the first batch of a stream that resumes after `at` of `samples`."""
    from ixt_data.mix import Mix, plan_mix
    from ixt_data.store import Store
    from ixt_train.stream import MixStream

    plan = plan_mix(Mix(critic=CRITIC), samples, store=Store.open(store_root), batch=peers.BATCH)
    with tempfile.TemporaryDirectory() as local:
        start = time.perf_counter()
        stream = MixStream(plan, None, store=store_root, local=local, batch_size=peers.BATCH)
        epoch, within = divmod(at, plan.epoch_samples)
        if at:
            state = stream.state_dict(within, True)
            stream.load_state_dict({**state, "epoch": epoch, "sample_in_epoch": within})
        for number, _ in enumerate(stream):
            if number == peers.BATCH:
                break
        elapsed = time.perf_counter() - start
        stream.close()
    return elapsed


def measure_resume(folder: Path) -> list[Measurement]:
    """Measure the first batch after a resume in the middle; reference: a new start."""
    log("resume ...")
    samples = 10_000_000 // peers.BATCH * peers.BATCH
    half = samples // 2 // peers.BATCH * peers.BATCH
    store = folder / "store"
    # Each takes half a second, so more rounds than for an epoch are affordable.
    rounds = range(3 * ROUNDS)
    times = [[run_isolated(resume_once, at, samples, store) for at in (half, 0)] for _ in rounds]
    ours, fresh = (statistics.median(column) for column in zip(*times, strict=True))
    name = "first batch after resume in the middle of 1e7 samples"
    return [compare(name, ours, "s", "a new start", fresh, 1.2, is_maximum=True)]


def main() -> None:
    """Run all measurements."""
    options = parse_arguments(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parts: tuple[Callable[[], list[Measurement]], ...] = (
            lambda: measure_loaders(folder, options.quick),
            lambda: measure_resume(folder),
            lambda: measure_tokens(folder, options.quick),
            lambda: measure_cold(folder, options.quick),
            lambda: measure_plan(options.quick),
        )
        measurements: list[Measurement] = []
        for part in parts:
            found = part()
            measurements += found
            # Printed now, because a later part may fail.
            for figure in found:
                log(f"  {figure}")
    report(measurements, PACKAGES, options.output)


if __name__ == "__main__":
    main()
