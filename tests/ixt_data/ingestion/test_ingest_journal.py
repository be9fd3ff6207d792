"""Ingests that are killed: what is published stays, and the same command continues after it."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import orjson
import pytest
from mixed_inputs import contents, write_inputs
from s3_server import BUCKET, Proxy, moto

from ixt_data.errors import ConfigError, StoreError
from ixt_data.ingestion import ingest, text_shards
from ixt_data.ingestion.blocks import build_shard
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import verify
from ixt_data.store.store import Store


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr("ixt_data.ingestion.json_lines.PORTION_BYTES", 1)
    monkeypatch.setattr("ixt_data.ingestion.table_files.PORTION_BYTES", 1)
    return write_inputs(tmp_path)


def run(store: Store, inputs: list[Path], workers: int = 1) -> dict[str, Any]:
    report = ingest(store, "web", inputs, shard_bytes=300_000, workers=workers)
    return asdict(report)


def interrupt_at(shard: int, patch: pytest.MonkeyPatch, error: BaseException) -> None:
    def build(plan: Any) -> Any:
        if plan.number == shard:
            raise error
        return build_shard(plan)

    patch.setattr(text_shards, "build_shard", build)


def test_an_interrupted_ingest_continues_to_the_same_bytes(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = SimpleNamespace(uuid4=lambda: uuid.UUID(int=1))
    monkeypatch.setattr("ixt_data.store.transaction.uuid", same)
    whole, store = Store.init(tmp_path / "whole"), Store.init(tmp_path / "store")
    expected = run(whole, inputs)
    for shard in (1, 4, 5, expected["shards"] - 1):
        with monkeypatch.context() as patch:
            interrupt_at(shard, patch, KeyboardInterrupt())
            with pytest.raises(
                KeyboardInterrupt, match=f"{shard} complete shards are kept"
            ) as stop:
                run(store, inputs)
        assert "nothing was committed" in str(stop.value)
        assert store.snapshot().version == 0
        times = {
            path: path.stat().st_mtime_ns for path in Path(store.root, "shards").rglob("*.mds*")
        }
        assert len(times) == shard
        verified = verify(store)
        assert (verified.problems, verified.orphans) == ([], [])
        assert len(verified.unfinished) == 2 * shard
        # Work in progress is not garbage.
        collect_garbage(store, keep=timedelta(0), keep_versions=1)
    assert run(store, inputs, workers=2) == expected
    assert all(path.stat().st_mtime_ns == times[path] for path in times)
    assert contents(Path(store.root)) == contents(Path(whole.root))
    assert not Path(store.root, "_ingests").exists()
    assert verify(store).problems == []


def test_a_journal_that_was_collected_as_garbage_is_not_continued(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(tmp_path / "store")
    with monkeypatch.context() as patch:
        interrupt_at(3, patch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt, match="3 complete shards"):
            run(store, inputs)
    report = collect_garbage(store, keep=timedelta(0), keep_versions=1, grace=timedelta(0))
    assert len(report.aborted) == 1
    assert not [*Path(store.root, "shards").rglob("*.zstd"), *Path(store.root).rglob("_ingests/*")]
    assert run(store, inputs)["documents"] == store.snapshot().corpora["web"].documents
    assert verify(store).problems == []


def test_changed_inputs_or_options_are_another_ingest(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(tmp_path / "store")
    with monkeypatch.context() as patch:
        interrupt_at(3, patch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(store, inputs)
        with pytest.raises(KeyboardInterrupt, match="3 complete shards"):
            ingest(store, "web", inputs, shard_bytes=310_000, workers=1)
        inputs[0].write_bytes(inputs[0].read_bytes() + b'{"text": "one more"}\n')
        with pytest.raises(KeyboardInterrupt):
            run(store, inputs)
    assert len([*Path(store.root, "_ingests").iterdir()]) == 3


def test_a_wrong_type_keeps_no_shards(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(tmp_path / "store")
    interrupt_at(3, monkeypatch, ConfigError("wrong"))
    with pytest.raises(ConfigError, match="wrong"):
        run(store, inputs)
    assert not [*Path(store.root, "shards").rglob("*.zstd")]
    assert not Path(store.root, "_ingests").exists()


def test_ctrl_c_says_what_is_kept_and_how_to_continue(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [orjson.dumps({"text": f"{i} " + os.urandom(400).hex()}) for i in range(20_000)]
    path.write_bytes(b"\n".join(lines))
    store = Store.init(tmp_path / "store")
    command = [sys.executable, "-m", "ixt_data", "ingest", "--store", store.root, "--corpus", "web"]
    command += [str(path), "--shard-mb", "0.1", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 300
    while not [*Path(store.root).glob("_ingests/*/*/00000002.json")]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A terminal sends it to all processes of the command.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "interrupted; nothing was committed" in said
    assert " complete shards are kept, with " in said
    assert f"The same command continues: ixt ingest --store {store.root}" in said.replace("\n", " ")
    assert store.snapshot().version == 0
    assert not [*Path(store.root, "_tmp").iterdir()]
    verified = subprocess.run(
        [*command[:3], "verify", "--store", store.root], capture_output=True, text=True, check=True
    )
    shown = " ".join((verified.stdout + verified.stderr).split())
    assert "of an unfinished ingest; the same command continues it" in shown
    assert "no version references" not in shown
    subprocess.run(command, check=True, capture_output=True)
    assert store.snapshot().corpora["web"].documents == 20_000


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
    with moto() as behind:
        proxy = Proxy(behind)
        with proxy.running() as address:
            monkeypatch.setenv("S3_ENDPOINT_URL", address)
            boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
            yield proxy


def test_an_ingest_into_s3_that_is_killed_uploads_no_shard_twice(
    proxy: Proxy, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    lines = (orjson.dumps({"text": f"{i} " + os.urandom(400).hex(), "n": i}) for i in range(20_000))
    path.write_bytes(b"\n".join(lines))
    root = f"s3://{BUCKET}/store"
    store = Store.init(root)
    uploads = Counter[str]()

    def count(method: str, key: str) -> None:
        if method == "PUT" and key.endswith(".zstd"):
            uploads[key] += 1

    proxy.fault = count
    command = [sys.executable, "-m", "ixt_data", "ingest", "--store", root, "--corpus", "web"]
    command += [str(path), "--shard-mb", "1", "--workers", "2", "--output", "json"]
    for shards in (3, 7):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 300
        while len(uploads) < shards:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert store.snapshot().version == 0
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = orjson.loads(done.stdout)
    assert report["documents"] == 20_000 == store.snapshot().corpora["web"].documents
    assert report["shards"] == len(uploads) > 10
    # A shard whose upload was cut by a kill, before its entry, is uploaded again.
    assert sum(uploads.values()) <= len(uploads) + 2 * 2
    assert not [*store.storage.list("_ingests")]
    assert verify(store).problems == []


def start(root: str, path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ixt_data", "ingest", "--store", root, "--corpus", "web"]
    command += [str(path), "--shard-mb", "0.1", "--workers", "1", "--output", "json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_entries(store: Store, process: "subprocess.Popen[str]", n: int) -> None:
    deadline = time.monotonic() + 300
    while len([*store.storage.list("_ingests")]) < n:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("proxy")
        return Store.init(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    return Store.init(tmp_path / "store")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    records = (orjson.dumps({"text": f"{i} " + os.urandom(400).hex()}) for i in range(4000))
    path.write_bytes(b"\n".join(records))
    return path


def check_each_document_once(store: Store) -> None:
    assert verify(store).problems == []
    query = "SELECT count(*), count(DISTINCT doc_id) FROM documents"
    assert store.sql(query).fetchall() == [(4000, 4000)]
    assert store.snapshot().version == 1
    assert not [*store.storage.list("_ingests")]


def test_two_ingests_at_the_same_time_commit_each_document_once(store: Store, lines: Path) -> None:
    processes = [start(store.root, lines), start(store.root, lines)]
    # Neither one finds the journal of the other.
    results = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    check_each_document_once(store)
    failed = [said for _, said, code in results if code]
    reports = [orjson.loads(out) for out, _, code in results if not code]
    if failed:
        assert "runs the same ingest" in failed[0]
    else:
        assert sorted(report["documents"] for report in reports) == [0, 4000]
        [(_, said, _)] = [r for r in results if not orjson.loads(r[0])["documents"]]
        assert "nothing was committed" in said
    assert verify(store).orphans == []


def test_the_slower_of_two_processes_of_one_ingest_stops_and_names_the_other(
    store: Store, lines: Path
) -> None:
    first = start(store.root, lines)
    wait_for_entries(store, first, 2)
    first.send_signal(signal.SIGSTOP)
    published = len([*store.storage.list("_ingests")])
    second = start(store.root, lines)
    wait_for_entries(store, second, published + 4)
    second.send_signal(signal.SIGSTOP)
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 1
    assert f"process {second.pid} on " in said
    assert "runs the same ingest" in said
    assert store.snapshot().version == 0
    second.send_signal(signal.SIGCONT)
    out, _ = second.communicate(timeout=300)
    assert second.returncode == 0
    assert orjson.loads(out)["documents"] == 4000
    check_each_document_once(store)


@pytest.mark.parametrize("fault", ["SlowDown", "500", "lost", "torn"])
def test_an_ingest_into_s3_through_faults_commits_each_document_once(
    proxy: Proxy, lines: Path, fault: str
) -> None:
    store, chance = Store.init(f"s3://{BUCKET}/{uuid.uuid4().hex}"), random.Random(fault)
    proxy.fault = lambda method, path: fault if chance.random() < 0.15 else None
    report = ingest(store, "web", [lines], shard_bytes=300_000, workers=2)
    proxy.fault = lambda method, path: None
    assert report.documents == 4000
    assert proxy.faults[fault] > 3
    check_each_document_once(store)


def test_an_ingest_whose_credentials_expire_continues_with_new_ones(
    proxy: Proxy, lines: Path
) -> None:
    store = Store.init(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    uploads = Counter[str]()

    def expire(method: str, path: str) -> str | None:
        if method == "PUT" and path.endswith(".zstd"):
            uploads[path] += 1
        return "expired" if len(uploads) > 3 else None

    proxy.fault = expire
    with pytest.raises(StoreError, match=r"ExpiredToken .*Check the credentials"):
        ingest(store, "web", [lines], shard_bytes=300_000, workers=2)
    assert len(uploads) >= 4
    proxy.fault = lambda method, path: uploads.update([path] if path.endswith(".zstd") else [])
    uploads.clear()
    assert len([*store.storage.list("_ingests")]) == 3
    report = ingest(store, "web", [lines], shard_bytes=300_000, workers=2)
    assert report.documents == 4000
    # The three shards with an entry are not uploaded again.
    assert len(uploads) == report.shards - 3
    check_each_document_once(store)
