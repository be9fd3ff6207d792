"""The store on S3, against a real server over HTTP, also on bad nights."""

import itertools
import json
import logging
import pickle
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3_server import BUCKET, Proxy, moto
from small_stores import Length, add_documents
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.base import critic_id
from ixt_data.critique_runs.annotation import annotate, pending_shards
from ixt_data.errors import IxtError, MissingExtra, StoreError
from ixt_data.log import commit_log
from ixt_data.log.snapshot import Entry
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import verify
from ixt_data.storage.opening import open_storage
from ixt_data.storage.s3 import S3Storage
from ixt_data.store.store import Store

KEY, SECRET = "AKIANEVERSHOWN", "never/shown+secret"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Proxy, str]]:
    with moto() as behind:
        proxy = Proxy(behind)
        with proxy.running() as address:
            yield proxy, address


@pytest.fixture
def proxy(
    server: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Proxy]:
    proxy, address = server
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    proxy.seen.clear()
    proxy.faults.clear()
    yield proxy
    proxy.fault = lambda method, path: None
    proxy.drop_conditions = False


@pytest.fixture
def root(proxy: Proxy) -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/store"


def keys(root: str) -> set[str]:
    prefix = root.removeprefix(f"s3://{BUCKET}/") + "/"
    found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return {item["Key"].removeprefix(prefix) for item in found.get("Contents", [])}


def rows_files(root: str) -> set[str]:
    return {key for key in keys(root) if key.startswith("meta/")}


def ixt(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(build(), [*words, "--output", "json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_whole_way_on_the_command_line(root: str, tmp_path: Path) -> None:
    at = ("--store", root)
    assert ixt("init", *at)["store"] == root
    for part in range(3):
        file = tmp_path / f"{part}.jsonl"
        texts = [f"Document {part} {i} says something of some length." for i in range(20)]
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        assert ixt("ingest", str(file), "--corpus", "web", *at)["documents"] == 20
    assert ixt("critique", "--corpus", "web", "--critic", "rules", *at)["documents"] == 60
    before = Store.open(root).snapshot().version
    assert ixt("tag", "before", *at)["snapshot"] == before
    assert ixt("compact", "--full", *at)["snapshot"] > before
    ixt("compact", "--full", *at)
    store = Store.open(root)
    count = "SELECT count(*) AS n FROM documents JOIN critiques USING (doc_id) WHERE score >= 0"
    assert store.sql(count).arrow()["n"].to_pylist() == [60]
    assert store.sql(count, at=2).arrow()["n"].to_pylist() == [0]
    assert store.tags() == {"before": before}
    held = rows_files(root)
    assert ixt("gc", "--keep-versions", "1", "--keep-days", "0", *at)["files"] == 0
    store.pins.release("before")
    # S3 states times in seconds: the version before a commit of this second is kept.
    time.sleep(1.1)
    assert ixt("gc", "--keep-versions", "1", "--keep-days", "0", *at)["files"] == 6
    assert rows_files(root) < held
    assert len(rows_files(root)) == 2
    assert ixt("verify", *at)["ok"]
    assert Store.open(root).sql(count).arrow()["n"].to_pylist() == [60]


def test_a_shard_goes_up_in_parts_and_comes_back(root: str, proxy: Proxy, tmp_path: Path) -> None:
    storage = open_storage(root)
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (17 << 12))
    storage.publish({"shards/large": large, "shards/small": Path(__file__)})
    assert proxy.seen["POST"] == 2  # begin and end of the upload in parts
    with storage.local("shards/large") as path:
        assert path.read_bytes() == large.read_bytes()
    assert {file.key: file.size for file in storage.list("shards")} == {
        "shards/large": large.stat().st_size,
        "shards/small": Path(__file__).stat().st_size,
    }
    gets = proxy.seen["GET"]
    again = pickle.loads(pickle.dumps(storage))
    with again.local("shards/large") as one, storage.local("shards/large") as other:
        assert one.samefile(other)
    assert proxy.seen["GET"] == gets
    storage.delete("shards/large", "shards/small", "shards/never")
    assert keys(root) == set()
    with pytest.raises(FileNotFoundError):
        storage.read("shards/large")


def test_a_statement_downloads_only_the_files_of_its_views(root: str, proxy: Proxy) -> None:
    store = Store.init(root)
    add_documents(store, ["one text", "another text"])
    annotate(store, "web", Length())
    read: list[str] = []

    def record(method: str, path: str) -> None:
        if method == "GET" and "/meta/" in path:
            read.append(path.partition("/meta/")[2].partition("/")[0])

    proxy.fault = record
    found = []
    for view in ("snapshots", "documents", "critiques"):
        read.clear()
        Store.open(root).sql(f"SELECT count(*) FROM {view}").fetchall()
        found.append(list(read))
    assert found == [[], ["documents"], ["critiques"]]


def commit_many(root: str, worker: int, commits: int, start: threading.Barrier) -> None:
    store = Store.open(root)
    store.snapshot()
    start.wait()
    for i in range(commits):
        store.log.commit(Entry(0, f"{worker}-{i}", "critique"), store.log.newest())


def test_four_writers_lose_nothing_for_six_requests_a_commit(root: str, proxy: Proxy) -> None:
    Store.init(root)
    writers, commits = 4, 12
    start = threading.Barrier(writers + 1)
    threads = [
        threading.Thread(target=commit_many, args=(root, worker, commits, start))
        for worker in range(writers)
    ]
    for thread in threads:
        thread.start()
    time.sleep(1)
    proxy.seen.clear()
    start.wait()
    for thread in threads:
        thread.join()
    requests = proxy.seen.total() / (writers * commits)
    history = Store.open(root).log
    assert history.newest() == writers * commits
    txns = {history.read(version).txn for version in range(1, writers * commits + 1)}
    assert len(txns) == writers * commits
    assert requests <= 6, proxy.seen


def test_ranges_of_entries_are_read_at_once(
    root: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(root)
    for i in range(40):
        store.log.commit(Entry(0, f"{i}", "critique"), i)
    again = Store.open(root)
    met, read = threading.Barrier(8), again.storage.read

    def together(key: str) -> bytes:
        met.wait(timeout=20)
        return read(key)

    with monkeypatch.context() as patch:
        patch.setattr(again.storage, "read", together)
        assert [entry.txn for entry in again.log.entries(1, 40)] == [f"{i}" for i in range(40)]
    proxy.seen.clear()
    assert Store.open(root).snapshot().version == 40
    assert proxy.seen["GET"] < 40 * 4 / 3 + 5


def test_a_commit_alone_is_one_request(root: str, proxy: Proxy) -> None:
    store = Store.init(root)
    store.snapshot()
    for i in range(3):
        proxy.seen.clear()
        assert store.log.commit(Entry(0, f"{i}", "critique"), i) == i + 1
        assert proxy.seen == {"PUT": 1}


@pytest.mark.parametrize("fault", ["lost", "silence", "500", "SlowDown"])
def test_a_commit_whose_answer_is_lost_lands_once(
    root: str, proxy: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IXT_S3_TIMEOUT", "1")
    store = Store.init(root)
    faults = iter([fault, None, fault, fault])
    proxy.fault = lambda method, path: next(faults, None) if "/_log/" in path else None
    assert store.log.commit(Entry(0, "a", "critique", unit="u"), 0) == 1
    assert store.log.commit(Entry(0, "b", "critique", unit="v"), 1) == 2
    assert proxy.faults[fault] == 3
    history = Store.open(root).log
    assert [entry.txn for entry in history.entries(1, history.newest())] == ["a", "b"]


def test_a_lost_answer_is_not_mistaken_for_the_other_writer(root: str, proxy: Proxy) -> None:
    ours, theirs = Store.init(root), Store.open(root)
    theirs.log.commit(Entry(0, "theirs", "critique"), 0)
    faults = iter(["lost", None, "lost"])
    proxy.fault = lambda method, path: next(faults, None) if method == "PUT" else None
    assert ours.log.commit(Entry(0, "ours", "critique"), 0) == 2
    assert [entry.txn for entry in ours.log.entries(1, 2)] == ["theirs", "ours"]


def test_a_bad_night_loses_nothing_and_doubles_nothing(
    root: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IXT_S3_TIMEOUT", "1")
    Store.init(root)
    kinds = itertools.cycle(["500", "lost", "SlowDown", "torn", "silence", "lost"])
    number = itertools.count(1)
    proxy.silence = 1.5
    proxy.fault = lambda method, path: next(kinds) if next(number) % 6 == 0 else None

    def work(name: str) -> None:
        store = Store.open(root)
        for part in range(2):
            add_documents(store, [f"{name} {part} {i}" for i in range(6)], name, per_shard=3)
        annotate(store, name, Length())

    threads = [threading.Thread(target=work, args=(name,)) for name in ("web", "books")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {*proxy.faults} == {"500", "lost", "SlowDown", "torn", "silence"}
    proxy.fault = lambda method, path: None
    store = Store.open(root)
    assert store.snapshot().version == 2 * (2 + 4)
    for view in ("documents", "critiques_all"):
        found = store.sql(f"SELECT count(*) AS n, count(DISTINCT doc_id) AS d FROM {view}").arrow()
        assert found.to_pylist() == [{"n": 24, "d": 24}]
    assert pending_shards(store.snapshot(), "web", critic_id(Length())) == []
    report = verify(store)
    assert (report.problems, report.orphans) == ([], [])


def test_workers_on_one_corpus_publish_each_unit_once(root: str) -> None:
    add_documents(Store.init(root), [f"text {i}" for i in range(12)], per_shard=2)
    threads = [
        threading.Thread(target=annotate, args=(Store.open(root), "web", Length()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store.open(root)
    assert store.snapshot().version == 1 + 6
    assert store.sql("SELECT count(*) AS n FROM critiques_all").arrow()["n"].to_pylist() == [12]
    # What came second was removed by its writer.
    assert verify(store).orphans == []
    assert collect_garbage(store, keep=timedelta(0), grace=timedelta(0)).deleted == {}


def test_probe_refuses_storage_without_put_if_absent(root: str, proxy: Proxy) -> None:
    proxy.drop_conditions = True
    with pytest.raises(StoreError, match=r"created twice.*only if it is absent"):
        Store.init(root)
    assert keys(root) == set()
    proxy.drop_conditions = False
    Store.init(root)
    assert keys(root) == {"ixt.json"}
    with pytest.raises(StoreError, match="already is a store"):
        Store.init(root)


def test_verify_looks_at_the_objects_and_not_at_copies(root: str) -> None:
    store = Store.init(root)
    add_documents(store, [f"text {i}" for i in range(20)])
    annotate(store, "web", Length())
    texts, critiques = store.snapshot().text_shards(), [*store.snapshot().rows][-1]
    for shard in texts:
        store.shard(shard)
    store.sql("SELECT * FROM critiques").arrow()
    client, prefix = boto3.client("s3"), root.removeprefix(f"s3://{BUCKET}/")
    for path in (texts[0].path, critiques):
        data = store.storage.read(path)
        changed = data[:60] + bytes([data[60] ^ 1]) + data[61:]
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path}", Body=changed)
    client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{texts[1].path}")
    found = {problem.path: problem.problem for problem in verify(store).problems}
    assert found.keys() == {texts[0].path, texts[1].path, critiques}
    assert "xxh64" in found[texts[0].path]
    assert "sha256" in found[critiques]
    assert found[texts[1].path] == "missing"
    assert [problem.path for problem in verify(store, fast=True).problems] == [texts[1].path]


def test_credentials_are_in_no_message(
    root: str,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    messages = []

    def fail(address: str) -> None:
        with pytest.raises(IxtError) as caught:
            Store.open(address)
        messages.append(str(caught.value))

    proxy.fault = lambda method, path: "echo"
    fail(root)
    assert "AccessDenied (HTTP 403). Check the credentials" in messages[-1]
    proxy.fault = lambda method, path: "SlowDown"
    fail(root)
    proxy.fault = lambda method, path: None
    fail("s3://no-such-bucket-here/x")
    assert "Create the bucket first" in messages[-1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{KEY}:secret@127.0.0.1:9")
    fail(root)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"not an address {SECRET}")
    fail(root)
    shown = " ".join([*messages, caplog.text])
    assert not any(word in shown for word in (KEY, SECRET, "secret@", "Signature="))


@pytest.mark.parametrize(
    "address", ["s3://", "s3://b", "s3://bucket/a b", "gs://bucket/x", "s3:/x"]
)
def test_addresses_that_are_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError):
        Store.open(address)


def test_an_address_has_one_form(proxy: Proxy) -> None:
    assert S3Storage(f"s3://{BUCKET}/a/b/").root == f"s3://{BUCKET}/a/b"
    assert S3Storage(f"s3://{BUCKET}/").root == f"s3://{BUCKET}"


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ixt_data.storage.s3")
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(MissingExtra, match=r"ixt\[s3\]"):
        open_storage("s3://bucket/prefix")


def test_the_log_names_its_keys_as_on_disk(root: str) -> None:
    add_documents(Store.init(root), ["a"])
    assert commit_log.key(1) in keys(root)
