"""Folders on S3 become corpora where they are, whether the store is on a disk or on S3 too."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto_server import s3_server
from small_stores import Length, add_documents
from streaming import MDSWriter
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CorruptError, StoreError
from ixt_data.ingestion.adoption import adopt
from ixt_data.maintenance.verification import verify
from ixt_data.store.store import Store

TEXTS = [f"näive text {i} of some length, which says nothing much." for i in range(30)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
    return f"{server}/{uuid.uuid4().hex}"


def split(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def put(folder: Path, address: str) -> str:
    bucket, prefix = split(address)
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    return address


def mds(folder: Path, texts: list[str] = TEXTS, **options: Any) -> Path:
    with MDSWriter(columns={"body": "str", "n": "int"}, out=str(folder), **options) as writer:
        for n, text in enumerate(texts):
            writer.write({"body": text, "n": n})
    return folder


@pytest.fixture
def folder(bucket: str, tmp_path: Path) -> str:
    return put(mds(tmp_path / "mds", size_limit=800, compression="zstd"), f"{bucket}/mds")


def objects(address: str) -> dict[str, str]:
    bucket, prefix = split(address)
    found = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")
    return {item["Key"]: item["ETag"] + str(item["LastModified"]) for item in found["Contents"]}


def ixt(*words: str) -> Any:
    done = CliRunner().invoke(build(), [*words, "--output", "json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("place", ["on disk", "on S3"])
def test_every_verb_works_on_it(place: str, bucket: str, folder: str, tmp_path: Path) -> None:
    root = f"{bucket}/store" if place == "on S3" else str(tmp_path / "store")
    at, before = ("--store", root), objects(folder)
    ixt("init", *at)
    asked = ("adopt", folder, "--corpus", "web", "--text-field", "body", "--id-field", "n", *at)
    assert ixt(*asked)["documents"] == 30
    assert ixt(*asked)["known"] > 1
    assert ixt("critique", "--corpus", "web", "--critic", "rules", *at)["documents"] == 30
    sql = "SELECT source, source_id, score FROM documents JOIN critiques USING (doc_id, row)"
    rows = ixt("query", f"{sql} ORDER BY source_id::INT", *at)
    assert [row["source_id"] for row in rows] == [str(n) for n in range(30)]
    assert {row["source"] for row in rows} == {"mds"}
    out = tmp_path / "out.jsonl"
    assert ixt("export", str(out), "--format", "jsonl", *at)["documents"] == 30
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(record["text"] for record in records) == sorted(TEXTS)
    assert ixt("verify", *at)["ok"]
    assert ixt("verify", "--fast", *at)["ok"]
    assert ixt("gc", "--keep-versions", "1", "--keep-days", "0", *at)["files"] == 0
    assert objects(folder) == before
    shards = Store.open(root).snapshot().text_shards()
    assert all(shard.path == f"{folder}/{shard.stored.basename}" for shard in shards)


def test_rows_are_those_of_the_same_folder_on_disk(folder: str, tmp_path: Path) -> None:
    stores = []
    for name, place in (("one", folder), ("two", tmp_path / "mds")):
        store = Store.init(tmp_path / name)
        adopt(store, "web", place, text_field="body")
        annotate(store, "web", Length())
        sql = (
            "SELECT * EXCLUDE (shard) FROM documents JOIN critiques USING (doc_id) ORDER BY doc_id"
        )
        stores.append(store.sql(sql).arrow().to_pylist())
    assert stores[0] == stores[1]


def test_a_change_is_noticed_and_mended_by_restoring_it(folder: str, tmp_path: Path) -> None:
    store = Store.init(tmp_path / "store")
    adopt(store, "web", folder, text_field="body")
    info = store.snapshot().text_shards()[1]
    bucket, key = split(info.path)
    client = boto3.client("s3")
    whole = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptError, match=r"s3://.*shard\.00001\.mds\.zstd: its .* was changed"):
        store.shard(info)
    assert verify(store, fast=True).problems == []
    (problem,) = verify(store).problems
    assert (problem.path, problem.documents) == (info.path, info.samples)
    with pytest.raises(CorruptError, match="its "):
        adopt(store, "web", folder, text_field="body")
    client.put_object(Bucket=bucket, Key=key, Body=whole)
    assert store.shard(info).samples == info.samples
    assert verify(store).problems == []
    client.delete_object(Bucket=bucket, Key=key)
    assert [p.problem for p in verify(store, fast=True).problems] == ["missing"]
    # What was read before is the same for ever, so the copy on this machine may stand in for it.
    assert store.shard(info).samples == info.samples
    assert [p.problem for p in verify(store).problems] == ["missing"]


def test_what_cannot_be_adopted(bucket: str, tmp_path: Path) -> None:
    store = Store.init(f"{bucket}/store")
    add_documents(store, ["a"])
    own = store.snapshot().text_shards()[0].path.rpartition("/")[0]
    for inside in ("", f"/{own}"):
        with pytest.raises(
            StoreError, match="not an MDS folder" if not inside else "belongs to the"
        ):
            adopt(store, "web", f"{bucket}/store{inside}")
    put(mds(tmp_path / "mds"), f"{bucket}/gone")
    bucket_name, prefix = split(f"{bucket}/gone")
    boto3.client("s3").delete_object(Bucket=bucket_name, Key=f"{prefix}/shard.00000.mds")
    with pytest.raises(CorruptError, match=r"shard\.00000\.mds: named by index\.json; No such"):
        adopt(store, "web", f"{bucket}/gone", text_field="body")
    index = json.loads((tmp_path / "mds" / "index.json").read_text())
    index["shards"][0]["raw_data"]["basename"] = "../store/ixt.json"
    (tmp_path / "mds" / "index.json").write_text(json.dumps(index))
    with pytest.raises(StoreError, match="outside of the folder"):
        adopt(store, "web", put(tmp_path / "mds", f"{bucket}/bad"), text_field="body")
    assert store.snapshot().version == 1
