"""Prometheus metrics of a critique run, scraped over HTTP while it runs."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command_line import ixt
from fake_vllm import Running
from prometheus_client.parser import text_string_to_metric_families

Scraped = dict[tuple[str, str], float]
SLOW = """
import time
from pathlib import Path
from ixt_data.critics import EmbeddedCritic
from ixt_data.records import Critique

class Slow(EmbeddedCritic):
    name = "slow"
    def config(self):
        return {}
    def judge(self, document):
        while document.text == "page 9" and not Path("go").exists():
            time.sleep(0.02)
        return Critique(document.doc_id, score=1.0)
"""


def corpus(folder: Path, *texts: str) -> None:
    lines = (json.dumps({"text": text}) for text in texts)
    (folder / "a.jsonl").write_text("\n".join(lines))
    ixt("init", folder=folder)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=folder)


@contextmanager
def running(folder: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A critique run in progress, and the address of its metrics."""
    command = [sys.executable, "-m", "ixt_data", "critique", "--corpus", "web"]
    command += [*map(str, arguments), "--metrics-port", "0"]
    environment = {**os.environ, "IXT_STORE": str(folder / "S")}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("metrics: http://127.0.0.1:"), line + process.stderr.read()
        yield process, line.split()[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def scrape(url: str) -> Scraped:
    """Every sample by its name and its labels' values."""
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape_until(url: str, name: str, label: str, least: float) -> Scraped:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = scrape(url)
        if found.get((name, label), 0) >= least:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{name}{{{label}}} never came to {least}: {found}")


PAGES = tuple(f"page {i}" for i in range(20))


def test_metrics_of_a_judge_are_served_during_the_run(tmp_path: Path) -> None:
    corpus(tmp_path, "[[stall]] page", "[[once_invalid]] page", *PAGES)
    with Running({"seats": 3}) as fake:
        judge = ("--critic", "vllm", "--endpoint", fake.url, "--model", "judge", "--no-expected")
        with running(tmp_path, *judge, "--concurrency", 4) as (process, url):
            scrape_until(url, "ixt_documents_total", "ok", 21)
            found = scrape_until(url, "ixt_response_seconds_count", fake.url, 22)
            assert process.poll() is None
            process.terminate()
    assert found["ixt_corpus_documents", ""] == 22
    assert found["ixt_tokens_total", "out"] == 22 * 120
    assert found["ixt_tokens_total", "in"] > found["ixt_tokens_total", "thinking"] > 0
    assert found["ixt_requests_total", ""] == fake.fake.requests["chat"] >= 23
    assert found["ixt_retries_total", ""] == 1
    assert found["ixt_endpoint_up", fake.url] == 1
    assert found["ixt_endpoint_requests_in_flight", fake.url] == 1
    assert 1 <= found["ixt_endpoint_requests_limit", fake.url] <= 4
    assert found["ixt_endpoint_crashes_total", fake.url] == 0
    assert found["ixt_endpoint_refusals_total", fake.url] == fake.fake.requests["overload"]
    assert found["ixt_response_seconds_sum", fake.url] > 0
    buckets = [n for (name, _), n in found.items() if name == "ixt_response_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found["ixt_response_seconds_count", fake.url] == 22


def test_metrics_of_an_embedded_critic_are_served(tmp_path: Path) -> None:
    corpus(tmp_path, *PAGES)
    (tmp_path / "mine.py").write_text(SLOW)
    with running(tmp_path, "--critic", "mine:Slow") as (process, url):
        found = scrape_until(url, "ixt_documents_total", "ok", 9)
        assert process.poll() is None
        (tmp_path / "go").touch()
        assert process.wait(60) == 0
    assert found["ixt_documents_total", "ok"] == 9
    assert found["ixt_tokens_total", "out"] == 0
    assert not any(name.startswith("ixt_endpoint") for name, _ in found)
    (labels,) = (labels for name, labels in found if name == "ixt_critique_run_info")
    assert "mine:Slow" in labels.split(",")


def test_port_in_use_is_named(tmp_path: Path) -> None:
    corpus(tmp_path, "page")
    with Running() as fake:
        base = ("critique", "--corpus", "web", "--critic", "rules")
        done = ixt(*base, "--metrics-port", fake.port, folder=tmp_path, code=1)
    assert f"--metrics-port: cannot listen on 127.0.0.1:{fake.port}" in done.stderr
