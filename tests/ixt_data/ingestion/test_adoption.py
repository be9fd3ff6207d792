"""Adoption: an MDS folder is a corpus in place."""

import json
import shutil
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from mds_folders import edit_index, texts, write_mds
from small_stores import Length, add_documents
from streaming import StreamingDataset
from streaming.base.util import merge_index
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.registry import load_critic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CommitError, CorruptError, StoreError
from ixt_data.ingestion.adoption import adopt
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import verify
from ixt_data.records import document_id
from ixt_data.store.store import Store


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


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


def test_adoption_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "mds", [*texts(40), *texts(10)])
    found = []
    for workers in (1, 2, 5):
        store = Store.init(tmp_path / str(workers))
        report = adopt(store, "web", folder, workers=workers)
        rows = store.sql("SELECT * FROM documents ORDER BY shard, row").fetchall()
        found.append((report, [shard.path for shard in store.snapshot().text_shards()], rows))
    assert (report.documents, report.duplicates) == (40, 10)
    assert found[0] == found[1] == found[2]


def test_ids_that_repeat_are_said(store: Store, tmp_path: Path) -> None:
    samples = [{"text": text, "n": n} for text, n in (("a", 1), ("b", 1), ("c", 2), ("d", 2))]
    folder = write_mds(tmp_path / "mds", samples, {"text": "str", "n": "int"})
    assert adopt(store, "web", folder, id_field="n").remarks == [
        "2 source ids, such as '1', are of several documents of web; "
        "`--critic import` finds these by doc_id only"
    ]
