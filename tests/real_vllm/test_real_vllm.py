"""The critic with a real vLLM on the CPU and a reasoning judge that is killed under load.

`make test-vllm` creates the server's environment (see `setup.sh`) and sets IXT_VLLM_HOME.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import yaml

from ixt_data.store.store import Store

pytestmark = pytest.mark.vllm

DOCUMENTS = 60
CHARACTERS = 1000
LIMIT = 900.0
RUBRIC = Path(__file__).resolve().parents[2] / "schemas/rubrics/web.yaml"
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "HF_HUB_OFFLINE": "1",
}
SERVER = ("--max-model-len", "3072", "--enforce-eager", "--dtype", "bfloat16")


@pytest.fixture(scope="module")
def home() -> Path:
    home = os.environ.get("IXT_VLLM_HOME")
    assert home, "run `make test-vllm`: it sets up a vLLM and sets IXT_VLLM_HOME"
    return Path(home)


def ixt(folder: Path, *arguments: object) -> Any:
    done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "json" in arguments else done.stdout


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ixt_data", *map(str, arguments)]


def corpus(folder: Path) -> None:
    """Ingest real prose, the texts of Python's `help`, and write a rubric with short critiques."""
    texts = dict.fromkeys(topics[name][:CHARACTERS] for name in sorted(topics))
    rows = [{"id": i, "text": text} for i, text in enumerate(texts)][:DOCUMENTS]
    (folder / "topics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    brief = {**yaml.safe_load(RUBRIC.read_text()), "critique_chars": 160}
    (folder / "brief.yaml").write_text(yaml.safe_dump(brief))
    ixt(folder, "init")
    ixt(folder, "ingest", "--corpus", "topics", "topics.jsonl")


def critique(home: Path) -> list[str]:
    serving = [f"--vllm-arg={flag}" for flag in SERVER]
    return command(
        *("critique", "--corpus", "topics", "--critic", "vllm", "--rubric", "brief.yaml"),
        *("--serve", home / "judge", "--vllm-bin", home / "bin/vllm", *serving),
        *("--model", "tiny-judge", "--thinking-budget", 16, "--max-tokens", 320),
        *("--concurrency", 16, "--max-failed", 0.9, "--output", "json"),
    )


def count_journaled(folder: Path) -> int:
    """Return the number of critiques in the journals; each has a header line."""
    journals = (folder / "ixt/_journal").glob("*/*.jsonl")
    return sum(path.read_bytes().count(b"\n") - 1 for path in journals)


def processes(port: str) -> list[int]:
    """Return the process ids of vLLM servers on a port, by their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and port.encode() in words and b"supervisor.py" not in words[1]:
            found.append(int(path.parent.name))
    return found


def test_critique_run_survives_a_killed_server(home: Path, tmp_path: Path) -> None:
    corpus(tmp_path)
    environment = {**os.environ, **ENVIRONMENT}
    with (tmp_path / "errors").open("wb") as errors:
        worker = subprocess.Popen(
            critique(home), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            end = time.monotonic() + LIMIT
            while count_journaled(tmp_path) < DOCUMENTS // 4:
                assert worker.poll() is None, (tmp_path / "errors").read_text()[-3000:]
                assert time.monotonic() < end, "no answers"
                time.sleep(0.2)
            (log,) = tmp_path.glob("vllm-*.log")
            port = log.stem.removeprefix("vllm-")
            for server in processes(port):
                os.kill(server, signal.SIGKILL)
            out, _ = worker.communicate(timeout=LIMIT)
        finally:
            worker.kill()
    assert worker.returncode == 0, (tmp_path / "errors").read_text()[-3000:]
    report = json.loads(out)
    assert report["documents"] == DOCUMENTS
    # How many critiques of a judge this small are degenerate differs between runs.
    assert report["ok"] >= DOCUMENTS / 5, report["statuses"]
    assert sum(report["statuses"].values()) == DOCUMENTS
    assert report["thinking_tokens"] > 0
    assert log.read_text().count("Application startup complete") == 2
    assert not processes(port)

    rows = ixt(
        tmp_path,
        "query",
        "SELECT status, score, critique, doc_id FROM critiques",
        "--output",
        "json",
    )
    assert len({row["doc_id"] for row in rows}) == len(rows) == DOCUMENTS
    good = [row for row in rows if row["status"] == "ok"]
    assert Counter(row["status"] for row in rows) == Counter(
        {status: n for status, n in report["statuses"].items() if n}
    )
    assert all(0 <= row["score"] <= 1 and row["critique"] for row in good)

    store = Store.open(tmp_path / "ixt")
    (shard,) = store.snapshot().family(f"thinking/{report['critic']}")
    with_thinking = {
        row["doc_id"].hex() for row in store.shard(shard).rows() if len(row["thinking"].split()) > 2
    }
    assert len(with_thinking) >= len(good) / 2
    assert with_thinking <= {row["doc_id"].replace("-", "") for row in good}
