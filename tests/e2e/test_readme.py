"""A newcomer's path: the commands of the README, as they stand there, on a user's JSONL."""

import bisect
import heapq
import inspect
import os
import re
import signal
import statistics
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
TITLE = "## Your own documents, in five minutes"


def commands() -> list[str]:
    """The lines of the section's block."""
    section = (ROOT / "README.md").read_text().split(TITLE)[1].split("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return block.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    modules = (bisect, heapq, statistics, textwrap)
    lines = [{"text": inspect.getsource(module), "lang": "python"} for module in modules]
    lines.append({"text": "BUY NOW!!! " * 40})
    text = b"\n".join(map(orjson.dumps, lines)) + b"\nnot json\n"
    (tmp_path / "mine.jsonl").write_bytes(text)
    return tmp_path


@pytest.mark.slow
@pytest.mark.e2e
def test_the_commands_of_the_readme_lead_to_the_inspector(folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TMPDIR": str(folder)}
    *steps, serve = commands()
    assert serve == "ixt serve --store S"
    for step in steps:
        done = subprocess.run(
            step, shell=True, cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{step}\n{done.stderr}"
    good = (folder / "good.jsonl").read_bytes().splitlines()
    assert 0 < len(good) < 5
    assert len(list((folder / "S" / "quarantine").iterdir())) == 1
    # A free port instead of the usual one, which may be taken on this machine.
    with subprocess.Popen(
        [*serve.split(), "--port", "0"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            page = urllib.request.urlopen(_address(server), timeout=30).read().decode()
        finally:
            server.send_signal(signal.SIGINT)
    assert "mine" in page
    assert "rules" in page


def _address(server: "subprocess.Popen[str]") -> str:
    assert server.stderr is not None
    until = time.monotonic() + 60
    while time.monotonic() < until and (line := server.stderr.readline()):
        if found := re.search(r"http://\S+", line):
            return found[0]
    raise AssertionError("ixt serve printed no address")
