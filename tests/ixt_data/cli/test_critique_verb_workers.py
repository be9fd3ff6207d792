"""Many workers on one critique run, as a user starts them; some of them die."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import as_json, ixt
from critique_processes import alive, command, holders, lease_files, start
from fake_vllm import Running

from ixt_data.ingestion import ingest
from ixt_data.maintenance.verification import verify
from ixt_data.store.store import Store

N, CONCURRENCY = 200, 4
CLUSTER = Path(__file__).resolve().parents[3] / "docs/cluster"


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


def pages(folder: Path, n: int = N, units: int = 15) -> None:
    lines = (json.dumps({"text": f"page {i}", "id": i}) for i in range(n))
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    size = 50 * n // units
    ingest(Store.init(folder / "S"), "web", [folder / "a.jsonl"], shard_bytes=size)


def asking(fake: Running, *more: object) -> tuple[object, ...]:
    return command(fake, "--no-expected", "--concurrency", CONCURRENCY, *more)


def exact(folder: Path, n: int = N) -> Store:
    """Every document has one row, each unit was published once, and no lease is held."""
    store = Store.open(folder / "S")
    sql = "SELECT count(*) AS n, count(DISTINCT (doc_id, critic)) AS d FROM critiques_all"
    assert store.sql(sql).arrow().to_pylist() == [{"n": n, "d": n}]
    units = store.sql("SELECT sum(units)::BIGINT AS n FROM critique_runs").arrow()["n"][0].as_py()
    assert units == len(store.snapshot().text_shards())
    # A worker that is killed after its commit leaves its lease to garbage collection.
    assert holders(folder) == []
    assert not [path for path in (folder / "S/_journal").rglob("*") if path.is_file()]
    assert verify(store).problems == []
    return store


@pytest.mark.slow
def test_killed_process_is_restarted(tmp_path: Path) -> None:
    pages(tmp_path)
    with Running({"delay": 0.03}) as fake:
        parent = start(tmp_path, *asking(fake, "--workers", 2), stdout=subprocess.PIPE)
        killed: set[int] = set()
        for share in (0.2, 0.5):
            until(lambda share=share: fake.fake.requests["chat"] > share * N)
            pid = until(lambda: [pid for pid in holders(tmp_path) if pid not in killed])[0]
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        out, _ = parent.communicate(timeout=300)
        assert parent.returncode == 0
        assert N <= fake.fake.requests["chat"] <= N + 2 * CONCURRENCY
    report = json.loads(out)
    assert (report["documents"], report["ok"], report["failed"]) == (N, N, 0)
    runs = exact(tmp_path).sql("SELECT run, documents FROM critique_runs").arrow().to_pylist()
    assert runs == [{"run": report["run"], "documents": N}]


@pytest.mark.slow
def test_error_of_one_worker_stops_all(tmp_path: Path) -> None:
    pages(tmp_path, 20, 4)
    with Running({"models": ["tiny", "large"]}) as fake:
        done = ixt(*asking(fake, "--workers", 2), folder=tmp_path, code=1)
    assert "it serves tiny, large" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    done = ixt(
        *("critique", "--corpus", "web", "--critic", "vllm", "--serve", "m", "--workers", 2),
        folder=tmp_path,
        code=2,
    )
    assert "server allows one worker" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    pages(tmp_path)
    with Running({"delay": 0.1}) as fake:
        parent = start(tmp_path, *asking(fake, "--workers", 2))
        pids = until(lambda: len(found := holders(tmp_path)) == 2 and found)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: not any(alive(pid) for pid in pids))
        as_json(*asking(fake), folder=tmp_path)
    exact(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_that_gets_a_signal_releases_its_unit(tmp_path: Path, number: int) -> None:
    pages(tmp_path, 60, 1)
    with Running({"delay": 0.1}) as fake:
        worker = start(tmp_path, *asking(fake))
        until(lambda: fake.fake.requests["chat"] > 20)
        worker.send_signal(number)
        assert worker.wait(30) == 128 + number
        assert "The same command continues" in (tmp_path / "errors").read_text()
        assert lease_files(tmp_path) == []
        report = as_json(*asking(fake), folder=tmp_path)
        assert report["reused"] > 0
        assert fake.fake.requests["chat"] <= 60 + CONCURRENCY
    exact(tmp_path, 60)


@pytest.mark.slow
def test_unit_of_a_lost_machine_is_acquired_when_its_lease_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IXT_LEASE_SECONDS", "4")
    pages(tmp_path, 60, 3)
    with Running({"delay": 0.05}) as fake:
        worker = start(tmp_path, *asking(fake))
        until(lambda: fake.fake.requests["chat"] > 10)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        (path,) = lease_files(tmp_path)
        record = json.loads(path.read_text())
        assert record["pid"] == worker.pid
        # As another machine's: this machine cannot check it.
        path.write_text(json.dumps(record | {"machine": "another"}))
        report = as_json(*asking(fake), folder=tmp_path)
        assert time.time() > record["expires"]
        assert report["documents"] == 60
        assert fake.fake.requests["chat"] <= 60 + CONCURRENCY
    exact(tmp_path, 60)


@pytest.mark.slow
def test_suspended_worker_that_resumes_publishes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IXT_LEASE_SECONDS", "2")
    pages(tmp_path, 60, 3)
    with Running({"delay": 0.05}) as fake:
        frozen = start(tmp_path, *asking(fake))
        until(lambda: fake.fake.requests["chat"] > 10)
        frozen.send_signal(signal.SIGSTOP)
        try:
            report = as_json(*asking(fake), folder=tmp_path)
        finally:
            frozen.send_signal(signal.SIGCONT)
        assert report["documents"] == 60
        assert frozen.wait(60) == 0
        # It stops within the unit: what it had sent, and at most what it sends before it knows.
        assert fake.fake.requests["chat"] <= 60 + 20 + CONCURRENCY
    exact(tmp_path, 60)


@pytest.mark.slow
def test_ray_actors_are_restarted(tmp_path: Path) -> None:
    pages(tmp_path)
    with Running({"delay": 5}) as fake:
        # Ray gives a node 30 seconds to start, which a busy machine may not have.
        for _ in range(5):
            parent = start(
                tmp_path, *asking(fake, "--ray", "local", "--workers", 2), stdout=subprocess.PIPE
            )
            # Actors may come far apart: the first one must not have done it all.
            until(lambda: len(holders(tmp_path)) == 2 or parent.poll() is not None, 240)  # noqa: B023
            if parent.poll() is None:
                break
        assert parent.poll() is None, (tmp_path / "errors").read_text()
        fake.fake.plan["delay"] = 0.04
        until(lambda: fake.fake.requests["chat"] > 0.2 * N, 240)
        killed = holders(tmp_path)[0]
        os.kill(killed, signal.SIGKILL)
        out, _ = parent.communicate(timeout=240)
        assert parent.returncode == 0
        assert N <= fake.fake.requests["chat"] <= N + CONCURRENCY
    report = json.loads(out)
    assert (report["documents"], report["ok"]) == (N, N)
    exact(tmp_path)


def test_ray_address_without_cluster_fails_fast(tmp_path: Path) -> None:
    pages(tmp_path, 2, 1)
    with Running() as fake:
        asked = asking(fake, "--ray", "127.0.0.1:9", "--workers", 2)
        said = " ".join(ixt(*asked, folder=tmp_path, code=1).stderr.split())
    assert "no Ray cluster at '127.0.0.1:9'" in said
    assert "ray start --head" in said


def array_task(folder: Path, **environment: object) -> "subprocess.Popen[str]":
    """One task of docs/cluster/worker.sh, as a cluster starts it."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {key: str(value) for key, value in environment.items()}
    return subprocess.Popen(
        ["bash", str(CLUSTER / "worker.sh")],
        cwd=folder,
        env={**os.environ, "PATH": programs, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("index", ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"])
def test_cluster_script_shares_the_units(tmp_path: Path, index: str) -> None:
    pages(tmp_path)
    flags = f"--no-expected --concurrency {CONCURRENCY}"
    settings: dict[str, object] = {"STORE": tmp_path / "S", "CORPUS": "web", "FLAGS": flags}
    with Running({"delay": 0.05}) as one, Running({"delay": 0.05}) as two:
        settings["ENDPOINTS"] = f"{one.url} {two.url}"
        tasks = [array_task(tmp_path, **settings, **{index: k}) for k in range(2)]
        done = [task.communicate(timeout=300) for task in tasks]
        assert [task.returncode for task in tasks] == [0, 0], done
        # Each has asked its own server.
        asked = [fake.fake.requests["chat"] for fake in (one, two)]
    shares = [json.loads(out)["documents"] for out, _ in done]
    assert shares == asked
    assert sum(shares) == N
    exact(tmp_path)


def test_cluster_script_names_missing_settings(tmp_path: Path) -> None:
    _, said = array_task(tmp_path, STORE="S", CORPUS="web").communicate(timeout=300)
    assert "Slurm array" in said
    _, said = array_task(tmp_path, STORE="S", CORPUS="web", JOB_COMPLETION_INDEX=3).communicate()
    assert "MODEL" in said


def test_kubernetes_job_sets_what_the_script_reads() -> None:
    job = yaml.safe_load((CLUSTER / "kubernetes.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    script = (CLUSTER / "worker.sh").read_text()
    read = {entry["name"] for entry in container["env"]} - {"IXT_STATE"}
    assert all(f"${{{name}:" in script or f"${name}" in script for name in read)
    assert job["completionMode"] == "Indexed"
    assert Path(container["command"][1]).name == "worker.sh"
