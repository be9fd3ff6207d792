"""A store on Google Cloud Storage, over the wire: its promises, faults, and whole pipelines."""

import json
import multiprocessing
import os
import pickle
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from gcs_server import GcsProxy, gcs
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics import load_critic
from ixt_data.critique_runs import annotate
from ixt_data.errors import StoreError
from ixt_data.ingestion import ingest
from ixt_data.maintenance import verify
from ixt_data.storage import open_storage
from ixt_data.storage.conformance import probe
from ixt_data.store import Store

ROOT = "gs://corpora/lake/store"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GcsProxy]:
    from ixt_data.storage.remote_files import open_bucket

    with gcs() as (proxy, account):
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", account)
        monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
        open_bucket.cache_clear()
        yield proxy
    open_bucket.cache_clear()


def documents(folder: Path, n: int = 60) -> Path:
    path = folder / "a.jsonl"
    rows = ({"text": f"Page {i} tells of {i * 7} things.", "lang": "en"} for i in range(n))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_storage_keeps_what_a_store_needs(cloud: GcsProxy) -> None:
    storage = open_storage(ROOT)
    probe(storage)
    assert list(storage.list("")) == []
    assert storage.create("a/1", b"one")
    assert not storage.create("a/1", b"two")
    storage.replace("a/3", b"three")
    assert storage.read_all(["a/1", "a/2", "a/3"]) == [b"one", None, b"three"]
    assert storage.keys_after("a/1") == ("a/3",)
    assert [(file.key, file.size) for file in storage.list("a")] == [("a/1", 3), ("a/3", 5)]
    with storage.stream("a/3") as stream, storage.local("a/1") as copy:
        assert (stream.read(2), copy.read_bytes()) == (b"th", b"one")
    storage.delete("a/1", "a/2", "a/3")
    assert not storage.exists("a/1")
    with pytest.raises(FileNotFoundError):
        storage.read("a/1")
    assert pickle.loads(pickle.dumps(storage)).root == ROOT


@pytest.mark.parametrize("fault", ["lost", "500", "SlowDown"])
def test_create_has_one_winner_through_faults(cloud: GcsProxy, fault: str) -> None:
    storage, chance = open_storage(ROOT), random.Random(fault)
    cloud.fault = lambda method, path: fault if method == "PUT" and chance.random() < 0.4 else None
    for i in range(12):
        assert storage.create(f"{fault}/{i}", f"first {i}".encode())
        assert not storage.create(f"{fault}/{i}", f"second {i}".encode())
    cloud.fault = lambda method, path: None
    assert cloud.faults[fault] > 2
    assert storage.read_all([f"{fault}/{i}" for i in range(12)]) == [
        b"first %d" % i for i in range(12)
    ]


@pytest.mark.parametrize("fault", ["torn", "lost", "500", "SlowDown"])
def test_reads_and_lists_are_complete_through_faults(cloud: GcsProxy, fault: str) -> None:
    storage, chance = open_storage(ROOT), random.Random(fault)
    contents = {f"{fault}/{i}": bytes([i]) * (100_000 + i) for i in range(12)}
    for key, data in contents.items():
        storage.replace(key, data)
    cloud.fault = lambda method, path: fault if method == "GET" and chance.random() < 0.3 else None
    for key, data in contents.items():
        assert storage.read(key) == data
        with storage.local(key) as path:
            assert path.read_bytes() == data
    assert [(file.key, file.size) for file in storage.list(fault)] == sorted(
        (key, len(data)) for key, data in contents.items()
    )
    cloud.fault = lambda method, path: None
    assert cloud.faults[fault] > 3


def test_ingest_whose_credentials_expire_continues_with_new_ones(
    cloud: GcsProxy, tmp_path: Path
) -> None:
    store, path = Store.init(f"{ROOT}/{uuid.uuid4().hex}"), documents(tmp_path)
    uploads: list[str] = []

    def expire(method: str, path: str) -> str | None:
        uploads.extend([path] if method == "PUT" and path.endswith("zstd") else [])
        return "expired" if len(uploads) > 2 else None

    cloud.fault = expire
    with pytest.raises(StoreError, match=r"gs://corpora/lake/store/.*ExpiredToken"):
        ingest(store, "web", [path], shard_bytes=500)
    cloud.fault = lambda method, path: None
    assert store.snapshot().version == 0
    assert ingest(store, "web", [path], shard_bytes=500).documents == 60
    assert verify(store).problems == []


def test_pipeline_on_a_cloud_equals_one_in_a_folder(cloud: GcsProxy, tmp_path: Path) -> None:
    path = documents(tmp_path)
    tables = []
    for root in (ROOT, str(tmp_path / "S")):
        store = Store.init(root)
        ingest(store, "web", [path])
        annotate(store, "web", load_critic("rules"))
        store.tag("v1")
        store = Store.open(root)
        rows = store.sql(
            "SELECT doc_id, lang, score, critique FROM documents JOIN critiques USING (doc_id) "
            "ORDER BY doc_id",
            at="v1",
        ).fetchall()
        assert verify(store).problems == []
        tables.append(rows)
    assert len(tables[0]) == 60
    assert tables[0] == tables[1]
    done = CliRunner().invoke(build(), ["log", "--store", ROOT, "--output", "json"])
    assert [commit["op"] for commit in json.loads(done.stdout)["commits"]] == ["critique", "ingest"]


def _read(root: str, answers: "multiprocessing.Queue[str]") -> None:
    try:
        answers.put(open_storage(root).read("a").decode())
    except StoreError as error:
        answers.put(str(error))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_forked_process_is_refused_and_a_new_one_works(cloud: GcsProxy, method: str) -> None:
    storage = open_storage(ROOT)
    storage.replace("a", b"hello")
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    target = _read if method == "spawn" else _read_inherited
    process = context.Process(target=target, args=(ROOT if method == "spawn" else storage, answers))
    process.start()
    try:
        answer = answers.get(timeout=60)
    finally:
        process.kill()
    assert answer == "hello" if method == "spawn" else "forked process" in answer


def _read_inherited(storage: object, answers: "multiprocessing.Queue[str]") -> None:
    try:
        answers.put(storage.read("a").decode())  # type: ignore[attr-defined]
    except StoreError as error:
        answers.put(str(error))
    answers.close()
    answers.join_thread()
    os._exit(0)


def test_address_of_a_cloud_is_checked() -> None:
    with pytest.raises(StoreError, match="is not an address such as gs://bucket/prefix"):
        open_storage("gs://")
    with pytest.raises(StoreError, match="must be in a folder, or at s3://, gs:// or az://"):
        open_storage("ftp://host/store")
