"""The vllm critic with a real vLLM, beside vLLM's own offline `LLM.chat` and datatrove's runner.

    make test-vllm && python tools/benchmarks/critic_vllm.py --home .venv-vllm --output json

All answer the same requests, in turn, with a prefix cache that holds only the rubric. Ours and
datatrove's go to one server; `LLM.chat` has an engine of the same flags, which rests meanwhile.
Only the answering is timed. At temperature 0 and asked once, all draw much the same answers. The
processor's time is that of the engine and whoever asks it: it tells most where others are at work.
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
from figures import ROUNDS, Figure, beside, parser, report, say
from peers_env import datatrove_python

from ixt_data.critics import JudgeSampling, PromptBuilder, Rubric, Server, VllmCritic, load_rubric
from ixt_data.records import Document, document_id

PACKAGES = ("ixt", "aiohttp")
HERE = Path(__file__).parent
"""Scripts that others run: what they import is not here."""

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
    """What answering all requests took: wall time, the processor's time, and tokens written."""

    seconds: float
    cpu: float
    tokens: int


Runner = Callable[[], Cost]


def brief() -> Rubric:
    """The web rubric with short critiques: the judge is small, and would fill any room."""
    content = yaml.safe_load(load_rubric("web").model_dump_json())
    return Rubric.model_validate({**content, "critique_chars": 160})


@contextmanager
def runners(home: Path, documents: list[Document], folder: Path) -> Iterator[dict[str, Runner]]:
    """Who answers all documents, by name; their engines are up as long as the block runs."""
    rubric = brief()
    requests, bodies = PromptBuilder(NAME, rubric, SAMPLING), folder / "bodies.jsonl"
    lines = [requests.chat(rubric.user_message(document), 0) for document in documents]
    bodies.write_bytes(b"\n".join(lines))
    flags = ["--max-model-len", "3072", "--enforce-eager", "--dtype", "bfloat16"]
    program, model = str(home / "bin/vllm"), str(home / "judge")
    server = Server(model, program, NAME, "qwen3", flags, log=folder / "vllm.log")
    critic = VllmCritic((), NAME, rubric, SAMPLING, attempts=1, max_failed=1.0, server=server)
    with critic, offline(home, bodies, folder / "offline.log") as chat:
        critic.connect()
        found: dict[str, Runner] = {
            "ixt": lambda: ours(critic, server, documents),
            "LLM.chat": chat,
        }
        if (python := datatrove_python()) is not None:
            found["datatrove"] = lambda: datatrove(python, critic, server, documents, bodies)
        yield found


def fresh(critic: VllmCritic, server: Server, documents: list[Document]) -> str:
    """Empties the server's prefix cache but for the rubric; returns the server's root."""
    root = server.url.removesuffix("/v1")
    forget = urllib.request.Request(f"{root}/reset_prefix_cache", method="POST")
    urllib.request.urlopen(forget, timeout=60).close()
    list(critic.run(documents[:1]))
    return root


def ours(critic: VllmCritic, server: Server, documents: list[Document]) -> Cost:
    """Our critic."""
    fresh(critic, server, documents)
    critic.usage.clear()
    start, cpu = time.perf_counter(), time.process_time() + cpu_of(server.pid)
    done = list(critic.run(documents))
    seconds, cpu = time.perf_counter() - start, time.process_time() + cpu_of(server.pid) - cpu
    assert len(done) == critic.usage["requests"] == len(documents)
    return Cost(seconds, cpu, critic.usage["tokens_out"])


def datatrove(
    python: Path, critic: VllmCritic, server: Server, documents: list[Document], bodies: Path
) -> Cost:
    """The same requests at the same server by datatrove's InferenceRunner."""
    root, cpu = fresh(critic, server, documents), cpu_of(server.pid)
    script = HERE / "datatrove_runner.py"
    command = [python, script, root, NAME, bodies, bodies.with_name("answers")]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"datatrove's runner failed:\n{done.stderr[-3000:]}")
    return told(done.stdout.splitlines(), cpu_of(server.pid) - cpu)


@contextmanager
def offline(home: Path, bodies: Path, log: Path) -> Iterator[Runner]:
    """The same requests by `LLM.chat`."""
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
            return told(stdout, 0.0)

        try:
            yield chat
        except BaseException:
            say(log.read_text()[-3000:])
            process.kill()
            raise


def told(lines: Iterable[str], cpu: float) -> Cost:
    """What a script says that it took, beside the processor's time of its engine."""
    # Engines print there, too.
    line = next(line for line in lines if line.startswith('{"seconds"'))
    found = json.loads(line)
    return Cost(found["seconds"], cpu + found["cpu"], found["tokens"])


def cpu_of(pid: int) -> float:
    """Seconds that the processor has given to a process and those that it started."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def median_of(
    rounds: list[dict[str, Cost]], name: str, rate: Callable[[Cost], float]
) -> float | None:
    """The median rate of one of them, None if it is missing."""
    rates = [rate(costs[name]) for costs in rounds if name in costs]
    return statistics.median(rates) if rates else None


def main() -> None:
    """Prints the figures."""
    options_of = parser(__doc__)
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
        say("starting a server and an engine")
        with runners(home, documents, Path(folder)) as found:
            for number in range(rounds):
                # Another one first each time.
                names = [*found][number % len(found) :] + [*found][: number % len(found)]
                costs = {name: found[name]() for name in names}
                took = "; ".join(f"{name} {c.seconds:.1f} s" for name, c in costs.items())
                say(f"round {number} of {rounds - 1}, {n} documents: {took}")
                if number:
                    rounds_of.append(costs)
    figures: list[Figure] = []
    for name, rate in (
        ("documents", lambda cost: n / cost.seconds),
        ("tokens written", lambda cost: cost.tokens / cost.seconds),
        ("documents by the processor's time", lambda cost: n / cost.cpu),
    ):
        for peer in ("LLM.chat", "datatrove"):
            mine, theirs = (median_of(rounds_of, who, rate) for who in ("ixt", peer))
            assert mine is not None
            figures.append(beside(name, mine, "1/s", peer, theirs, 0.95, most=False))
    report(figures, PACKAGES, options.output)


if __name__ == "__main__":
    main()
