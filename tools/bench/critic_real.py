"""The vllm critic with a real vLLM, beside vLLM's own offline `LLM.chat` and datatrove's runner.

    make test-vllm && python tools/bench/critic_real.py --home .venv-vllm --output json

All answer the same requests. Ours and datatrove's go to one server, whose prefix cache is emptied
between them, in another order each round; `LLM.chat` has an engine of the same flags for itself.
Only the answering is timed. At temperature 0 and asked once, all draw much the same answers.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import yaml

from ixt_data.critics.rubric import Rubric, load_rubric
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.critics.vllm.requests import Requests, Sampling
from ixt_data.critics.vllm.serve import Server
from ixt_data.model import Document, document_id
from ixt_tools.bench.figures import ROUNDS, Figure, beside, parser, report, say
from ixt_tools.bench.peers_env import datatrove_python

PACKAGES = ("ixt", "aiohttp")
HERE = Path(__file__).parent
"""Scripts that others run: what they import is not here."""

NAME = "tiny-judge"
SAMPLING = Sampling(temperature=0, top_p=1, max_tokens=320, thinking_budget=16, expected=False)
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
    """What answering all requests took."""

    seconds: float
    tokens: int


def brief() -> Rubric:
    """The web rubric with short critiques: the judge is small, and would fill any room."""
    content = yaml.safe_load(load_rubric("web").model_dump_json())
    return Rubric.model_validate({**content, "critique_chars": 160})


def served(home: Path, rubric: Rubric, documents: list[Document], number: int) -> dict[str, Cost]:
    """Ours and datatrove's at one server; in an odd round datatrove's comes first."""
    flags = ["--max-model-len", "3072", "--enforce-eager", "--dtype", "bfloat16"]
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            str(home / "judge"), str(home / "bin/vllm"), NAME, "qwen3", flags,
            log=Path(folder) / "log",
        )  # fmt: skip
        critic = VllmCritic((), NAME, rubric, SAMPLING, attempts=1, max_failed=1.0, server=server)
        with critic:
            critic.connect()
            root = server.url.removesuffix("/v1")
            costs: dict[str, Cost] = {}
            runners: dict[str, Callable[[], Cost | None]] = {
                "ixt": lambda: ours(critic, documents),
                "datatrove": lambda: datatrove(root, rubric, documents, Path(folder)),
            }
            for name in sorted(runners, reverse=number % 2 == 0):
                forget = urllib.request.Request(f"{root}/reset_prefix_cache", method="POST")
                urllib.request.urlopen(forget, timeout=60).close()
                list(critic.run(documents[:1]))
                if (cost := runners[name]()) is not None:
                    costs[name] = cost
            return costs


def ours(critic: VllmCritic, documents: list[Document]) -> Cost:
    """Our critic, connected."""
    critic.spent.clear()
    start = time.perf_counter()
    done = list(critic.run(documents))
    seconds = time.perf_counter() - start
    assert len(done) == critic.spent["requests"] == len(documents)
    return Cost(seconds, critic.spent["tokens_out"])


def written(rubric: Rubric, documents: list[Document], folder: Path) -> Path:
    """The bodies of our requests, as a file."""
    requests, file = Requests(NAME, rubric, SAMPLING), folder / "bodies.jsonl"
    lines = [requests.chat(rubric.user_message(document), 0) for document in documents]
    file.write_bytes(b"\n".join(lines))
    return file


def datatrove(root: str, rubric: Rubric, documents: list[Document], folder: Path) -> Cost | None:
    """The same by datatrove's InferenceRunner; None if it cannot be installed."""
    python = datatrove_python()
    if python is None:
        return None
    bodies = written(rubric, documents, folder)
    script: list[str | Path] = [python, HERE / "datatrove_runner.py", root, NAME]
    return told([*script, bodies, folder / "answers"])


def offline(home: Path, rubric: Rubric, documents: list[Document]) -> Cost:
    """The same by `LLM.chat`."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = written(rubric, documents, Path(folder))
        options = [f"{key}={json.dumps(value)}" for key, value in OFFLINE.items()]
        command = [home / "bin/python", HERE / "llm_chat.py", home / "judge", bodies]
        return told([*command, *options])


def told(command: Sequence[str | Path]) -> Cost:
    """What a script says that it took."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-3000:]}")
    # Engines print there, too, also after it.
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"seconds"'))
    found = json.loads(line)
    return Cost(found["seconds"], found["tokens"])


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
    options = options_of.parse_args()
    os.environ.update(ENVIRONMENT)
    home = options.home.resolve()
    n, rounds = (24, 1) if options.quick else (60, ROUNDS)
    texts = list(dict.fromkeys(topics[name][:CHARACTERS] for name in sorted(topics)))[:n]
    documents, rubric = [Document(document_id(text), text) for text in texts], brief()
    rounds_of: list[dict[str, Cost]] = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {n} documents at a server, and by LLM.chat")
        costs = served(home, rubric, documents, number)
        costs["LLM.chat"] = offline(home, rubric, documents)
        say("; ".join(f"{name} {cost.seconds:.1f} s" for name, cost in costs.items()))
        rounds_of.append(costs)
    figures: list[Figure] = []
    for name, rate in (
        ("documents", lambda cost: n / cost.seconds),
        ("tokens written", lambda cost: cost.tokens / cost.seconds),
    ):
        for peer in ("LLM.chat", "datatrove"):
            mine, theirs = (median_of(rounds_of, who, rate) for who in ("ixt", peer))
            assert mine is not None
            figures.append(beside(name, mine, "1/s", peer, theirs, 0.95, most=False))
    report(figures, PACKAGES, options.output)


if __name__ == "__main__":
    main()
