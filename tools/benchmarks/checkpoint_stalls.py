"""Stalls of training by a checkpoint, synchronous and asynchronous, and the time of start-up.

A part of `train.py`: each side trains the same model in a process of its own.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from documents_store import CRITIC
from measurements import Measurement, check_limit, compare

MODEL = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}
"""27M parameters: 330 MB of weights and moments."""
STEPS, EVERY = 24, 6
GOAL, MAX_STARTUP_SECONDS = 0.5, 30.0


def train_side(folder: Path, asynchronous: bool) -> None:
    """Train in this process; print the times of steps and of the start as JSON."""
    from ixt_data.config import validate
    from ixt_train.config import TrainConfig
    from ixt_train.trainer import HookCallback, reuse_freed_memory, train

    reuse_freed_memory()
    times: list[float] = []

    def note() -> None:
        times.append(time.perf_counter())

    tree = {
        "mix": {"store": str(folder / "store"), "critic": CRITIC},
        "run_folder": str(folder / f"stalls-{asynchronous}"),
        "model": {"config": MODEL},
        "tokenizer": {"path": str(folder / "tokenizer")},
        "max_length": 128,
        "global_batch_size": 2,
        "duration": f"{STEPS}ba",
        "checkpoint": {"every": f"{EVERY}ba", "keep": 1, "asynchronous": asynchronous},
        "eval": {"samples": 0},
        "logging": {"progress": False, "tensorboard": False},
        "threads": 1,
    }
    start = time.perf_counter()
    train(
        validate(TrainConfig, tree, "bench"), overwrite=True, callbacks=[HookCallback(note, note)]
    )
    steps = [b - a for a, b in itertools.pairwise(times)]
    print(json.dumps({"startup": times[0] - start, "steps": steps}))


def measure_side(folder: Path, asynchronous: bool) -> dict[str, float]:
    """Return the seconds of a checkpoint's stall, of the step after it, and of the start."""
    command = [sys.executable, __file__, str(folder), str(int(asynchronous))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    steps = record["steps"]
    # The last one waits for its checkpoint.
    with_checkpoint = steps[EVERY - 1 : -1 : EVERY]
    plain = statistics.median(s for i, s in enumerate(steps) if (i + 1) % EVERY > 2)
    return {
        "stall": statistics.median(with_checkpoint) - plain,
        "startup": record["startup"],
        "step": plain,
    }


def measure_stalls(folder: Path, rounds: int) -> list[Measurement]:
    """Measure both sides, interleaved."""
    sides: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(rounds):
        for asynchronous, results in sides.items():
            results.append(measure_side(folder, asynchronous))

    def median(asynchronous: bool, key: str) -> float:
        return statistics.median(result[key] for result in sides[asynchronous])

    return [
        compare(
            f"the stall of an asynchronous checkpoint, 330 MB, {rounds} x 3",
            median(True, "stall") * 1000, "ms",
            "synchronous", median(False, "stall") * 1000, GOAL, is_maximum=True,
        ),
        check_limit(
            "from the call of train to the first step",
            statistics.median([median(side, "startup") for side in sides]), "s",
            MAX_STARTUP_SECONDS, is_maximum=True,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    train_side(Path(sys.argv[1]), bool(int(sys.argv[2])))
