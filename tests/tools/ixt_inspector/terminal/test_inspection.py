"""`ixt inspect` on stores, stock and hostile MDS folders, single shards, and documents."""

import io
import json
import pickle
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import zstandard
from moto_server import s3_server
from rich.console import Console
from small_stores import add_documents
from streaming import MDSWriter
from typer.testing import CliRunner

from ixt_data.analysis import build_indexes
from ixt_data.cli.app import build
from ixt_data.critics.registry import load_critic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import IxtError
from ixt_data.ingestion import ingest
from ixt_data.storage.opening import open_storage
from ixt_data.store.store import Store
from ixt_inspector.terminal.inspection import inspect_target
from ixt_inspector.terminal.render import render_view
from ixt_inspector.terminal.shard import InspectOptions
from ixt_inspector.terminal.shard_header import ShardReader, read_header

CODECS = [None, "zstd", "gz", "bz2", "br", "snappy"]
COLUMNS = {"text": "str", "n": "int32", "meta": "json", "vector": "ndarray", "big": "str_int"}


def write(folder: Path, codec: str | None = "zstd", n: int = 120) -> Path:
    """A folder as stock mosaicml-streaming writes it."""
    settings = {"columns": COLUMNS, "compression": codec, "hashes": ["sha1", "xxh64"]}
    with MDSWriter(out=str(folder), size_limit=9000, **settings) as writer:
        for i in range(n):
            sample = {"text": f"doc {i} \x1b[31m" + "word " * (i % 30), "n": i, "big": 10**30 + i}
            writer.write(sample | {"meta": {"i": i}, "vector": np.arange(3)})
    return folder


def inspected(target: object, *arguments: str, code: int = 0) -> dict:
    command = ["inspect", str(target), *arguments, "--output", "json"]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def shown(target: object, root: str = "nowhere", **asked: object) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(
        render_view(inspect_target(str(target), root, None, InspectOptions(**asked)), False),
        markup=False,
    )
    return console.file.getvalue()


@pytest.mark.parametrize("codec", CODECS)
def test_a_stock_folder_with_and_without_its_index(tmp_path: Path, codec: str | None) -> None:
    folder = write(tmp_path / "x", codec)
    index = json.loads((folder / "index.json").read_text())["shards"]
    found = inspected(folder, "--verify", "--sample", "2", "--seed", "5")
    assert (found["samples"], found["indexed"], found["checked"]) == (120, True, True)
    assert (found["columns"], found["problems"]) == (COLUMNS, [])
    assert found["raw_bytes"] == sum(entry["raw_data"]["bytes"] for entry in index)
    assert found["compression"] == [codec or "none"]
    assert found["hashes"] == ["sha1", "xxh64"]
    first, *others = found["shards"][0]["shown"]
    assert first["sample"] == 0
    assert first["values"]["meta"] == {"i": 0}
    assert first["values"]["big"] == str(10**30)
    assert first["values"]["vector"].startswith("<ndarray, ")
    assert len(others) == 2
    again = inspected(folder, "--sample", "2", "--seed", "5")
    assert again["shards"][0]["shown"] == found["shards"][0]["shown"]
    (folder / "index.json").unlink()
    bare = inspected(folder)
    assert not bare["indexed"]
    assert (bare["samples"], bare["columns"], bare["raw_bytes"], bare["bytes"]) == (
        *(120, COLUMNS),
        *(found["raw_bytes"], found["bytes"]),
    )
    alone = inspected(folder / found["shards"][1]["file"])
    assert alone["kind"] == "shard"
    assert alone["samples"] == index[1]["samples"]


def test_what_is_shown_steers_no_terminal(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    text = shown(folder, random=1)
    assert r"doc 0 \x1b[31m" in text
    assert "\x1b" not in text
    assert "not compared with the content: --verify" in text


def test_codec_of_a_name_without_suffix_is_detected_by_content(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    shutil.copy(folder / "shard.00000.mds.zstd", tmp_path / "shard")
    assert inspected(tmp_path / "shard")["compression"] == "zstd"
    shutil.copy(folder / "shard.00000.mds.zstd", tmp_path / "shard.mds.gz")
    (problem,) = inspected(tmp_path / "shard.mds.gz", code=1)["problems"]
    assert "named as gz, but its content looks like zstd" in problem


def test_damage_is_reported(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    files = sorted(folder.glob("*.zstd"))
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)
    files[1].write_bytes(files[1].read_bytes()[:100])
    files[2].unlink()
    problems = "\n".join(inspected(folder, "--verify", code=1)["problems"])
    assert f"{files[0].name}: its sha1 is " in problems
    assert f"{files[1].name}: ends after " in problems
    assert f"{files[2].name}: missing, but index.json names it" in problems


def test_wrong_index_is_reported(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    index = json.loads((folder / "index.json").read_text())
    shards = index["shards"]
    shards[0]["samples"] += 1
    shards[1]["zip_data"]["basename"] = "../../evil"
    shards[2] = {"format": "json"}
    (folder / "index.json").write_text(json.dumps(index))
    found = inspected(folder, code=1)
    problems = "\n".join(found["problems"])
    assert "index.json states samples" in problems
    assert "names the file '../../evil', which escapes the folder" in problems
    assert "shard 2 has the format 'json', not mds" in problems
    assert all("evil" not in shard["file"] for shard in found["shards"])


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    outside = write(tmp_path / "secret")
    (folder / "shard.00000.mds.zstd").unlink()
    (folder / "shard.00000.mds.zstd").symlink_to(outside / "shard.00000.mds.zstd")
    problems = inspected(folder, code=1)["problems"]
    assert problems == ["shard.00000.mds.zstd: a symbolic link that escapes the folder: not read"]


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def raw_shard(config: bytes, samples: list[bytes]) -> bytes:
    begin = 4 + 4 * (len(samples) + 1) + len(config)
    ends = [begin]
    for sample in samples:
        ends.append(ends[-1] + len(sample))
    return struct.pack(f"<{len(ends) + 1}I", len(samples), *ends) + config + b"".join(samples)


def test_pickles_are_never_run(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb())
    config = {"column_names": ["x"], "column_encodings": ["pkl"], "column_sizes": [None]}
    data = raw_shard(json.dumps(config).encode(), [struct.pack("<I", len(bomb)) + bomb])
    (tmp_path / "shard.mds").write_bytes(data)
    (sample,) = inspected(tmp_path / "shard.mds")["shown"]
    assert "not decoded: it would run code" in sample["values"]["x"]


HOSTILE = {
    "not an MDS shard: its header states 4,294,967,295 samples": b"\xff" * 64,
    "its offsets do not ascend": raw_shard(b"{}", [b""])[:8] + b"\0" * 8,
    "its header is unreadable": raw_shard(b"[" * 100_000, [b""]),
    "ends after": struct.pack("<I", 1000) + b"\0" * 8,
    "the columns do not fill a sample": raw_shard(
        b'{"column_names": ["x"], "column_encodings": ["str"], "column_sizes": [null]}',
        [struct.pack("<I", 1 << 31) + b"abc"],
    ),
    "is too short for its columns": raw_shard(
        b'{"column_names": ["x"], "column_encodings": ["str"], "column_sizes": [null]}', [b"a"]
    ),
}


@pytest.mark.parametrize("said", HOSTILE)
def test_untrusted_shards_are_problems(tmp_path: Path, said: str) -> None:
    path = tmp_path / "shard.00000.mds"
    path.write_bytes(HOSTILE[said])
    assert said in inspected(path, code=1)["problems"][0]


def test_the_head_of_a_large_shard_is_read_alone(tmp_path: Path) -> None:
    config = b'{"column_names": ["x"], "column_encodings": ["str"], "column_sizes": [null]}'
    words = np.random.default_rng(0).integers(0, 1 << 30, 8 << 20, np.int32).tobytes()
    samples = [struct.pack("<I", 16000) + words[i : i + 16000] for i in range(0, 1 << 25, 16000)]
    path = tmp_path / "shard.00000.mds.zstd"
    path.write_bytes(zstandard.compress(raw_shard(config, samples)))
    began = time.perf_counter()
    with path.open("rb") as file:
        head = read_header(ShardReader(file, path.name))
        assert file.tell() < path.stat().st_size / 20
    assert head.samples == len(samples)
    assert head.raw_bytes > 1 << 25
    assert head.bytes_read < 10_000
    assert time.perf_counter() - began < 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("inspect")
    lines = [json.dumps({"text": f"Page {i} says so. " * i, "id": f"p{i}"}) for i in range(1, 30)]
    lines.append(json.dumps({"text": "evil \x1b[2J <script>", "id": "evil"}))
    (folder / "a.jsonl").write_text("\n".join(lines))
    store = Store.init(folder / "S")
    ingest(store, "web", [folder / "a.jsonl"], shard_bytes=3000)
    annotate(store, "web", load_critic("rules"))
    return store


def test_a_store_and_its_families(store: Store) -> None:
    found = inspected(store.root, "--verify")
    assert found["kind"] == "store"
    assert (found["corpora"], found["problems"]) == ({"web": 30}, [])
    text, critique = found["families"]
    assert (text["family"], critique["samples"]) == ("text", 30)
    assert critique["aligned"] == critique["of"] == text["shards"] > 1
    assert "critique/rules-" in shown(store.root)


def test_a_shard_of_a_store_knows_what_is_aligned_with_it(store: Store) -> None:
    info = store.snapshot().text_shards()[1]
    found = inspected(Path(store.root, info.path), "--verify")
    assert (found["samples"], found["checked"], found["problems"]) == (info.samples, True, [])
    (aligned,) = found["aligned"]
    assert aligned.startswith("critique/rules-")


def test_document_is_shown_with_its_critique(store: Store) -> None:
    own = ("--store", store.root)
    by_name = inspected("evil", *own)
    assert by_name == inspected(by_name["doc_id"], *own)
    assert by_name == inspected(by_name["doc_id"].replace("-", ""), *own)
    assert by_name["text"] == "evil \x1b[2J <script>"
    (critique,) = by_name["critiques"]
    assert critique["critic"] == "rules"
    assert critique["critique"]
    text = shown("evil", store.root)
    assert r"evil \x1b[2J <script>" in text
    assert "\x1b" not in text
    with pytest.raises(IxtError, match="p99: not a file, folder or store; no document 'p99'"):
        inspect_target("p99", store.root, None, InspectOptions())


@pytest.mark.slow
def test_a_folder_and_a_shard_on_s3(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    with s3_server() as bucket:
        place = open_storage(f"{bucket}/deep/x")
        for path in folder.iterdir():
            place.replace(path.name, path.read_bytes())
        found = inspected(f"{bucket}/deep/x", "--verify", "--sample", "1")
        assert (found["samples"], found["checked"], found["problems"]) == (120, True, [])
        one = inspected(f"{bucket}/deep/x/shard.00001.mds.zstd")
        assert one["samples"] == found["shards"][1]["samples"]


def test_index_of_replaced_critiques_is_not_a_problem(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    add_documents(store, ["a fox", "a dog"])
    store.label("0", by="ana", score=0.5)
    build_indexes(store)
    store.label("1", by="ana", score=0.5)
    assert inspected(store.root)["problems"] == []
