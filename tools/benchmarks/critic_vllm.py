"""The vllm critic with a real vLLM; references: vLLM's offline `LLM.chat`, datatrove's runner.

    make test-vllm && python tools/benchmarks/critic_vllm.py --home .venv-vllm --output json

All run the same requests, interleaved, with a prefix cache that contains only the rubric. ixt and
datatrove use one server; `LLM.chat` has an engine with the same flags, idle in the meantime. Only
the completions are timed. At temperature 0 all produce nearly the same completions. Processor time
is that of engine and client; it is the better measure on a machine with other load.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import psutil
import yaml
from measurements import ROUNDS, Measurement, compare, log, make_parser, report
from peers_env import datatrove_python

from ixt_data.critics import JudgeSampling, PromptBuilder, Rubric, Server, VllmCritic, load_rubric
from ixt_data.records import Document, document_id

PACKAGES = ("ixt", "aiohttp")
HERE = Path(__file__).parent
"""Folder of the scripts that run in other environments."""

NAME = "tiny-judge"
SAMPLING = JudgeSampling(temperature=0, top_p=1, max_tokens=320, thinking_budget=16, expected=False)
CHARACTERS = 1000
ENGINE: dict[str, Any] = {"max_model_len": 3072, "enforce_eager": True, "dtype": "bfloat16"}
OFFLINE = {
    **ENGINE,
    "enable_prefix_caching": True,
    "reasoning_parser": "qwen3",
    "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
}
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "HF_HUB_OFFLINE": "1",
    # For /reset_prefix_cache.
    "VLLM_SERVER_DEV_MODE": "1",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of all requests: wall time, processor time, and generated tokens."""

    seconds: float
    cpu: float
    tokens: int


Runner = Callable[[], Cost]


def short_rubric() -> Rubric:
    """Return the web rubric with short critiques, because a small judge writes to the limit."""
    content = yaml.safe_load(load_rubric("web").model_dump_json())
    return Rubric.model_validate({**content, "critique_chars": 160})


@contextmanager
def runners(home: Path, documents: list[Document], folder: Path) -> Iterator[dict[str, Runner]]:
    """Yield a runner of all requests by name; engines run during the block."""
    rubric = short_rubric()
    requests, bodies = PromptBuilder(NAME, rubric, SAMPLING), folder / "bodies.jsonl"
    lines = [requests.chat(rubric.user_message(document), 0) for document in documents]
    bodies.write_bytes(b"\n".join(lines))
    flags = ["--max-model-len", "3072", "--enforce-eager", "--dtype", "bfloat16"]
    program, model = str(home / "bin/vllm"), str(home / "judge")
    server = Server(model, program, NAME, "qwen3", flags, log=folder / "vllm.log")
    critic = VllmCritic((), NAME, rubric, SAMPLING, attempts=1, max_failed=1.0, server=server)
    with critic, offline_engine(home, bodies, folder / "offline.log") as chat:
        critic.connect()
        by_name: dict[str, Runner] = {
            "ixt": lambda: run_ixt(critic, server, documents),
            "LLM.chat": chat,
        }
        if (python := datatrove_python()) is not None:
            by_name["datatrove"] = lambda: run_datatrove(python, critic, server, documents, bodies)
        yield by_name


def reset_cache(critic: VllmCritic, server: Server, documents: list[Document]) -> str:
    """Empty the server's prefix cache except for the rubric; return the server's root."""
    root = server.url.removesuffix("/v1")
    request = urllib.request.Request(f"{root}/reset_prefix_cache", method="POST")
    urllib.request.urlopen(request, timeout=60).close()
    list(critic.run(documents[:1]))
    return root


def run_ixt(critic: VllmCritic, server: Server, documents: list[Document]) -> Cost:
    """Run the requests with the critic of ixt."""
    reset_cache(critic, server, documents)
    critic.usage.clear()
    start, cpu = time.perf_counter(), time.process_time() + cpu_of(server.pid)
    done = list(critic.run(documents))
    seconds, cpu = time.perf_counter() - start, time.process_time() + cpu_of(server.pid) - cpu
    assert len(done) == critic.usage["requests"] == len(documents)
    return Cost(seconds, cpu, critic.usage["tokens_out"])


def run_datatrove(
    python: Path, critic: VllmCritic, server: Server, documents: list[Document], bodies: Path
) -> Cost:
    """Run the same requests on the same server with datatrove's InferenceRunner."""
    root, cpu = reset_cache(critic, server, documents), cpu_of(server.pid)
    script = HERE / "datatrove_runner.py"
    command = [python, script, root, NAME, bodies, bodies.with_name("answers")]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"datatrove's runner failed:\n{done.stderr[-3000:]}")
    return read_cost(done.stdout.splitlines(), cpu_of(server.pid) - cpu)


@contextmanager
def offline_engine(home: Path, bodies: Path, log: Path) -> Iterator[Runner]:
    """Yield a runner of the same requests with `LLM.chat`."""
    options = [f"{key}={json.dumps(value)}" for key, value in OFFLINE.items()]
    command = [str(home / "bin/python"), str(HERE / "llm_chat.py"), str(home / "judge")]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, str(bodies), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        ) as process,
    ):  # fmt: skip
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def chat() -> Cost:
            stdin.write("\n")
            stdin.flush()
            return read_cost(stdout, 0.0)

        try:
            yield chat
        except BaseException:
            log(log.read_text()[-3000:])
            process.kill()
            raise


def read_cost(lines: Iterable[str], cpu: float) -> Cost:
    """Return the cost that a script reports, with the processor time of its engine added."""
    # Engines print to stdout, too.
    line = next(line for line in lines if line.startswith('{"seconds"'))
    record = json.loads(line)
    return Cost(record["seconds"], cpu + record["cpu"], record["tokens"])


def cpu_of(pid: int) -> float:
    """Return the processor seconds of a process and its children."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def median_of(
    rounds: list[dict[str, Cost]], name: str, rate: Callable[[Cost], float]
) -> float | None:
    """Return the median rate of a runner; None if it is missing."""
    rates = [rate(costs[name]) for costs in rounds if name in costs]
    return statistics.median(rates) if rates else None


def main() -> None:
    """Print the measurements."""
    options_of = make_parser(__doc__)
    options_of.add_argument("--home", type=Path, required=True, help="vLLM's environment")
    options_of.add_argument("--documents", type=int, default=60)
    options = options_of.parse_args()
    os.environ.update(ENVIRONMENT)
    home = options.home.resolve()
    # The first round warms the engines up and is not counted.
    n, rounds = (12, 2) if options.quick else (options.documents, 2 * ROUNDS)
    texts = list(dict.fromkeys(topics[name][:CHARACTERS] for name in sorted(topics)))[:n]
    documents = [Document(document_id(text), text) for text in texts]
    rounds_of: list[dict[str, Cost]] = []
    with tempfile.TemporaryDirectory() as folder:
        log("starting a server and an engine")
        with runners(home, documents, Path(folder)) as by_name:
            for number in range(rounds):
                # A different runner is first in each round.
                names = [*by_name][number % len(by_name) :] + [*by_name][: number % len(by_name)]
                costs = {name: by_name[name]() for name in names}
                took = "; ".join(f"{name} {c.seconds:.1f} s" for name, c in costs.items())
                log(f"round {number} of {rounds - 1}, {n} documents: {took}")
                if number:
                    rounds_of.append(costs)
    measurements: list[Measurement] = []
    for name, rate in (
        ("documents", lambda cost: n / cost.seconds),
        ("tokens generated", lambda cost: cost.tokens / cost.seconds),
        ("documents per CPU-second", lambda cost: n / cost.cpu),
    ):
        for peer in ("LLM.chat", "datatrove"):
            mine, theirs = (median_of(rounds_of, runner, rate) for runner in ("ixt", peer))
            assert mine is not None
            measurements.append(compare(name, mine, "1/s", peer, theirs, 0.95, is_maximum=False))
    report(measurements, PACKAGES, options.output)


if __name__ == "__main__":
    main()
