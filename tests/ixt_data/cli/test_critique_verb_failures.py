"""Failures of a critique run: servers that respond badly and crash, workers that are killed.

In the morning the set of (document, critic) rows is exact, whatever happened in it.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import ixt
from critique_processes import command, holders
from fake_vllm import Running

from ixt_data.ingestion import ingest
from ixt_data.maintenance.verification import verify
from ixt_data.store.store import Store

FAKE = Path(__file__).resolve().parents[2] / "support/fake_vllm.py"
N, SECONDS = 160, 60
WAYS = (
    "no_answer",
    "answer_in_reasoning",
    "truncated",
    "runaway",
    "invalid",
    "overload",
    "error",
    "refused",
)
WORDS = ("[[refused]]", "[[too_long]]", "[[once_cut]]", "[[once_invalid]]")


class Server:
    """A fake server in a process of its own, always on the same port."""

    def __init__(self, plan: dict[str, Any]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.plan = plan
        self.start()

    def start(self) -> None:
        plan = ["--plan", json.dumps(self.plan)]
        command = [sys.executable, str(FAKE), "--port", str(self.port), *plan]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextlib.contextmanager
def servers(plan: dict[str, Any]) -> Iterator[list[Server]]:
    both = [Server(plan), Server(plan)]
    try:
        for server in both:
            listening(server.port)
        yield both
    finally:
        for server in both:
            server.kill()


def listening(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("the fake server did not start")


def critique(folder: Path, urls: list[str], *more: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "ixt_data", "critique", "--store", str(folder / "S")]
    command += ["--corpus", "web", "--critic", "vllm", "--model", "judge", "--no-expected"]
    command += [f"--endpoint={url}" for url in urls]
    command += ["--max-failed", "1", "--concurrency", "8", "--timeout", "1"]
    command += ["--output", "json", *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def exact(store: Store) -> dict[str, int]:
    """Documents by status; raises unless each has one row, by one critic."""
    sql = (
        "SELECT count(*) AS n, count(DISTINCT (doc_id, critic_id)) AS pairs, "
        "count(DISTINCT critic_id) AS critics FROM critiques"
    )
    assert store.sql(sql).arrow().to_pylist() == [{"n": N, "pairs": N, "critics": 1}]
    odd = "SELECT doc_id FROM documents ANTI JOIN critiques USING (doc_id)"
    assert store.sql(odd).arrow().num_rows == 0
    odd = (
        "SELECT doc_id FROM critiques WHERE (status = 'ok') <> (score IS NOT NULL) "
        "OR (status = 'ok') <> (error IS NULL)"
    )
    assert store.sql(odd).arrow().num_rows == 0
    assert verify(store).problems == []
    found = store.sql("SELECT status, count(*) AS n FROM critiques GROUP BY 1").arrow().to_pylist()
    counts = {row["status"]: row["n"] for row in found}
    assert sum(counts.values()) == N
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_each_document_has_one_row_after_failures(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    texts = [f"{WORDS[i // 3]} page {i}" for i in range(3 * len(WORDS))]
    texts += ["[[stall]] page", *(f"page {i}" for i in range(len(texts) + 1, N))]
    dice.shuffle(texts)
    lines = "".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(texts))
    (tmp_path / "a.jsonl").write_text(lines)
    store = Store.init(tmp_path / "S")
    ingest(store, "web", [tmp_path / "a.jsonl"], shard_bytes=1500)
    plan: dict[str, Any] = {way: dice.uniform(0, 0.06) for way in WAYS}
    plan |= {"cut": 0.01, "engine_crashed": 0.001, "delay": 0.1, "seats": 12, "down": 0.3}
    with servers(plan) as both:
        urls = [server.url for server in both]
        parent = critique(tmp_path, urls, "--workers", 2)
        end = time.monotonic() + SECONDS
        for event in dice.sample(["worker", "worker", "worker", "server"], 4):
            time.sleep(dice.uniform(0.2, 0.8))
            if event == "server":
                both[0].kill()
                both[0].start()
                continue
            while not (pids := holders(tmp_path)) and parent.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.01)
            for pid in pids[:1]:
                os.kill(pid, signal.SIGKILL)
        out, said = parent.communicate(timeout=SECONDS)
        assert parent.returncode == 0, said.decode()
    counts = exact(store)
    assert store.sql("SELECT count(*) AS n FROM critiques_all").arrow()["n"].to_pylist() == [N]
    report = json.loads(out)
    assert {status: n for status, n in report["statuses"].items() if n} == counts
    assert counts["refused"] >= 3
    assert counts["too_long"] == 3
    assert counts["timeout"] >= 1

    with servers({"models": ["judge"]}) as well:
        again = critique(tmp_path, [server.url for server in well], "--retry-failed")
        again.communicate(timeout=SECONDS)
        assert again.returncode == 0
    bad = {status: n for status, n in exact(store).items() if status != "ok"}
    assert bad == {"refused": 3, "too_long": 3, "timeout": 1}


def test_run_says_what_the_judge_gives_and_why_documents_failed(tmp_path: Path) -> None:
    texts = ["[[no_answer]] one", "[[no_answer]] two", "[[parrot]] three", "a page", "a post"]
    lines = (json.dumps({"text": text}) for text in texts)
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    with Running() as fake:
        done = ixt(*command(fake), folder=tmp_path, code=1)
        assert f"judge {fake.url}: structured output: json_schema, logprobs: yes" in done.stderr
        assert "60% of the documents failed (--max-failed 0.5)" in done.stderr
        table = [line.split()[:2] for line in done.stderr.splitlines()]
        assert ["no_answer", "2"] in table
        assert ["degenerate", "1"] in table
        again = ixt(*command(fake), "--retry-failed", "--max-failed", 1, folder=tmp_path)
        assert again.returncode == 0
        key = ixt(*command(fake), "-O", "api_key=sk-1", folder=tmp_path, code=2)
        assert "IXT_API_KEY" in key.stderr
        assert "sk-1" not in key.stderr


def test_password_of_a_proxy_is_read_from_the_environment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a page"}\n')
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    words = ("critique", "--corpus", "web", "--critic", "vllm", "--endpoint", "http://judge/v1")
    secret = "http://me:secret@127.0.0.1:9"
    refused = ixt(*words, "--proxy", secret, folder=tmp_path, code=2)
    assert "IXT_PROXY" in refused.stderr
    assert "secret" not in refused.stdout + refused.stderr
    monkeypatch.setenv("IXT_PROXY", secret)
    tried = ixt(*words, folder=tmp_path, code=1)
    assert "127.0.0.1" in tried.stderr
    assert "secret" not in tried.stdout + tried.stderr
