"""Shards and indices with changed bytes: one kind of error, and bounded memory."""

import bz2
import copy
import gzip
import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import pytest
import snappy
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming import MDSWriter

from ixt_data.errors import CorruptError, StoreError
from ixt_data.ingestion.mds_folders import read_index
from ixt_data.mds import check_entry, parse_shard, read_sample, read_shard
from ixt_data.mds.encodings import decompress
from ixt_data.storage import LocalStorage

SAMPLE = {
    "bytes": b"\xff\x00",
    "str": "näive",
    "int": 7,
    "json": {"a": [1, None]},
    "ndarray": np.arange(3),
    "str_int": 10**20,
    "str_float": 0.5,
    **{f"uint{bits}": np.dtype(f"uint{bits}").type(3) for bits in (8, 16, 32, 64)},
    **{f"int{bits}": np.dtype(f"int{bits}").type(-3) for bits in (8, 16, 32, 64)},
    **{f"float{bits}": np.dtype(f"float{bits}").type(0.5) for bits in (16, 32, 64)},
}


def write(folder: Path, compression: str | None = None) -> dict[str, Any]:
    columns = {name: name for name in SAMPLE}
    with MDSWriter(columns=columns, out=str(folder), compression=compression) as writer:
        for _ in range(3):
            writer.write(SAMPLE)
    return json.loads((folder / "index.json").read_text())["shards"][0]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("shard")
    write(folder)
    return (folder / "shard.00000.mds").read_bytes()


def read_all(data: bytes) -> None:
    for _ in parse_shard(data, "x.mds").rows():
        pass


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=4)


@settings(max_examples=1500, deadline=None)
@given(CHANGES, st.sampled_from(["header", "anywhere", "cut"]))
def test_changed_bytes_of_a_shard_raise_only_corrupt_error(
    shard: bytes, changes: list[tuple[int, int]], where: str
) -> None:
    data = bytearray(shard)
    for position, value in changes:
        data[position % (24 if where == "header" else len(data))] = value
    if where == "cut":
        del data[changes[0][0] % len(data) :]
    with suppress(CorruptError):
        read_all(bytes(data))


JUNK = st.sampled_from(
    [None, -1, 0, 1 << 40, 1 << 70, 1.5, True, "", "x", [], {}, [None], {"a": 1}]
)


def replace_one(value: Any, path: list[int], new: Any) -> Any:
    """Return a tree with the value at one of its places replaced, or removed."""
    if not isinstance(value, dict | list) or not value or not path:
        return new
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    value[key] = replace_one(value[key], path[1:], new)
    return value


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), JUNK)
def test_changed_types_in_a_header_raise_only_corrupt_error(
    shard: bytes, path: list[int], new: Any
) -> None:
    first = int.from_bytes(shard[4:8], "little")
    offsets = np.frombuffer(shard, "<u4", 4, 4)
    config = replace_one(json.loads(shard[20:first]), path, new)
    encoded = json.dumps(config).encode()
    shifted = (offsets - first + 20 + len(encoded)).astype("<u4").tobytes()
    with suppress(CorruptError):
        read_all(shard[:4] + shifted + encoded + shard[first:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    write(folder, "gz")
    return folder


@settings(max_examples=600, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), JUNK)
def test_changed_types_in_an_index_raise_only_store_error(
    folder: Path, path: list[int], new: Any
) -> None:
    index = folder / "index.json"
    original = index.read_text()
    try:
        index.write_text(json.dumps(replace_one(json.loads(original), path, new)))
        for entry in read_index(LocalStorage(folder)).values():
            stored = entry.get("zip_data") or entry["raw_data"]
            read_shard(folder / stored["basename"], entry)
            read_sample(folder / stored["basename"], entry, 1)
    except StoreError:
        pass
    finally:
        index.write_text(original)


def test_valid_entry_is_accepted(tmp_path: Path) -> None:
    check_entry(write(tmp_path / "a"))
    check_entry(write(tmp_path / "b", "zstd:3"))


@pytest.mark.parametrize("compression", ["br", "bz2", "gz", "snappy", "zstd"])
def test_compressions_are_read(tmp_path: Path, compression: str) -> None:
    entry = write(tmp_path, compression)
    path = tmp_path / entry["zip_data"]["basename"]
    rows = list(read_shard(path, entry).rows())
    assert [row["str"] for row in rows] == ["näive"] * 3
    assert read_sample(path, entry, 2)["str_int"] == 10**20


SIZE = 256 << 20
BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.compress,
    "zstd:3": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "br": lambda data: brotli.compress(data, quality=1),
    "snappy": snappy.compress,
}


@pytest.mark.parametrize("compression", BOMBS)
def test_bomb_takes_no_more_memory_than_its_stated_size(compression: str) -> None:
    packed = BOMBS[compression](bytes(SIZE))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match=r"x\.mds"):
            decompress(packed, compression, 1000, "x.mds")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_sample_of_a_bomb_takes_no_more_memory_than_its_stated_size(tmp_path: Path) -> None:
    entry = write(tmp_path, "zstd")
    path = tmp_path / entry["zip_data"]["basename"]
    hostile = (1 << 30).to_bytes(4, "little") + bytes(SIZE)
    path.write_bytes(zstandard.compress(hostile))
    entry = copy.deepcopy(entry)
    entry["zip_data"]["hashes"] = {"xxh64": xxhash.xxh64(path.read_bytes()).hexdigest()}
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match="1073741824 samples in"):
            read_sample(path, entry, 0)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
