"""Time and memory of plans over many documents."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from isolate import run_isolated
from measurements import Measurement, check_limit, log


def _fake_scope(documents: int) -> Callable[..., Any]:
    """Return a scope whose predicates immediately match `documents` of 2,000 characters each."""
    from ixt_data.log import FileInfo, ShardInfo
    from ixt_data.mix import Matches

    size = 1 << 15
    file = FileInfo("", 0, {})
    shards = [
        ShardInfo(f"shards/text/x/shard.{start:012d}", "text", "web",
                  min(size, documents - start), file, None, "{}")
        for start in range(0, documents, size)
    ]  # fmt: skip

    class FakeScope:
        def __init__(self, _: Any, mix: Any, holdout: float) -> None:
            self.mix, self.critics = mix, mix.critics
            self.snapshot = SimpleNamespace(version=1, corpora={}, shards=())
            self.shards = shards
            self.starts = np.arange(len(shards)) * size

        def __enter__(self) -> "FakeScope":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def find(self, name: str, where: str, value: str | None, critic: str | None) -> Matches:
            return Matches(None, np.full(documents, 2000, np.uint32), None)

    return FakeScope


def plan_once(documents: int, epochs: int) -> tuple[float, float]:
    """Return seconds to the order of the first epoch, and GB above the imports."""
    from ixt_data.mix import Mix, plan_mix

    base, scope = _memory("VmRSS"), _fake_scope(documents)
    # The fake scope reads no store.
    store: Any = SimpleNamespace()
    start = time.perf_counter()
    mix = Mix(condition={"kind": "none"})  # type: ignore[arg-type]
    samples = documents * epochs // 256 * 256
    plan = plan_mix(mix, samples, store=store, batch=256, scope_of=scope)
    plan.order(plan.epochs // 2)
    elapsed = time.perf_counter() - start
    return elapsed, _memory("VmHWM") - base


def _memory(what: str) -> float:
    """Return GB of this process, now (`VmRSS`) or at the peak (`VmHWM`)."""
    # The peak of getrusage includes the process before exec.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1e6


def measure_plan(quick: bool) -> list[Measurement]:
    """Measure plans from known matches to the order of a virtual epoch."""
    documents = 10_000_000 if quick else 100_000_000
    measurements = []
    for epochs, what in ((1, "an epoch"), (10, "10 epochs")):
        log(f"plan of {what} over {documents:,} documents ...")
        seconds, memory = run_isolated(plan_once, documents, epochs)
        name = f"plan of {what} over {documents:.0e} documents"
        measurements.append(
            check_limit(name, seconds, "s", 10 if epochs == 1 else 60, is_maximum=True)
        )
        measurements.append(check_limit(f"{name}, memory", memory, "GB", 1.5, is_maximum=True))
    return measurements
