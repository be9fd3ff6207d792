"""Overhead of the trainer: Composer with our stream, beside a bare loop over tensors in memory.

    python tools/benchmarks/train.py --output json

All train the same model from the same weights on the same batches, with the same optimizer and
clipping, each in a process of its own, some steps of one and some of another in turn. Ours is
`ixt_train.train` as it is, with its records of metrics and draws; once with tokens that
`ixt tokenize` wrote ahead, and once from text.
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

from documents_store import CRITIC, make_store
from figures import ROUNDS, Figure, arguments, beside, bound, report, say

PACKAGES = ("ixt", "mosaicml", "mosaicml-streaming", "torch", "transformers")
DOCUMENTS, BATCH, LENGTH = 2000, 2, 768
STEPS = 10
GOAL, LEAST_MS = 1.05, 50.0
MODEL = {
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
SIDES = ("ours", "text", "bare")


def tree(side: str, folder: Path, rounds: int) -> dict[str, Any]:
    """The train config that all sides follow; `text` has a snapshot without tokens."""
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
    """One side in its process: it trains some steps each time it is told to."""

    def __init__(self, name: str, folder: Path, rounds: int) -> None:
        command = [sys.executable, __file__, name, str(folder), str(rounds)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def steps(self) -> list[tuple[float, float]]:
        """Milliseconds of each of the next `STEPS` steps, by the wall and by the processor."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a side ended with {self._process.wait()}")
        return [(wall, processor) for wall, processor in json.loads(answer)]

    def close(self) -> None:
        """Lets the process end."""
        self._process.communicate()


class Told:
    """Within a side: waits for the word, and tells how long the steps took."""

    def __init__(self, rounds: int) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        self._left, self._times = rounds + 1, list[tuple[float, float]]()
        self._before = (0.0, 0.0)

    def wait(self) -> None:
        """Waits until the next steps are wanted."""
        sys.stdin.readline()
        self._before = (time.perf_counter(), time.process_time())

    def step(self) -> None:
        """One step is done."""
        now = (time.perf_counter(), time.process_time())
        wall, processor = ((b - a) * 1000 for a, b in zip(self._before, now, strict=True))
        self._times.append((wall, processor))
        self._before = now
        if len(self._times) == STEPS:
            print(json.dumps(self._times), file=self._out, flush=True)
            self._times, self._left = [], self._left - 1
            if self._left:
                self.wait()


def ours(side: str, folder: Path, rounds: int) -> None:
    """The trainer as it is."""
    from ixt_data.config import validate
    from ixt_train.config import TrainConfig
    from ixt_train.trainer import HookCallback, train

    told = Told(rounds)
    config = validate(TrainConfig, tree(side, folder, rounds), "bench")
    train(config, callbacks=[HookCallback(told.wait, told.step)])


def bare(side: str, folder: Path, rounds: int) -> None:
    """A loop such as one writes on the first day; its batches are there before it begins."""
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
    told = Told(rounds)
    told.wait()
    for batch in batches:
        total, weight = weighted_loss(
            logits_of(model, batch), batch["input_ids"], batch["loss_weights"]
        )
        (total / weight).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        told.step()


def prepare(folder: Path) -> None:
    """The store and the tokenizer that all sides read."""
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


def measure(folder: Path, rounds: int) -> list[Figure]:
    """All sides in turn, after a round that brings everything into caches."""
    prepare(folder)
    sides = {name: Side(name, folder, rounds) for name in SIDES}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            steps = side.steps()
            if turn:
                times[name] += steps
        if turn:
            say(", ".join(f"{name} {_median(times[name], 0):.1f} ms" for name in SIDES))
    for side in sides.values():
        side.close()
    bare = [_median(times["bare"], clock) for clock in range(2)]
    figures = [
        beside(
            f"a step, {what}, {clock_name} time, {rounds} x {STEPS} in turn",
            _median(times[side], clock), "ms",
            "a bare loop, tensors in memory", bare[clock], GOAL, most=True,
        )
        for side, what in (("ours", "tokens ahead"), ("text", "tokenizing as it trains"))
        for clock, clock_name in enumerate(("wall", "processor"))
    ]  # fmt: skip
    return [*figures, bound("the bare step, processor time", bare[1], "ms", LEAST_MS, most=False)]


def _median(times: list[tuple[float, float]], clock: int) -> float:
    return statistics.median(step[clock] for step in times)


def main() -> None:
    """Runs the benchmark, or one of its sides."""
    if len(sys.argv) > 1 and sys.argv[1] in SIDES:
        train = bare if sys.argv[1] == "bare" else ours
        train(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
        return
    asked = arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="ixt-bench-") as folder:
        figures = measure(Path(folder), ROUNDS if asked.quick else 4 * ROUNDS)
    report(figures, PACKAGES, asked.output)


if __name__ == "__main__":
    main()
