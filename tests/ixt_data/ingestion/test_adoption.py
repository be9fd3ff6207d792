import json
import os
import shutil
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from small_stores import Length, add_documents
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import merge_index
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.registry import load_critic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CommitError, CorruptError, StoreError
from ixt_data.ingestion.adoption import adopt
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import verify
from ixt_data.mds.encodings import decoder
from ixt_data.records import document_id
from ixt_data.store.store import Store

PLAIN = {"text": "str"}


def write_mds(
    folder: Path, samples: Sequence[dict[str, Any]], columns: dict[str, str] = PLAIN, **more: Any
) -> Path:
    """A folder as mosaicml-streaming writes it, some samples a shard."""
    options = {"size_limit": 400, **more}
    with MDSWriter(columns=columns, out=str(folder), **options) as writer:
        for sample in samples:
            writer.write(sample)
    return folder


def texts(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"näive text {i}"} for i in range(start, start + n)]


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def edit_index(folder: Path, change: Any) -> None:
    path = folder / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("packed", [None, "zstd:7", "gz", "bz2", "br:4", "snappy"])
@pytest.mark.parametrize("hashes", [[], ["sha1"], ["xxh3_64", "xxh64"]])
def test_a_folder_becomes_a_corpus_in_place(
    store: Store, tmp_path: Path, packed: str | None, hashes: list[str]
) -> None:
    folder = write_mds(tmp_path / "web", texts(40), compression=packed, hashes=hashes)
    before = state(folder)
    report = adopt(store, "web", folder)
    shards = store.snapshot().text_shards()
    assert report.documents == 40
    assert report.shards == len(shards) > 2
    assert state(folder) == before
    assert not list(Path(store.root).rglob("*.mds*"))
    assert [text for s in shards for text in store.shard(s).column("text")] == [
        sample["text"] for sample in texts(40)
    ]
    rows = (
        store.sql("SELECT * FROM documents ORDER BY length(source_id), source_id")
        .arrow()
        .to_pylist()
    )
    for row in rows:
        shard = store.shard(store.snapshot().shards_by_path[row["shard"]])
        sample = list(shard.rows())[row["row"]]
        assert sample["doc_id"] == document_id(sample["text"]) == row["doc_id"].bytes
        assert sample["source_id"] == row["source_id"]
    assert rows[0]["source_id"] == "web:shard.00000.mds:0"
    assert verify(store).problems == []
    assert verify(store, fast=True).problems == []


def test_other_columns_become_metadata(store: Store, tmp_path: Path) -> None:
    columns = {
        **{"body": "str", "uid": "int", "source": "str", "likes": "uint16", "score": "float32"},
        **{"half": "float16", "small": "int8", "info": "json", "price": "str_decimal"},
        **{"raw": "bytes", "tokens": "ndarray:int32", "fixed": "ndarray:float32:3"},
    }
    sample = {
        **{"body": "a text", "uid": 7, "source": "press", "likes": 65535, "score": 0.5},
        **{"half": 1.5, "small": -8, "info": {"a": [1]}, "price": Decimal("1.10")},
        **{"raw": b"\0", "tokens": np.arange(4, dtype=np.int32)},
        **{"fixed": np.ones(3, np.float32)},
    }
    samples = [sample, {**sample, "body": "b", "uid": 8}]
    folder = write_mds(tmp_path / "mds", samples, columns, size_limit=None)
    report = adopt(store, "web", folder, text_field="body", id_field="uid")
    assert sorted(report.left_out) == ["fixed", "raw", "tokens"]
    (row, _) = store.sql("SELECT * FROM documents ORDER BY source_id").arrow().to_pylist()
    expected = {
        **{"source": "press", "source_id": "7", "likes": 65535, "user_score": 0.5, "half": 1.5},
        **{"small": -8, "info": {"a": [1]}, "price": "1.10"},
    }
    assert {name: row[name] for name in expected} == expected
    (shard,) = store.snapshot().text_shards()
    assert list(store.shard(shard).rows(["source", "source_id", "text"])) == [
        {"source": "press", "source_id": "7", "text": "a text"},
        {"source": "press", "source_id": "8", "text": "b"},
    ]


def test_duplicates_and_empty_texts_are_positions_without_a_row(
    store: Store, tmp_path: Path
) -> None:
    add_documents(store, ["here before"])
    given = ["one", "two", "one", "", " \n", "here before", "three", "x" * 300, "two", "four"]
    folder = write_mds(tmp_path / "mds", [{"text": text} for text in given])
    report = adopt(store, "web", folder)
    assert (report.documents, report.duplicates, report.empty) == (5, 3, 2)
    judged: list[str] = []

    class Counting(Length):
        def judge(self, document: Any) -> Any:
            judged.append(document.text)
            return super().judge(document)

    critiqued = annotate(store, "web", Counting())
    assert critiqued.documents == 6
    assert sorted(judged) == sorted(["here before", "one", "two", "three", "x" * 300, "four"])
    joined = store.sql(
        "SELECT count(*) AS n, count(DISTINCT doc_id) AS d FROM documents JOIN critiques "
        "USING (doc_id, row)"
    ).arrow()
    assert joined.to_pylist() == [{"n": 6, "d": 6}]
    assert store.sql("SELECT count(*) AS n FROM critiques_all").arrow()["n"].to_pylist() == [6]
    adopted = store.snapshot().text_shards()[1]
    aligned = store.snapshot().newest_critique(adopted.path, "length")
    assert aligned is not None
    statuses = store.shard(aligned).column("status")
    assert statuses == ["ok", "ok", *["orphan"] * 4, "ok", *statuses[7:]]
    assert verify(store).problems == []


def test_critiques_are_a_side_car(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(30), compression="zstd")
    adopt(store, "web", folder)
    before = state(folder)
    report = annotate(store, "web", load_critic("rules"))
    assert report.documents == 30
    assert state(folder) == before
    assert store.sql("SELECT count(score) AS n FROM critiques").arrow()["n"].to_pylist() == [30]
    names = [shard.path for shard in store.snapshot().family(f"critique/{report.critic}")]
    assert len(names) == report.units > 1
    assert all(name.startswith("shards/critique/") for name in names)
    assert annotate(store, "web", load_critic("rules")).documents == 0
    assert verify(store).problems == []


def test_a_change_is_noticed_and_named(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(40))
    adopt(store, "web", folder)
    info = store.snapshot().text_shards()[1]
    path = Path(info.path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"shard\.00001\.mds: its xxh64 .* was changed"):
        store.shard(info)
    assert verify(store, fast=True).problems == []
    (problem,) = verify(store).problems
    assert problem.path == str(path)
    assert problem.documents == info.samples
    assert "adopted folder" in problem.remedy
    path.unlink()
    with pytest.raises(CorruptError, match="missing"):
        store.shard(info)
    assert [p.problem for p in verify(store, fast=True).problems] == ["missing"]


def test_garbage_collection_leaves_it_alone(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(10))
    adopt(store, "web", folder)
    before = state(folder)
    nothing = timedelta()
    report = collect_garbage(store, keep_versions=1, keep=nothing, grace=nothing)
    assert not [key for key in report.deleted if str(folder) in key]
    assert state(folder) == before
    assert store.shard(store.snapshot().text_shards()[0]).samples > 0


def test_it_stays_known_through_checkpoints(store: Store, tmp_path: Path) -> None:
    adopt(store, "web", write_mds(tmp_path / "mds", texts(3) + texts(1)))
    before = store.snapshot().text_shards()[0]
    for i in range(51):
        add_documents(store, [f"{i}"], "other")
    again = Store.open(store.root).snapshot().shards_by_path[before.path]
    assert again == before
    assert again.orphans == 1
    assert store.sql("SELECT path FROM shards LIMIT 1").arrow()["path"].to_pylist() == [before.path]


def test_adopt_again_records_new_shards(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(20))
    first = adopt(store, "web", folder)
    more = write_mds(tmp_path / "more", texts(20, 15))
    for shard in sorted(more.glob("*.mds")):
        shutil.copy(shard, folder / f"more.{shard.name}")
    added = json.loads((more / "index.json").read_text())["shards"]
    for entry in added:
        entry["raw_data"]["basename"] = f"more.{entry['raw_data']['basename']}"
    edit_index(folder, lambda index: index["shards"].extend(added))
    second = adopt(store, "web", folder)
    assert (second.known, second.shards) == (first.shards, len(added))
    assert (second.documents, second.duplicates) == (15, 5)
    third = adopt(store, "web", folder)
    assert (third.documents, third.snapshot) == (0, second.snapshot)
    with pytest.raises(StoreError, match="already belongs to the corpus 'web'"):
        adopt(store, "other", folder)


def test_a_merged_index_of_subfolders_works(store: Store, tmp_path: Path) -> None:
    for i in range(3):
        write_mds(tmp_path / "mds" / str(i), texts(5, 5 * i), compression="zstd")
    merge_index(str(tmp_path / "mds"), keep_local=True)
    report = adopt(store, "web", tmp_path / "mds")
    assert report.documents == 15
    assert annotate(store, "web", Length()).documents == 15
    dataset = StreamingDataset(local=str(tmp_path / "mds"), shuffle=False, batch_size=1)
    assert dataset.num_samples == 15


def test_the_cache_of_a_train_run_can_be_adopted(store: Store, tmp_path: Path) -> None:
    remote = write_mds(tmp_path / "remote", texts(30), compression="zstd", hashes=["sha1"])
    dataset = StreamingDataset(
        remote=str(remote), local=str(tmp_path / "cache"), shuffle=False, batch_size=1
    )
    assert len(list(dataset)) == 30
    assert not list((tmp_path / "cache").glob("*.zstd"))
    assert adopt(store, "web", tmp_path / "cache").documents == 30
    assert verify(store).problems == []


BAD_NAMES = ["../web.mds", "/etc/passwd", "a/../../b.mds", "..\\b.mds", "", "./a.mds"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("file", ["raw_data", "zip_data"])
def test_an_index_reaches_no_file_outside(
    store: Store, tmp_path: Path, name: str, file: str
) -> None:
    folder = write_mds(tmp_path / "mds", texts(3), compression="gz")
    edit_index(folder, lambda index: index["shards"][0][file].update(basename=name))
    with pytest.raises(StoreError, match="outside of the folder"):
        adopt(store, "web", folder)
    assert store.snapshot().version == 0


def test_a_symbolic_link_does_not_lead_outside(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(3))
    shard = folder / "shard.00000.mds"
    shard.rename(tmp_path / "secret")
    shard.symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match=r"shard\.00000\.mds: a symbolic link"):
        adopt(store, "web", folder)


def test_adopt_refuses_pickled_columns(store: Store, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    samples = [{"text": "a", "x": Evil()}]
    folder = write_mds(tmp_path / "mds", samples, {"text": "str", "x": "pkl"})
    with pytest.raises(StoreError, match="column 'x' has the encoding 'pkl'"):
        adopt(store, "web", folder)
    # An index that hides it changes nothing: what the shard says of itself counts too.
    edit_index(folder, lambda index: index["shards"][0].update(column_encodings=["str", "json"]))
    with pytest.raises(CorruptError, match="its columns differ from those in"):
        adopt(store, "web", folder)
    with pytest.raises(StoreError, match="pkl"):
        decoder("pkl")
    assert not marker.exists()


def damage_size(index: dict[str, Any]) -> None:
    index["shards"][0]["raw_data"]["bytes"] += 1


def damage_samples(index: dict[str, Any]) -> None:
    index["shards"][0]["samples"] += 1


REFUSED: list[tuple[Any, str]] = [
    (lambda index: index.update(version=1), "version 1"),
    (lambda index: index["shards"][0].update(format="jsonl"), "format jsonl"),
    (lambda index: index.pop("shards"), "not an MDS index"),
    (lambda index: index["shards"][0].pop("samples"), "not an MDS index"),
    (lambda index: index["shards"].append(index["shards"][0]), "twice"),
    (damage_size, "bytes"),
    (damage_samples, "samples"),
    (
        lambda index: index["shards"][0]["raw_data"].update(hashes={"sha1": "0" * 40}),
        "its sha1",
    ),
    (
        lambda index: index["shards"][0]["raw_data"].update(hashes={"rot13": "0"}),
        "unknown hash 'rot13'",
    ),
    (
        lambda index: index["shards"][0]["raw_data"].update(basename="gone.mds"),
        "No such file",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_adopt_names_the_problem(store: Store, tmp_path: Path, change: Any, message: str) -> None:
    folder = write_mds(tmp_path / "mds", texts(3))
    edit_index(folder, change)
    with pytest.raises(StoreError, match=message):
        adopt(store, "web", folder)
    assert store.snapshot().version == 0


def test_adopt_parent_of_splits_names_the_splits(store: Store, tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_mds(tmp_path / "mds" / split, texts(1))
    with pytest.raises(
        StoreError, match=r"it has no index.json, but train, val have one: adopt these"
    ):
        adopt(store, "web", tmp_path / "mds")


def test_a_folder_without_text_says_what_it_has(store: Store, tmp_path: Path) -> None:
    samples = [{"tokens": b"\0\0"}]
    folder = write_mds(tmp_path / "mds", samples, {"tokens": "bytes"})
    with pytest.raises(StoreError, match=r"no column 'text' of text .* tokens \(bytes\)"):
        adopt(store, "web", folder)
    with pytest.raises(StoreError, match="not an MDS folder"):
        adopt(store, "web", tmp_path)


def test_a_store_does_not_adopt_itself(store: Store) -> None:
    add_documents(store, ["a"])
    folder = next(Path(store.root, "shards").rglob("index.json")).parent
    with pytest.raises(StoreError, match="belongs to the store"):
        adopt(store, "web", folder)


def test_two_processes_do_not_adopt_it_twice(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(3))

    def meanwhile(done: int, documents: int) -> None:
        if store.snapshot().version == 0:
            adopt(Store.open(store.root), "web", folder)

    with pytest.raises(CommitError, match="adopted by another process"):
        adopt(store, "web", folder, progress=meanwhile)
    assert store.sql("SELECT count(*) AS n FROM documents").arrow()["n"].to_pylist() == [3]


def test_a_text_that_landed_meanwhile_is_a_duplicate(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(3))

    def meanwhile(done: int, documents: int) -> None:
        add_documents(Store.open(store.root), ["näive text 1"])

    report = adopt(store, "web", folder, progress=meanwhile)
    assert (report.documents, report.duplicates) == (2, 1)
    assert store.snapshot().text_shards()[1].orphans == 1
    assert annotate(store, "web", Length()).documents == 3
    assert store.sql("SELECT count(*) AS n FROM critiques").arrow()["n"].to_pylist() == [3]


def test_export_verb_writes_each_format(store: Store, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", texts(12))
    asked = ["adopt", str(folder), "--corpus", "web", "--store", store.root, "--output", "json"]
    done = CliRunner().invoke(build(), asked)
    assert done.exit_code == 0, done.output
    assert orjson.loads(done.stdout)["documents"] == 12


def test_snapshot_in_a_cache_of_the_hub_is_adopted(store: Store, tmp_path: Path) -> None:
    repository = tmp_path / "datasets--org--name"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots/0123/train"
    for path in write_mds(tmp_path / "mds", texts(3)).iterdir():
        snapshot.mkdir(parents=True, exist_ok=True)
        path.rename(repository / "blobs" / f"hash-of-{path.name}")
        (snapshot / path.name).symlink_to(f"../../../blobs/hash-of-{path.name}")
    assert adopt(store, "web", snapshot).documents == 3
    assert verify(store).problems == []
    (tmp_path / "secret").write_bytes((snapshot / "shard.00000.mds").read_bytes())
    (snapshot / "shard.00000.mds").unlink()
    (snapshot / "shard.00000.mds").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match=r"shard\.00000\.mds: a symbolic link"):
        adopt(store, "other", snapshot)
