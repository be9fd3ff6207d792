import json
import math
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ixt_data.errors import CorruptError
from ixt_data.mds.shards import (
    CRITIQUE_COLUMNS,
    TEXT_COLUMNS,
    ShardWriter,
    parse_shard,
    read_sample,
    read_shard,
)


def critique(i: int) -> dict:
    return {
        "doc_id": bytes([i] * 16),
        "status": "ok",
        "critique": f"näive {i} ✓" * i,
        "score": i / 7 if i % 3 else math.nan,
        "scores": {"clarity": i},
        "spans": [[0, i, "wrong", "tag", ""]],
    }


def write(folder: Path, cuts: list[int]) -> ShardWriter:
    writer = ShardWriter(folder, CRITIQUE_COLUMNS)
    for n in cuts:
        for i in range(n):
            writer.write(critique(i))
        writer.cut()
    writer.close()
    return writer


def test_equals_what_mdswriter_writes_byte_for_byte(tmp_path: Path) -> None:
    from streaming import MDSWriter

    write(tmp_path / "ours", [20, 1, 7])
    with MDSWriter(
        columns=CRITIQUE_COLUMNS,
        out=str(tmp_path / "theirs"),
        compression="zstd:3",
        hashes=["xxh64"],
        size_limit=None,
    ) as theirs:
        for n in [20, 1, 7]:
            for i in range(n):
                theirs.write(critique(i))
            theirs.flush_shard()
            theirs._reset_cache()
    ours = json.loads((tmp_path / "ours/index.json").read_text())["shards"]
    reference = json.loads((tmp_path / "theirs/index.json").read_text())["shards"]
    for entry, expected in zip(ours, reference, strict=True):
        # The compressed bytes depend on the build of zstd; what they hold does not.
        assert entry["raw_data"] == expected["raw_data"]
        assert {**entry, "zip_data": 0} == {**expected, "zip_data": 0}


def test_a_stock_dataset_reads_what_is_written(tmp_path: Path) -> None:
    from streaming import StreamingDataset

    write(tmp_path / "shards", [5, 3])
    dataset = StreamingDataset(local=str(tmp_path / "shards"), shuffle=False, batch_size=1)
    assert dataset.size == 8
    assert dataset[6]["critique"] == critique(1)["critique"]
    assert dataset[6]["spans"] == critique(1)["spans"]


def test_reads_back_all_columns(tmp_path: Path) -> None:
    writer = write(tmp_path, [9])
    shard = read_shard(tmp_path / "shard.00000.mds.zstd", writer.index[0])
    rows = list(shard.rows())
    assert [row["critique"] for row in rows] == [critique(i)["critique"] for i in range(9)]
    assert math.isnan(rows[0]["score"])
    assert rows[8]["score"] == pytest.approx(8 / 7)


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=20))
def test_shard_round_trips_any_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    writer = ShardWriter(folder, TEXT_COLUMNS)
    for i, text in enumerate(texts):
        writer.write({"doc_id": b"0" * 16, "source": "", "source_id": str(i), "text": text})
    shard = read_shard(folder / "shard.00000.mds.zstd", writer.cut())
    assert shard.column("text") == texts


def test_one_sample_is_as_in_the_whole_shard(tmp_path: Path) -> None:
    writer = write(tmp_path, [20, 1])
    for name, index in zip(("00000", "00001"), writer.index, strict=True):
        path = tmp_path / f"shard.{name}.mds.zstd"
        for row, sample in enumerate(read_shard(path, index).rows()):
            assert repr(read_sample(path, index, row)) == repr(sample)
        with pytest.raises(CorruptError, match="no sample 20"):
            read_sample(path, index, 20)
        raw = tmp_path / f"shard.{name}.mds"
        raw.write_bytes(zstandard.ZstdDecompressor().decompress(path.read_bytes()))
        unpacked = {**index, "zip_data": None, "compression": None}
        assert read_sample(raw, unpacked, 0)["status"] == "ok"
        path.write_bytes(b"x" + path.read_bytes()[1:])
        with pytest.raises(CorruptError, match="its xxh64"):
            read_sample(path, index, 0)


def test_read_shard_names_damage(tmp_path: Path) -> None:
    writer = write(tmp_path, [9])
    path, index = tmp_path / "shard.00000.mds.zstd", writer.index[0]
    good = path.read_bytes()
    path.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
    with pytest.raises(CorruptError, match=r"shard\.00000\.mds\.zstd: its xxh64"):
        read_shard(path, index)
    path.unlink()
    with pytest.raises(CorruptError, match="missing"):
        read_shard(path, index)


@pytest.mark.parametrize("data", [b"", b"\x05", b"\xff" * 40, b"\x00" * 400])
def test_parse_shard_refuses_other_bytes(data: bytes) -> None:
    with pytest.raises(CorruptError, match=r"x\.mds"):
        parse_shard(data, "x.mds")
