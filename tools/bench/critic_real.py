"""The vllm critic with a real vLLM, beside vLLM's own offline `LLM.chat` on the same requests.

    make test-vllm && python tools/bench/critic_real.py --home .venv-vllm --output json

Both start a vLLM of the same flags by themselves, in turn; only the answering is timed. At
temperature 0 and asked once, both draw much the same answers.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import yaml

from ixt_data.critics.rubric import Rubric, load_rubric
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.critics.vllm.requests import Requests, Sampling
from ixt_data.critics.vllm.serve import Server
from ixt_data.model import Document, document_id
from ixt_tools.bench import llm_chat
from ixt_tools.bench.figures import ROUNDS, Figure, beside, parser, report, say

PACKAGES = ("ixt", "aiohttp")
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
}


def brief() -> Rubric:
    """The web rubric with short critiques: the judge is small, and would fill any room."""
    content = yaml.safe_load(load_rubric("web").model_dump_json())
    return Rubric.model_validate({**content, "critique_chars": 160})


def ours(home: Path, rubric: Rubric, documents: list[Document]) -> dict[str, float]:
    """Seconds and tokens of our critic with a server of its own."""
    flags = ["--max-model-len", "3072", "--enforce-eager", "--dtype", "bfloat16"]
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            str(home / "judge"), str(home / "bin/vllm"), NAME, "qwen3", flags,
            log=Path(folder) / "log",
        )  # fmt: skip
        critic = VllmCritic((), NAME, rubric, SAMPLING, attempts=1, max_failed=1.0, server=server)
        with critic:
            critic.connect()
            list(critic.run(documents[:1]))
            critic.spent.clear()
            start = time.perf_counter()
            done = list(critic.run(documents))
            seconds = time.perf_counter() - start
            assert len(done) == critic.spent["requests"] == len(documents)
            return {"seconds": seconds, "tokens": critic.spent["tokens_out"]}


def offline(home: Path, rubric: Rubric, documents: list[Document]) -> dict[str, float]:
    """The same by `LLM.chat`."""
    requests = Requests(NAME, rubric, SAMPLING)
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies.jsonl"
        lines = [requests.chat(rubric.user_message(document), 0) for document in documents]
        bodies.write_bytes(b"\n".join(lines))
        options = [f"{key}={json.dumps(value)}" for key, value in OFFLINE.items()]
        command = [str(home / "bin/python"), llm_chat.__file__, str(home / "judge"), str(bodies)]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


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
    times = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {n} documents by ixt, and by LLM.chat")
        times.append((ours(home, rubric, documents), offline(home, rubric, documents)))
    rates = [[n / found["seconds"] for found in both] for both in times]
    tokens = [[found["tokens"] / found["seconds"] for found in both] for both in times]
    figures: list[Figure] = []
    for name, rows in (("documents", rates), ("tokens written", tokens)):
        mine, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
        figures.append(beside(name, mine, "1/s", "LLM.chat", theirs, 0.95, most=False))
    report(figures, PACKAGES, options.output)


if __name__ == "__main__":
    main()
