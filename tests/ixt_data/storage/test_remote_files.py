"""Inputs and exports at addresses: a real S3 server, a web server, and the hub's API."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest_httpserver import HTTPServer
from s3_server import BUCKET, Proxy, moto
from small_stores import add_documents
from werkzeug import Request, Response

from ixt_data.errors import IxtError, StoreError
from ixt_data.export import MatchedDocuments, export_hf, export_jsonl, export_mds, export_parquet
from ixt_data.ingestion import ingest
from ixt_data.storage import remote_files
from ixt_data.store.store import Store


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[str, int]]:
    with moto() as address:
        yield address


@pytest.fixture
def s3(behind: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy of an S3 server with an empty bucket, which all clients use."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    proxy = Proxy(behind)
    with proxy.running() as endpoint:
        monkeypatch.setenv("S3_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        remote_files.open_bucket.cache_clear()
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket=BUCKET)
        yield proxy
        for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=item["Key"])
    remote_files.open_bucket.cache_clear()


def put(key: str, data: bytes) -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=data)


def keys() -> list[str]:
    listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return sorted(item["Key"] for item in listed)


def texts(store: Store) -> list[str]:
    shards = store.snapshot().text_shards()
    return [text for shard in shards for text in store.shard(shard).column("text")]


def lines(n: int) -> bytes:
    return b"".join(json.dumps({"text": f"{i} {'x' * 300}"}).encode() + b"\n" for i in range(n))


def test_files_on_s3_are_read(s3: Proxy, store: Store, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["from Parquet"]}), tmp_path / "x.parquet")
    put("in/a.jsonl", b'{"text": "one"}\n')
    put("in/deep/a.jsonl", b'{"text": "two"}\n')
    put("in/x.parquet", (tmp_path / "x.parquet").read_bytes())
    put("in/_SUCCESS", b"")
    report = ingest(store, "web", [f"s3://{BUCKET}/in"])
    assert texts(store) == ["one", "two", "from Parquet"]
    assert report.quarantined == 0
    sources = store.sql("SELECT DISTINCT source FROM documents ORDER BY 1").fetchall()
    assert sources == [("deep/a.jsonl",), ("in/a.jsonl",), ("x.parquet",)]
    assert ingest(store, "again", [f"s3://{BUCKET}/in/a.jsonl"]).documents == 1
    assert ingest(store, "glob", [f"s3://{BUCKET}/in/*.parquet"]).documents == 1
    with pytest.raises(IxtError, match="no such file, and no files below it"):
        ingest(store, "web", [f"s3://{BUCKET}/nothing"])


def test_cut_and_slow_reads_are_continued(s3: Proxy, store: Store) -> None:
    put("big.jsonl", lines(9000))
    numbers = count()

    def fault(method: str, path: str) -> str | None:
        if method != "GET" or "big" not in path:
            return None
        return {0: "SlowDown", 1: "torn", 3: "torn", 4: "500"}.get(next(numbers))

    s3.fault = fault
    assert ingest(store, "web", [f"s3://{BUCKET}/big.jsonl"]).documents == 9000
    assert (s3.faults["torn"], s3.faults["SlowDown"], s3.faults["500"]) == (2, 1, 1)
    assert sorted(int(text.split()[0]) for text in texts(store)) == list(range(9000))


def test_file_that_changes_while_it_is_read_is_refused(s3: Proxy, store: Store) -> None:
    put("big.jsonl", lines(9000))
    (file,) = remote_files.find_remote(f"s3://{BUCKET}/big.jsonl")
    put("big.jsonl", lines(8000))
    with pytest.raises(OSError, match="it changed while it was read"):
        file.open().read()


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl.gz"])
def test_file_is_exported_to_s3(s3: Proxy, store: Store, name: str) -> None:
    add_documents(store, ["a", "b"])
    write = export_parquet if name == "out.parquet" else export_jsonl
    address = f"s3://{BUCKET}/out/{name}"
    assert write(MatchedDocuments(store), address).documents == 2
    assert keys() == [f"out/{name}"]
    with pytest.raises(StoreError, match="already exists"):
        write(MatchedDocuments(store), address)
    add_documents(store, ["c"])
    write(MatchedDocuments(store), address, overwrite=True)
    assert ingest(store, "back", [address]).documents == 3


def test_folder_is_exported_to_s3(s3: Proxy, store: Store, tmp_path: Path) -> None:
    add_documents(store, ["a", "b"])
    address = f"s3://{BUCKET}/mds"
    export_mds(MatchedDocuments(store), address, shard_bytes=1)
    first = keys()
    assert {"mds/index.json", "mds/ixt-export.json", "mds/shard.00001.mds.zstd"} <= set(first)
    put("mds/mine.txt", b"")
    with pytest.raises(StoreError, match="already exists"):
        export_mds(MatchedDocuments(store), address)
    export_mds(MatchedDocuments(store), address, overwrite=True)
    assert set(first) - set(keys()) == {"mds/shard.00001.mds.zstd"}
    assert "mds/mine.txt" in keys()
    put("own/file", b"")
    with pytest.raises(StoreError, match="was not created by `ixt export`"):
        export_hf(MatchedDocuments(store), f"s3://{BUCKET}/own", overwrite=True)


def test_export_into_a_store_on_s3_is_refused(s3: Proxy, store: Store) -> None:
    add_documents(store, ["a"])
    put("S/ixt.json", b"{}")
    with pytest.raises(StoreError, match="is part of the store"):
        export_mds(MatchedDocuments(store), f"s3://{BUCKET}/S/shards/x", overwrite=True)
    with pytest.raises(StoreError, match="an export goes to a path, s3://"):
        export_mds(MatchedDocuments(store), "https://example.com/x")


def test_file_of_a_web_server_is_read(httpserver: HTTPServer, store: Store) -> None:
    data = b'{"text": "from the web"}\n'
    path = "/files/a b.jsonl"
    httpserver.expect_request(path).respond_with_data(data, headers={"ETag": '"1"'})
    assert ingest(store, "web", [httpserver.url_for("/files/a%20b.jsonl")]).documents == 1
    assert texts(store) == ["from the web"]
    httpserver.expect_request("/none.jsonl").respond_with_data("", 404)
    for address in (httpserver.url_for("/none.jsonl"), "ftp://example.com/a", "s3://"):
        with pytest.raises((IxtError, OSError), match=r"no such file|not an address|404"):
            ingest(store, "web", [address])


def test_dataset_of_the_hub_is_read(
    httpserver: HTTPServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_documents(store, ["from", "the hub"])
    export_hf(MatchedDocuments(store), tmp_path / "repository")
    files = {
        path.relative_to(tmp_path / "repository").as_posix(): path.read_bytes()
        for path in (tmp_path / "repository").rglob("*")
        if path.is_file()
    }

    def answer(request: Request) -> Response:
        if "/tree/" in request.path:
            items = [
                {"type": "file", "path": n, "size": len(d), "oid": "0"} for n, d in files.items()
            ]
            return Response(json.dumps(items), content_type="application/json")
        return Response(files[request.path.partition("/resolve/main/")[2]])

    httpserver.expect_request("/api/datasets/org/name/tree/main").respond_with_handler(answer)
    for name in files:
        path = f"/datasets/org/name/resolve/main/{name}"
        httpserver.expect_request(path).respond_with_handler(answer)
    monkeypatch.setenv("HF_ENDPOINT", httpserver.url_for("").rstrip("/"))
    other = Store.init(tmp_path / "other")
    assert ingest(other, "web", ["hf://datasets/org/name/data"]).documents == 2
    assert texts(other) == ["from", "the hub"]
