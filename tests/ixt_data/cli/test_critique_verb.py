"""`ixt critique --critic vllm` as a user runs it: one process, a real server, and kill -9."""

import json
import random
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import as_json, ixt
from critique_processes import alive, command, start
from fake_vllm import Running

FAKE = Path(__file__).resolve().parents[2] / "support/fake_vllm.py"
RUBRICS = Path(__file__).resolve().parents[3] / "schemas/rubrics"


def corpus(folder: Path, texts: list[str], shard_mb: float = 64) -> None:
    lines = (json.dumps({"text": text, "id": i}) for i, text in enumerate(texts))
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    ixt("init", folder=folder)
    ixt("ingest", "--corpus", "web", "--shard-mb", shard_mb, "a.jsonl", folder=folder)


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    done = ixt("query", sql, "--output", "json", folder=folder)
    return json.loads(done.stdout)


def test_critique_journals_and_commits_each_unit(tmp_path: Path) -> None:
    texts = [f"page {i}" for i in range(50)]
    texts += ["[[no_answer]] page", "[[invalid]] page", "[[once_refused]] page", "[[truncated]] p"]
    corpus(tmp_path, texts)
    with Running() as fake:
        report = as_json(*command(fake, "--rubric", "web"), folder=tmp_path)
        assert (report["documents"], report["ok"], report["failed"]) == (54, 50, 4)
        failures = {key: n for key, n in report["statuses"].items() if n}
        assert failures == {"ok": 50, "no_answer": 1, "invalid": 1, "refused": 1, "truncated": 1}
        assert report["statuses"]["poison"] == 0
        assert report["requests"] == 50 * 2 + 3 * 3 + 1
        assert min(report[key] for key in ("tokens_in", "tokens_out", "thinking_tokens")) > 0
        assert report["snapshot"] == 2
        counts = rows(tmp_path, "SELECT status, count(*) AS n FROM critiques GROUP BY 1")
        assert sum(row["n"] for row in counts) == 54
        (run,) = rows(tmp_path, "SELECT * FROM critique_runs")
        assert (run["run"], run["tokens_in"]) == (report["run"], report["tokens_in"])
        (row,) = rows(tmp_path, "SELECT expected, entropy FROM critiques WHERE score = 0.6 LIMIT 1")
        assert row["expected"] == pytest.approx(0.6222, abs=1e-3)

        asked = fake.fake.requests["chat"]
        report = as_json(*command(fake, "--rubric", "web"), folder=tmp_path)
        assert (report["documents"], fake.fake.requests["chat"]) == (0, asked)
        report = as_json(*command(fake, "--retry-failed"), folder=tmp_path)
        assert (report["ok"], report["statuses"]["refused"]) == (51, 0)
        assert fake.fake.requests["chat"] == asked + 1 + 9


def test_critique_reuses_responses_unless_the_critic_changes(tmp_path: Path) -> None:
    corpus(tmp_path, [f"page {i}" for i in range(20)])
    with Running() as one, Running() as two:
        quick = ("--no-expected",)
        as_json(*command(one, *quick), folder=tmp_path)
        report = as_json(*command(two, *quick, "--concurrency", 3), folder=tmp_path)
        assert (report["documents"], two.fake.requests["chat"]) == (0, 0)
        tree = yaml.safe_load((RUBRICS / "web.yaml").read_text())
        tree["task"] = tree["task"].replace("true", "useful")
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
        report = as_json(*command(two, *quick, "--rubric", "mine.yaml"), folder=tmp_path)
        assert (report["documents"], two.fake.requests["chat"]) == (20, 20)
        asking = command(two, *quick, "--rubric", "mine.yaml", "--temperature", 0.5)
        found = as_json(*asking, "--estimate", folder=tmp_path)
        assert (found["previous_critic"], found["documents"]) == (report["critic"], 20)
        assert found["changed_keys"] == ["sampling.temperature"]
        said = ixt(*asking, folder=tmp_path).stderr
        assert "sampling.temperature. 20 documents to critique" in " ".join(said.split())
        assert "note:" not in ixt(*asking, folder=tmp_path).stderr


def test_estimate_stores_nothing(tmp_path: Path) -> None:
    corpus(tmp_path, [f"page {i}" for i in range(200)])
    with Running() as fake:
        found = as_json(*command(fake, "--estimate", "--gpus", 4), folder=tmp_path)
    assert (found["documents"], found["sampled"], found["sampled_ok"]) == (200, 64, 64)
    assert found["tokens_out"] == pytest.approx(200 * 120, rel=0.01)
    assert found["gpu_hours"] == pytest.approx(4 * found["hours"], abs=1e-3)
    assert rows(tmp_path, "SELECT count(*) AS n FROM critiques") == [{"n": 0}]


def test_wrong_usage(tmp_path: Path) -> None:
    corpus(tmp_path, ["a"])
    base = ("critique", "--corpus", "web", "--critic")
    assert "--endpoint URL or --serve" in ixt(*base, "vllm", folder=tmp_path, code=2).stderr
    done = ixt(*base, "rules", "--endpoint", "http://a/v1", folder=tmp_path, code=2)
    assert "is for --critic vllm" in done.stderr
    done = ixt(*base, "vllm", "--endpoint", "http://127.0.0.1:9/v1", folder=tmp_path, code=1)
    assert "no server responds" in done.stderr
    with Running() as fake:
        done = ixt(*command(fake, "--rubric", "wbe"), folder=tmp_path, code=1)
    assert "valid are code, dialogue, math, sft, web" in done.stderr


@pytest.mark.slow
def test_killed_worker_loses_only_requests_in_flight(tmp_path: Path) -> None:
    concurrency, n = 16, 2000
    corpus(tmp_path, [f"page {i}" for i in range(n)], shard_mb=0.02)
    dice = random.Random(5)
    with Running({"delay": 0.02}) as fake:
        asking = command(fake, "--no-expected", "--concurrency", concurrency)
        for kill in range(5):
            worker = start(tmp_path, *asking)
            goal = (kill + 1) * 330 + dice.randrange(60)
            while fake.fake.requests["chat"] < goal:
                assert worker.poll() is None
                time.sleep(0.002)
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        report = as_json(*asking, folder=tmp_path)
        sent = fake.fake.requests["chat"]
    assert n < sent <= n + 5 * concurrency
    assert report["reused"] + report["requests"] == report["documents"]
    # A kill between a commit and the deletion of its journal leaves one for gc.
    assert len(list((tmp_path / "S/_journal").rglob("*.jsonl"))) <= 5
    assert ixt("gc", folder=tmp_path).returncode == 0
    assert not list((tmp_path / "S/_journal").rglob("*.jsonl"))
    (row,) = rows(
        tmp_path,
        "SELECT count(*) AS n, count(DISTINCT doc_id) AS d, min(status) AS s FROM critiques_all",
    )
    assert row == {"n": n, "d": n, "s": "ok"}
    assert ixt("verify", folder=tmp_path).returncode == 0


@pytest.mark.slow
def test_two_workers_share_a_corpus(tmp_path: Path) -> None:
    corpus(tmp_path, [f"page {i}" for i in range(300)], shard_mb=0.002)
    with Running({"delay": 0.05}) as fake:
        asking = command(fake, "--no-expected", "--concurrency", 4)
        workers = [start(tmp_path, *asking) for _ in range(2)]
        assert [worker.wait(60) for worker in workers] == [0, 0]
        assert fake.fake.requests["chat"] == 300
    assert rows(tmp_path, "SELECT count(*) AS n FROM critiques_all") == [{"n": 300}]
    # On a busy machine one of them may come too late to do any.
    runs = rows(tmp_path, "SELECT documents FROM critique_runs")
    assert sum(run["documents"] for run in runs) == 300


def vllm_program(folder: Path) -> Path:
    """A program that starts as `vllm serve` does, with an engine in a process of its own."""
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(0o755)
    return program


def started(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


def gone(record: Path, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(alive(one["pid"]) for one in started(record)):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_supervised_server_is_restarted_and_leaves_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(tmp_path, [*(f"page {i}" for i in range(150)), "[[exit]] page"])
    record = tmp_path / "record"
    monkeypatch.setenv("FAKE_RECORD", str(record))
    monkeypatch.setenv("FAKE_PLAN", json.dumps({"worker": True, "delay": 0.02}))
    serving = ("--serve", "org/Qwen3-tiny", "--vllm-bin", vllm_program(tmp_path), "--no-expected")
    base = ("critique", "--corpus", "web", "--critic", "vllm", "--concurrency", 8)
    report = as_json(*base, *serving, "--vllm-arg=--enforce-eager", folder=tmp_path)
    assert (report["ok"], report["statuses"]["poison"]) == (150, 1)
    servers = [one for one in started(record) if one["arguments"] != ["worker"]]
    # After the third death no document was left to ask about.
    assert len(servers) in (3, 4)
    flags = " ".join(servers[0]["arguments"])
    assert flags.startswith("serve org/Qwen3-tiny --host 127.0.0.1 --port ")
    assert "--reasoning-parser qwen3" in flags
    assert "--structured-outputs-config.disable_any_whitespace true" in flags
    assert "speculative" not in flags
    assert flags.endswith("--enforce-eager")
    assert gone(record, 5)


@pytest.mark.slow
def test_killed_worker_ends_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path, ["[[stall]] page"])
    record = tmp_path / "record"
    monkeypatch.setenv("FAKE_RECORD", str(record))
    monkeypatch.setenv("FAKE_PLAN", json.dumps({"worker": True}))
    base = ("critique", "--corpus", "web", "--critic", "vllm", "--no-expected")
    worker = start(tmp_path, *base, "--serve", "m", "--vllm-bin", vllm_program(tmp_path))
    port = None
    for _ in range(300):
        if record.exists() and len(started(record)) == 2:
            flags = started(record)[0]["arguments"]
            port = flags[flags.index("--port") + 1]
            try:
                stats = urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=5).read()
            except OSError:
                stats = b"{}"
            if json.loads(stats).get("requests", {}).get("chat"):
                break
        time.sleep(0.1)
    else:
        pytest.fail("the server was not asked")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert gone(record)


def test_server_that_cannot_start_states_the_reason(tmp_path: Path) -> None:
    corpus(tmp_path, ["a"])
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\necho CUDA out of memory >&2\nexit 3\n")
    program.chmod(0o755)
    base = ("critique", "--corpus", "web", "--critic", "vllm")
    done = ixt(*base, "--serve", "m", "--vllm-bin", program, folder=tmp_path, code=1)
    assert "vllm exited before it was ready" in done.stderr.replace("\n", " ")
    assert "CUDA out of memory" in done.stderr
