"""Overhead of the trainer: Composer with the stream; reference: a loop over tensors in memory.

    python tools/benchmarks/train.py --output json

All train the same model from the same weights on the same batches, with the same optimizer and
clipping, each in a separate process, with interleaved steps. ixt runs `ixt_train.train` with its
records of metrics and draws, once with tokens of `ixt tokenize` and once from text. Then a larger
model trains with synchronous and asynchronous checkpoints.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from checkpoint_stalls import measure_stalls
from documents_store import CRITIC, make_store
from measurements import ROUNDS, Measurement, check_limit, compare, log, parse_arguments, report

PACKAGES = ("ixt", "mosaicml", "mosaicml-streaming", "torch", "transformers")
DOCUMENTS, BATCH, LENGTH = 2000, 2, 768
STEPS = 10
GOAL, MIN_MS = 1.05, 50.0
MODEL = {
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
SIDES = ("ours", "text", "bare")


def train_tree(side: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the train config of a side; `text` has a snapshot without tokens."""
    tokens = {} if side == "ours" else {"snapshot": "text"}
    return {
        "mix": {"store": str(folder / "store"), "critic": CRITIC, **tokens},
        "run_folder": str(folder / side),
        "model": {"config": MODEL},
        "tokenizer": {"path": str(folder / "tokenizer")},
        "max_length": LENGTH,
        "packing": "pad",
        "global_batch_size": BATCH,
        "duration": f"{STEPS * (rounds + 1)}ba",
        "checkpoint": {"every": "0ba"},
        "eval": {"samples": 0},
        "logging": {"progress": False},
        "threads": 1,
    }


class Side:
    """One side in its process: it trains some steps on request."""

    def __init__(self, name: str, folder: Path, rounds: int) -> None:
        command = [sys.executable, __file__, name, str(folder), str(rounds)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def steps(self) -> list[tuple[float, float]]:
        """Return wall and processor milliseconds of each of the next `STEPS` steps."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side exited with code {self._process.wait()}")
        return [(wall, processor) for wall, processor in json.loads(line)]

    def close(self) -> None:
        """Wait for the process to exit."""
        self._process.communicate()


class StepTimer:
    """The process of a side: it waits for requests and reports the times of steps."""

    def __init__(self, rounds: int) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        self._remaining, self._times = rounds + 1, list[tuple[float, float]]()
        self._before = (0.0, 0.0)

    def wait(self) -> None:
        """Wait for the next request."""
        sys.stdin.readline()
        self._before = (time.perf_counter(), time.process_time())

    def step(self) -> None:
        """Record the time of a step."""
        now = (time.perf_counter(), time.process_time())
        wall, processor = ((b - a) * 1000 for a, b in zip(self._before, now, strict=True))
        self._times.append((wall, processor))
        self._before = now
        if len(self._times) == STEPS:
            print(json.dumps(self._times), file=self._out, flush=True)
            self._times, self._remaining = [], self._remaining - 1
            if self._remaining:
                self.wait()


def run_trainer(side: str, folder: Path, rounds: int) -> None:
    """Run the trainer."""
    from ixt_data.config import validate
    from ixt_train.config import TrainConfig
    from ixt_train.trainer import HookCallback, reuse_freed_memory, train

    reuse_freed_memory()

    timer = StepTimer(rounds)
    config = validate(TrainConfig, train_tree(side, folder, rounds), "bench")
    train(config, callbacks=[HookCallback(timer.wait, timer.step)])


def run_bare_loop(side: str, folder: Path, rounds: int) -> None:
    """Run a minimal training loop whose batches are in memory before it starts."""
    import torch

    from ixt_data.mix import Mix, plan_mix
    from ixt_data.store import Store
    from ixt_train.conditioning import SPECIAL_TOKENS, Conditioner, load_tokenizer
    from ixt_train.config import ModelConfig, OptimizerConfig
    from ixt_train.inference import build_model, logits_of, weighted_loss
    from ixt_train.stream import Collator, MixStream

    torch.set_num_threads(1)
    store, steps = Store.open(folder / "store"), STEPS * (rounds + 1)
    tokenizer = load_tokenizer(folder / "tokenizer", SPECIAL_TOKENS)
    mix = Mix(critic=CRITIC)
    plan = plan_mix(mix, steps * BATCH, store=store, batch=BATCH, holdout=0.02)
    conditioner = Conditioner(tokenizer, mix.condition)
    collate = Collator(tokenizer.pad_token_id, LENGTH, "pad")
    with (
        tempfile.TemporaryDirectory() as local,
        MixStream(plan, conditioner, store=store.root, local=local, batch_size=BATCH) as stream,
    ):
        samples = [sample for _ in range(plan.epochs) for sample in stream]
    batches = [collate(samples[i * BATCH : (i + 1) * BATCH]) for i in range(steps)]
    model = build_model(ModelConfig(config=MODEL), tokenizer, 17, LENGTH).train()
    settings = OptimizerConfig()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, betas=settings.betas,
        weight_decay=settings.weight_decay, fused=True,
    )  # fmt: skip
    timer = StepTimer(rounds)
    timer.wait()
    for batch in batches:
        total, weight = weighted_loss(
            logits_of(model, batch), batch["input_ids"], batch["loss_weights"]
        )
        (total / weight).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        timer.step()


def prepare(folder: Path) -> None:
    """Create the store and the tokenizer of all sides."""
    from ixt_data.store import Store
    from ixt_train.conditioning import SPECIAL_TOKENS, train_tokenizer
    from ixt_train.config import TokenizerTraining
    from ixt_train.stream import tokenize

    make_store(folder / "store", DOCUMENTS)
    store = Store.open(folder / "store")
    texts = store.shard(store.snapshot().text_shards()[0]).column("text")[:1000]
    training = TokenizerTraining(vocab_size=2048)
    tokenizer = train_tokenizer(texts, training, SPECIAL_TOKENS)
    tokenizer.save_pretrained(folder / "tokenizer")
    store.tag("text")
    tokenize(store, tokenizer)


def measure(folder: Path, rounds: int) -> list[Measurement]:
    """Measure all sides, interleaved, after a round that fills caches."""
    prepare(folder)
    sides = {name: Side(name, folder, rounds) for name in SIDES}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            steps = side.steps()
            if turn:
                times[name] += steps
        if turn:
            log(", ".join(f"{name} {_median(times[name], 0):.1f} ms" for name in SIDES))
    for side in sides.values():
        side.close()
    bare = [_median(times["bare"], clock) for clock in range(2)]
    measurements = [
        compare(
            f"a step, {what}, {clock_name} time, {rounds} x {STEPS} interleaved",
            _median(times[side], clock), "ms",
            "a bare loop, tensors in memory", bare[clock], GOAL, is_maximum=True,
        )
        for side, what in (("ours", "tokenized in advance"), ("text", "tokenized while training"))
        for clock, clock_name in enumerate(("wall", "processor"))
    ]  # fmt: skip
    return [
        *measurements,
        check_limit("the bare step, processor time", bare[1], "ms", MIN_MS, is_maximum=False),
    ]


def _median(times: list[tuple[float, float]], clock: int) -> float:
    return statistics.median(step[clock] for step in times)


def main() -> None:
    """Run the benchmark, or one of its sides."""
    if len(sys.argv) > 1 and sys.argv[1] in SIDES:
        train = run_bare_loop if sys.argv[1] == "bare" else run_trainer
        train(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
        return
    options = parse_arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="ixt-bench-") as folder:
        measurements = measure(Path(folder), ROUNDS if options.quick else 4 * ROUNDS)
        measurements += measure_stalls(Path(folder), 1 if options.quick else ROUNDS)
    report(measurements, PACKAGES, options.output)


if __name__ == "__main__":
    main()
