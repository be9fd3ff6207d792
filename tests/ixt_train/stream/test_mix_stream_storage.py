"""The stream reads adopted folders as it reads a store's own shards, and S3 as it reads a disk."""

import tempfile
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from critiqued import Numbers, critiqued_store, texts, words_tokenizer
from moto_server import s3_server
from streaming import MDSWriter

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CorruptError, StoreError
from ixt_data.ingestion.adoption import adopt
from ixt_data.mix import Mix, build_condition, observed_feedback, plan_mix
from ixt_data.records import document_id
from ixt_data.store.store import Store
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.token_family import tokenize

pytestmark = pytest.mark.stream

N = 90
MIX = Mix(critic="numbers", condition=build_condition(kind="both", dropout=0.3))
# Columns whose names mean something in a store, and do not in the user's folder.
COLUMNS = {"body": "str", "doc_id": "int", "score": "float32", "status": "str"}


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("t")  # A socket of a worker allows no long path.
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bucket():
    with s3_server() as bucket:
        yield bucket


def copy_to(address: str, folder: Path) -> str:
    name, _, prefix = address.removeprefix("s3://").partition("/")
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            boto3.client("s3").put_object(Bucket=name, Key=key, Body=path.read_bytes())
    return address


def write_folder(folder: Path, **options: Any) -> Path:
    """Documents, and among them samples that are none: texts again, and an empty one."""
    written = texts(N)
    written[20:20] = [*texts(5), ""]
    with MDSWriter(columns=COLUMNS, out=str(folder), size_limit=1500, **options) as writer:
        for n, text in enumerate(written):
            writer.write({"body": text, "doc_id": n, "score": 2.0, "status": "ok"})
    return folder


def adopted_store(root: Path, folder: Path | str) -> Store:
    store = Store.init(root)
    report = adopt(store, "web", folder, text_field="body")
    assert (report.documents, report.duplicates, report.empty) == (N, 5, 1)
    assert report.shards > 2
    annotate(store, "web", Numbers())
    return store


def samples_of(store: Store, local: Path, mix: Mix = MIX, plain: bool = False) -> list[dict]:
    plan = plan_mix(mix, 320, store=store, batch=32)
    conditioner = None
    if not plain:
        conditioner = Conditioner(words_tokenizer(), mix.condition, observed_feedback(store, mix))
    with MixStream(plan, conditioner, store=store.root, local=local, batch_size=32) as ds:
        return list(ds)


def comparable(samples: list[dict]) -> list[dict]:
    return [
        {
            key: (str(value.dtype), value.tolist()) if isinstance(value, np.ndarray) else value
            for key, value in sample.items()
        }
        for sample in samples
    ]


@pytest.mark.parametrize("compression", [None, "zstd:3"])
def test_adopted_folder_is_read_with_its_critiques(tmp_path, compression):
    folder = write_folder(tmp_path / "mds", compression=compression)
    store = adopted_store(tmp_path / "store", folder)
    samples = samples_of(store, tmp_path / "local", plain=True)
    assert len(samples) == 320
    assert {sample["text"] for sample in samples} <= set(texts(N))
    for sample in samples:
        n = int(sample["text"].split()[1])
        assert sample["doc_id"] == document_id(sample["text"])
        assert sample["critique"] == ("" if n % 50 == 49 else f"note {n % 3}")
        assert n % 50 == 49 or sample["score"] == pytest.approx(n % 11 / 10)
    before = samples_of(store, tmp_path / "text")
    tokenize(store, words_tokenizer())
    assert comparable(samples_of(store, tmp_path / "tokens")) == comparable(before)


@pytest.mark.parametrize("compression", [None, "zstd:3"])
def test_adopted_folder_with_a_changed_file_raises(tmp_path, compression):
    folder = write_folder(tmp_path / "mds", compression=compression)
    store = adopted_store(tmp_path / "store", folder)
    path = Path(store.snapshot().text_shards()[1].path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptError, match=rf"{path.name}: its .* is wrong"):
        samples_of(store, tmp_path / "local")
    path.unlink()
    with pytest.raises(StoreError, match=rf"{path.name}: missing"):
        samples_of(store, tmp_path / "again")
    path.write_bytes(whole)
    assert len(samples_of(store, tmp_path / "third")) == 320


def test_adopted_folder_on_s3_equals_its_copy(tmp_path, bucket):
    folder = write_folder(tmp_path / "mds", compression="zstd:3")
    there = copy_to(f"{bucket}/adopted/mds", folder)
    ours = adopted_store(tmp_path / "store", folder)
    theirs = adopted_store(tmp_path / "other", there)
    for plain in (True, False):
        expected = samples_of(ours, tmp_path / "local", plain=plain)
        found = samples_of(theirs, tmp_path / "far", plain=plain)
        assert comparable(found) == comparable(expected)
    name, _, key = theirs.snapshot().text_shards()[0].path.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=name, Key=key, Body=b"another")
    with pytest.raises(CorruptError, match=r"s3://.*7 bytes instead of"):
        samples_of(theirs, tmp_path / "changed")


def test_store_on_s3_equals_its_copy(tmp_path, bucket):
    store = critiqued_store(tmp_path / "store", N)
    expected = {
        kind: samples_of(store, tmp_path / kind, _mix(kind)) for kind in ("none", "both", "spans")
    }
    address = copy_to(f"{bucket}/texts", Path(store.root))
    for kind, samples in expected.items():
        far = samples_of(Store.open(address), tmp_path / f"far-{kind}", _mix(kind))
        assert comparable(far) == comparable(samples)
    tokenize(store, words_tokenizer())
    far = Store.open(copy_to(f"{bucket}/tokens", Path(store.root)))
    assert any(shard.family.startswith("tokens/") for shard in far.snapshot().shards)
    samples = samples_of(far, tmp_path / "far-tokens")
    assert comparable(samples) == comparable(expected["both"])


def _mix(kind: str) -> Mix:
    keys = {} if kind == "none" else {"dropout": 0.3}
    return MIX.model_copy(update={"condition": build_condition(kind=kind, **keys)})
