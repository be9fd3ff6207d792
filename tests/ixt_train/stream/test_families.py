"""Damaged, missing and foreign shards raise, and intact ones open in stock streaming."""

import shutil
from pathlib import Path

import pytest
from critiqued import critiqued_store, texts, words_tokenizer
from numbers_stream import N, draws, stream
from streaming import StreamingDataset

from ixt_data.errors import CorruptError, StoreError
from ixt_data.log.snapshot import ShardInfo
from ixt_data.mix import Mix, plan_mix
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.families import index_entry
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.token_family import tokenize

pytestmark = pytest.mark.stream


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("harm", ["missing", "corrupt", "short"])
@pytest.mark.parametrize("family", ["text", "critique"])
def test_damaged_shard_raises_and_names_its_path(tmp_path, workers, harm, family):
    store = critiqued_store(tmp_path / "store", 100)
    plan = plan_mix(Mix(critic="numbers"), 100, store=store)
    shard = plan.shards[1][0 if family == "text" else 1]
    path = Path(store.root, shard.path)
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if harm == "short" else data[:60] + b"\0\0" + data[62:])
    expected = StoreError if harm == "missing" else CorruptError
    raises = pytest.raises(expected, match=rf"{shard.path}.*ixt verify")
    with stream(store, plan, tmp_path / "local", batch_size=4) as ds, raises:
        draws(ds, workers)


@pytest.mark.parametrize("workers", [0, 4])
def test_damaged_tokens_raise_and_name_their_path(tmp_path, workers):
    store, tokenizer = critiqued_store(tmp_path / "store", 100), words_tokenizer()
    tokenize(store, tokenizer)
    plan = plan_mix(Mix(critic="numbers"), 100, store=store)
    (path,) = [shard.path for shard in plan.token_shards.values()
               if shard.aligned_with == plan.shards[2][1].path]  # fmt: skip
    Path(store.root, path).write_bytes(b"")
    conditioner = Conditioner(tokenizer, plan.mix.condition)
    ds = MixStream(plan, conditioner, store=store.root, local=tmp_path / "local", batch_size=4)
    with ds, pytest.raises(CorruptError, match=rf"{path}.*0 bytes instead of.*ixt verify"):
        draws(ds, workers)


def test_truncated_file_in_the_local_folder_raises(store, plan, tmp_path):
    with stream(store, plan, tmp_path) as ds:
        ds.shards[0].fetch()
        path = ds.shards[0].paths[0]
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CorruptError, match=path.name):
            draws(ds)


def test_index_with_a_path_outside_of_the_store_raises():
    index = {"samples": 1, "raw_data": {"basename": "../../../../x", "bytes": 1, "hashes": {}}}
    info = ShardInfo.from_index("shards/text/t", "text", "web", index)
    with pytest.raises(CorruptError, match="outside"):
        index_entry(info)


def test_local_folder_opens_in_stock_streaming(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "local") as ds:
        shutil.copytree(ds.local, tmp_path / "copy")
    stock = StreamingDataset(
        remote=store.root, local=str(tmp_path / "copy"), batch_size=1, validate_hash="xxh64"
    )
    assert {sample["text"] for sample in stock} == set(texts(N))
