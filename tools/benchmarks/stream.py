"""Speed of the stream, beside the loaders that others use.

    python tools/benchmarks/stream.py --output json

Every loader lives in a process of its own, with the same documents and the same shuffle, and runs
an epoch in turn with the others. Ours joins text and critique from two families; the peers have
both in one record.
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
from documents_store import CRITIC, make_store, said, write_parquet
from figures import ROUNDS, Figure, arguments, beside, bound, report, say
from isolate import apart
from peers_env import install, peers_python
from stream_cold import cold_figures
from stream_plan import plan_figures

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
        """Samples per second of wall time over one epoch; None where it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            self._log.seek(0)
            say(f"{self.name} failed: {self._log.read().strip().splitlines()[-1:]}")
            return None
        return float(answer["samples"] / answer["seconds"])

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def rates(folder: Path, store: Path, table: Path, workers: int, rounds: int) -> dict[str, Any]:
    """Samples per second of every loader, the median of some rounds in turn."""
    python = peers_python()
    loaders = {"ixt": Loader("ixt", sys.executable, store, folder / "ixt", workers)}
    for name in peers.PEERS:
        if install(python, name):
            # Stock is what this package stands on; the peers' libraries do not go with it.
            own = sys.executable if name == "streaming" else str(python)
            loaders[name] = Loader(name, own, table, folder / name, workers)
    found: dict[str, list[float | None]] = {name: [] for name in loaders}
    for turn in range(rounds + 1):
        for name, loader in loaders.items():
            rate = None if None in found[name] else loader.epoch()
            # The first round brings everything into caches.
            if turn or rate is None:
                found[name].append(rate)
    for loader in loaders.values():
        loader.close()
    return {
        name: None if None in found.get(name, [None]) else statistics.median(found[name])  # type: ignore[type-var]
        for name in ("ixt", *peers.PEERS)
    }


def loader_figures(folder: Path, quick: bool) -> list[Figure]:
    """Ours beside every peer, in one process and with two workers."""
    documents = 60_000
    say(f"making {documents:,} documents ...")
    store, table = folder / "store", folder / "documents.parquet"
    make_store(store, documents)
    write_parquet(table, documents)
    figures = []
    for workers, name in ((0, "one process"), (2, "2 workers")):
        say(f"loaders, {name} ...")
        rounds = ROUNDS if quick else 2 * ROUNDS - 1
        found = rates(folder / f"w{workers}", store, table, workers, rounds)
        ours = found.pop("ixt") or 0.0
        known = {peer: rate for peer, rate in found.items() if rate is not None}
        fastest = max(known, key=known.__getitem__, default="")
        goal = 1.0 if workers else 1.5
        figures.append(
            beside(
                f"text and critique, {name}", ours, "samples/s",
                f"fastest peer: {fastest}", known.get(fastest), goal, most=False,
            )
        )  # fmt: skip
        figures += [
            Figure(f"text and critique, {name}", ours, "samples/s", peer, rate,
                   None if rate is None else ours / rate)
            for peer, rate in found.items()
        ]  # fmt: skip
    figures.append(apart(decode_figure, store))
    return figures


def decode_figure(store_root: Path) -> Figure:
    """Ours beside the least that Python can do: slices of known places, shard by shard."""
    from ixt_data.mix import Mix, plan_mix
    from ixt_data.store import Store
    from ixt_train.stream import MixStream

    store = Store.open(store_root)
    plan = plan_mix(Mix(critic=CRITIC), store=store)
    with (
        tempfile.TemporaryDirectory() as local,
        MixStream(plan, None, store=store.root, local=local, batch_size=1) as stream,
    ):
        _count(stream)
        places = [
            [(c.data, c.starts.tolist(), c.ends.tolist())
             for c in (shard.opened.columns["text"], shard.opened.columns["critique"])]
            for shard in stream.shards
        ]  # fmt: skip
        rng = np.random.default_rng(0)

        def least() -> Iterator[dict[str, str]]:
            for (text, a, b), (said, c, d) in places:
                for i in rng.permutation(len(a)).tolist():
                    yield {
                        "text": str(text[a[i] : b[i]], "utf-8"),
                        "critique": str(said[c[i] : d[i]], "utf-8"),
                    }

        times = [[_timed(least), _timed(lambda: stream)] for _ in range(2 * ROUNDS)]
    theirs, ours = (plan.samples / statistics.median(column) for column in zip(*times, strict=True))
    name = "text and critique, the bound of decoding"
    return beside(name, ours, "samples/s", "slices and nothing else", theirs, 0.6, most=False)


def _count(samples: Any) -> int:
    return sum(1 for _ in samples)


def _timed(samples: Callable[[], Any]) -> float:
    start = time.perf_counter()
    _count(samples())
    return time.perf_counter() - start


def tokens_once(store_root: Path, rounds: int) -> float:
    """Tokens per second, from the tokens family to batches packed to 2,048."""
    from ixt_data.mix import Mix, plan_mix
    from ixt_data.store import Store
    from ixt_train.conditioning import SPECIAL_TOKENS, Conditioner, train_tokenizer
    from ixt_train.config import TokenizerTraining
    from ixt_train.stream import Collator, MixStream, batch_tokens, data_loader, tokenize

    store = Store.open(store_root)
    first = store.shard(store.snapshot().text_shards()[0]).column("text")[:2000]
    training = TokenizerTraining(kind="bpe", vocab_size=8192)
    tokenizer = train_tokenizer([*first, said(0)], training, SPECIAL_TOKENS)
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


def token_figures(folder: Path, quick: bool) -> list[Figure]:
    """The tokens family, packed."""
    say("tokens ...")
    store = folder / "tokens"
    make_store(store, 6_000 if quick else 30_000)
    rate = apart(tokens_once, store, ROUNDS)
    name = "tokens family, packed to 2,048, one process"
    return [bound(name, rate / 1e6, "M tokens/s", 20, most=False)]


def resume_once(at: int, samples: int, store_root: Path) -> float:
    """Seconds to the first batch of a stream that goes on after `at` of `samples` samples."""
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


def resume_figures(folder: Path) -> list[Figure]:
    """The first batch after a resume in the middle, beside a fresh start."""
    say("resume ...")
    samples = 10_000_000 // peers.BATCH * peers.BATCH
    half = samples // 2 // peers.BATCH * peers.BATCH
    store = folder / "store"
    # Half a second each: more rounds than where an epoch is read.
    rounds = range(3 * ROUNDS)
    times = [[apart(resume_once, at, samples, store) for at in (half, 0)] for _ in rounds]
    ours, fresh = (statistics.median(column) for column in zip(*times, strict=True))
    name = "first batch after resume in the middle of 1e7 samples"
    return [beside(name, ours, "s", "a fresh start", fresh, 1.2, most=True)]


def main() -> None:
    """Measures all of it."""
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parts: tuple[Callable[[], list[Figure]], ...] = (
            lambda: loader_figures(folder, options.quick),
            lambda: resume_figures(folder),
            lambda: token_figures(folder, options.quick),
            lambda: cold_figures(folder, options.quick),
            lambda: plan_figures(options.quick),
        )
        figures: list[Figure] = []
        for part in parts:
            found = part()
            figures += found
            # What was measured stays known if a later part fails.
            for figure in found:
                say(f"  {figure}")
    report(figures, PACKAGES, options.output)


if __name__ == "__main__":
    main()
