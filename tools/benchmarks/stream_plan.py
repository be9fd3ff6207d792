"""Plans of many documents: their time and their memory."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from figures import Figure, bound, say
from isolate import apart


def _answered(documents: int) -> Callable[..., Any]:
    """What predicates see where all answer at once: `documents` of 2,000 characters, all found."""
    from ixt_data.log import FileInfo, ShardInfo
    from ixt_data.mix import Matches

    size = 1 << 15
    file = FileInfo("", 0, {})
    shards = [
        ShardInfo(f"shards/text/x/shard.{start:012d}", "text", "web",
                  min(size, documents - start), file, None, "{}")
        for start in range(0, documents, size)
    ]  # fmt: skip

    class Answered:
        def __init__(self, _: Any, mix: Any, holdout: float) -> None:
            self.mix, self.critics = mix, mix.critics
            self.snapshot = SimpleNamespace(version=1, corpora={}, shards=())
            self.shards = shards
            self.starts = np.arange(len(shards)) * size

        def __enter__(self) -> "Answered":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def find(self, name: str, where: str, value: str | None, critic: str | None) -> Matches:
            return Matches(None, np.full(documents, 2000, np.uint32), None)

    return Answered


def plan_once(documents: int, epochs: int) -> tuple[float, float]:
    """Seconds to the first epoch's order, and GB above what the imports take."""
    from ixt_data.mix import Mix, plan_mix

    base, scope = _memory("VmRSS"), _answered(documents)
    store: Any = None
    start = time.perf_counter()
    mix = Mix(condition={"kind": "none"})  # type: ignore[arg-type]
    samples = documents * epochs // 256 * 256
    plan = plan_mix(mix, samples, store=store, batch=256, scope_of=scope)
    plan.order(plan.epochs // 2)
    elapsed = time.perf_counter() - start
    return elapsed, _memory("VmHWM") - base


def _memory(what: str) -> float:
    """GB of this process, now (`VmRSS`) or at most (`VmHWM`)."""
    # Not getrusage: its peak is that of the process before exec, too.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1e6


def plan_figures(quick: bool) -> list[Figure]:
    """Plans from answered predicates to the order of a virtual epoch."""
    documents = 10_000_000 if quick else 100_000_000
    figures = []
    for epochs, what in ((1, "an epoch"), (10, "10 epochs")):
        say(f"plan of {what} over {documents:,} documents ...")
        seconds, memory = apart(plan_once, documents, epochs)
        name = f"plan of {what} over {documents:.0e} documents"
        figures.append(bound(name, seconds, "s", 10 if epochs == 1 else 60, most=True))
        figures.append(bound(f"{name}, memory", memory, "GB", 1.5, most=True))
    return figures
