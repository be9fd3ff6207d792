import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from exported_stores import expected_rows
from small_stores import Length, add_documents
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import QueryError, StoreError
from ixt_data.export import MatchedDocuments, export_hf, export_jsonl, export_mds, export_parquet
from ixt_data.export import matched_documents as selection_module
from ixt_data.store.store import Store


@pytest.mark.parametrize("group", [1, 1 << 16])
def test_parquet_has_text_and_critique_joined(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(selection_module, "GROUP", group)
    monkeypatch.setattr(selection_module, "BATCH", 7)
    report = export_parquet(MatchedDocuments(full), tmp_path / "out/all.parquet")
    table = pq.read_table(tmp_path / "out/all.parquet")
    expected = expected_rows(full)
    assert report.documents == table.num_rows == len(expected) == 48
    text_of = {}
    for shard in full.snapshot().text_shards():
        for number, row in enumerate(full.shard(shard).rows(["doc_id", "text"])):
            text_of[shard.path, number] = row["text"]
    for row in table.to_pylist():
        ours = expected[f"{row['corpus']}/{row['doc_id']}"]
        assert row.pop("text") == text_of[row["shard"], row["row"]]
        spans = row.pop("spans")
        assert row.pop("doc_id") == str(ours.pop("doc_id"))
        if ours["scores"] is not None:
            ours["scores"] = [{"key": key, "value": value} for key, value in ours["scores"]]
        assert row == ours
        if row["critic_id"] is None:
            assert spans is None
        else:
            assert len(spans) == row["n_spans"]
    adopted = table.filter(pa.compute.equal(table["corpus"], "old"))
    assert adopted["spans"][0].as_py()[0]["verdict"] == "right"
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/all.parquet"]


OPENERS: dict[str, Callable[[Path], Any]] = {
    "out.jsonl": lambda path: path.open("rb"),
    "out.jsonl.gz": lambda path: gzip.GzipFile(path),
    "out.jsonl.zst": lambda path: zstandard.open(path, "rb"),
}


@pytest.mark.parametrize("name", OPENERS)
def test_jsonl_selects(full: Store, tmp_path: Path, name: str) -> None:
    where = "score >= 0.8 AND status = 'ok' -- the best"
    selected = MatchedDocuments(full, where=where, corpora=["web"], critic="length")
    report = export_jsonl(selected, tmp_path / name)
    with OPENERS[name](tmp_path / name) as file:
        rows = [json.loads(line) for line in file.read().splitlines()]
    expected = expected_rows(full, "score >= 0.8 AND status = 'ok' AND corpus = 'web'")
    assert report.documents == len(rows) == len(expected) > 0
    assert {row["corpus"] for row in rows} == {"web"}
    assert rows[0]["scores"] == {"length": 1.0, "style": 2.0}
    assert rows[0]["text"].startswith("text ")


def test_only_shards_with_chosen_documents_are_read(full: Store, tmp_path: Path) -> None:
    for path in Path(full.root, "shards/text").rglob("*.zstd"):
        path.unlink()
    report = export_jsonl(MatchedDocuments(full, where="corpus = 'old'"), tmp_path / "out.jsonl")
    assert report.documents == 20


def test_an_earlier_critic_can_be_named_by_its_id(full: Store, tmp_path: Path) -> None:
    first = next(iter(full.snapshot().critics))
    export_jsonl(MatchedDocuments(full, critic=first, corpora=["web"]), tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert {row["critic_id"] for row in rows} == {first}
    assert rows[0]["spans"][0]["verdict"] == "right"


def test_without_critics_there_are_documents(store: Store, tmp_path: Path) -> None:
    add_documents(store, ["a", "b"])
    assert export_mds(MatchedDocuments(store), tmp_path / "mds").documents == 2
    report = export_parquet(MatchedDocuments(store, where="false"), tmp_path / "none.parquet")
    assert report.documents == 0
    assert "text" in pq.read_table(tmp_path / "none.parquet").column_names


def test_export_invalid_arguments_are_named(full: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no corpus 'nope'"):
        MatchedDocuments(full, corpora=["nope"])
    with pytest.raises(StoreError, match="no critiques by 'nope'"):
        MatchedDocuments(full, critic="nope")
    annotate(full, "new", Length(name="other"))
    with pytest.raises(
        StoreError, match=r"length, other: choose one of them, such as critic='length'"
    ):
        MatchedDocuments(full)
    for where in ("nope > 1", "true); DROP TABLE documents --", "(SELECT 1 FROM '/etc/passwd')"):
        with pytest.raises(QueryError, match="is refused"):
            export_jsonl(
                MatchedDocuments(full, where=where, critic="length"), tmp_path / "out.jsonl"
            )
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def run(store: Store, *words: str) -> Any:
    asked = ["export", *words, "--store", store.root, "--output", "json"]
    return CliRunner().invoke(build(), asked)


def test_export_verb_writes_each_format(full: Store, tmp_path: Path) -> None:
    done = run(full, "--format", "delta")
    assert orjson.loads(done.stdout)["tables"]["documents"] == 48
    out = tmp_path / "best.jsonl.zst"
    done = run(full, str(out), "--format", "jsonl", "--where", "score > 0.8", "--corpus", "web")
    report = orjson.loads(done.stdout)
    assert report["documents"] == len(expected_rows(full, "score > 0.8 AND corpus = 'web'"))
    assert report["critic"] == "length"
    for words in (["--format", "delta", "--where", "true"], ["--format", "mds"]):
        assert run(full, *words).exit_code == 2


@pytest.mark.parametrize("write", [export_parquet, export_jsonl, export_mds, export_hf])
def test_export_is_the_same_for_any_number_of_workers(
    full: Store, tmp_path: Path, write: Callable[..., Any]
) -> None:
    found = []
    for workers in (1, 2, 5):
        out = tmp_path / str(workers) / "out.jsonl"
        progress: list[tuple[int, int]] = []
        write(
            MatchedDocuments(full, workers=workers),
            out,
            progress=lambda *counts, seen=progress: seen.append(counts),
        )
        files = sorted(path for path in out.parent.rglob("*") if path.is_file())
        contents = {str(path.relative_to(out.parent)): path.read_bytes() for path in files}
        found.append((contents, progress))
    assert len(full.snapshot().text_shards()) > 2
    assert found[0] == found[1] == found[2]


def test_workers_are_refused_for_metadata_alone(full: Store, tmp_path: Path) -> None:
    asked = ["export", str(tmp_path / "out"), "--format", "delta", "--workers", "2"]
    done = CliRunner().invoke(build(), [*asked, "--store", full.root])
    assert done.exit_code == 2
    assert "--workers is for formats with texts" in done.output
