"""Critique runs as processes, and the leases that they hold."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fake_vllm import Running

from ixt_data.critique_runs.leases import is_running
from ixt_data.store.store import Store


def command(fake: Running, *more: object) -> tuple[object, ...]:
    base = ("critique", "--corpus", "web", "--critic", "vllm", "--endpoint", fake.url)
    return (*base, "--model", "judge", *more)


def start(
    folder: Path, *arguments: object, stdout: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    code = [sys.executable, "-m", "ixt_data", *map(str, arguments), "--output", "json"]
    environment = {**os.environ, "IXT_STORE": str(folder / "S")}
    with (folder / "errors").open("ab") as errors:
        return subprocess.Popen(code, cwd=folder, env=environment, stdout=stdout, stderr=errors)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def lease_files(folder: Path) -> list[Path]:
    walked = os.walk(folder / "S/_leases")
    return [Path(at, name) for at, _, names in walked for name in names if name[0] != "."]


def holders(folder: Path) -> list[int]:
    """The processes that are at a unit, and alive."""
    found = []
    for path in lease_files(folder):
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            continue
        if is_running(record["pid"], record["started"]):
            found.append(record["pid"])
    return found


def kill_after_commits(store: Store, commits: int, folder: Path, *arguments: object) -> int:
    """Start a verb, kill it after some commits of the store, and return the number it made."""
    before = store.log.newest()
    process = start(folder, *arguments)
    deadline = time.monotonic() + 60
    while store.log.newest() < before + commits and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return store.log.newest() - before
