import gzip
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from small_stores import Length, add_documents, documents_table
from streaming import MDSWriter, StreamingDataset
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import QueryError, StoreError
from ixt_data.export import Selected, export_delta, export_jsonl, export_mds, export_parquet
from ixt_data.export import delta as delta_module
from ixt_data.export import matched_documents as selection_module
from ixt_data.export.delta import delta_type
from ixt_data.ingestion.adoption import adopt
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.records import Critique, Document
from ixt_data.store.store import Store


class Detailed(Length):
    """The next version of `Length`, with one sub-score more."""

    def judge(self, document: Document) -> Critique:
        made = super().judge(document)
        return Critique(
            made.doc_id, critique="detailed", score=made.score, scores={"length": 1, "style": 2}
        )


@pytest.fixture
def full(store: Store, tmp_path: Path) -> Store:
    """Ingested and adopted documents, some columns late, some critiqued twice, some never."""
    add_documents(store, [f"text {i}" for i in range(25)])
    annotate(store, "web", Length())
    add_documents(store, ["a", "raise"], likes=[1, 2], lang=["en", None])
    annotate(store, "web", Length())
    with MDSWriter(out=str(tmp_path / "mds"), columns={"text": "str"}, size_limit=300) as writer:
        for i in (*range(20), 3, 4):
            writer.write({"text": f"adopted {i}"})
    adopt(store, "old", tmp_path / "mds")
    annotate(store, "old", Length())
    annotate(store, "web", Detailed(2))
    add_documents(store, ["never read"], "new")
    return store


def counts(store: Store, table: str) -> dict[str, Any]:
    sql = f"SELECT count(*) AS n, count(DISTINCT doc_id) AS docs FROM {table}"
    return store.sql(sql).to_pylist()[0]


READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    "polars": lambda path: pl.read_delta(str(path)),
    "polars, lazily": lambda path: pl.scan_delta(str(path)).collect(),
    "deltalake": lambda path: pl.from_arrow(deltalake.DeltaTable(path).to_pyarrow_table()),
    "deltalake, SQL": lambda path: pl.from_arrow(
        pa.table(
            deltalake.QueryBuilder()
            .register("t", deltalake.DeltaTable(path))
            .execute("SELECT * FROM t")
            .read_all()
        )
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("compacted", [False, True])
def test_delta_tables_equal_the_views(full: Store, reader: str, compacted: bool) -> None:
    if compacted:
        compact(full, full=True)
    report = export_delta(full)
    assert report.hard
    assert report.converted == 0
    read = READERS[reader]
    for table in ("documents", "critiques_all"):
        path = Path(full.root, "delta", table)
        frame = read(path)
        expected = counts(full, table)
        assert report.tables[table] == expected["n"] == len(frame)
        assert frame["doc_id"].n_unique() == expected["docs"]
        ours = full.sql(f"SELECT * FROM {table} ORDER BY doc_id, row")
        assert set(frame.columns) == set(ours.column_names)
        for name in set(frame.columns) - {"doc_id", "scores", "flags"}:
            theirs = sorted(frame[name].to_list(), key=repr)
            assert theirs == sorted(ours[name].to_pylist(), key=repr), name
        theirs = sorted(frame["doc_id"].to_list())
        assert theirs == sorted(doc_id.bytes for doc_id in ours["doc_id"].to_pylist())


def test_the_latest_critiques_are_found_by_generation(full: Store) -> None:
    export_delta(full)
    frame = pl.read_delta(str(Path(full.root, "delta/critiques_all")))
    latest = frame.sort("generation").unique(["doc_id", "critic"], keep="last")
    ours = full.sql("SELECT * FROM critiques")
    assert len(latest) == ours.num_rows < len(frame)
    assert sorted(latest["critic_id"].to_list()) == sorted(ours["critic_id"].to_pylist())
    scores = dict(zip(latest["doc_id"], latest["score"], strict=True))
    for row in ours.select(["doc_id", "score"]).to_pylist():
        assert scores[row["doc_id"].bytes] == row["score"]


def test_nested_columns_keep_their_values(full: Store) -> None:
    export_delta(full)
    path = Path(full.root, "delta/critiques_all")
    table = deltalake.DeltaTable(path).to_pyarrow_table()
    ours = full.sql("SELECT scores, flags FROM critiques_all")
    for name in ("scores", "flags"):
        theirs = sorted(table[name].to_pylist(), key=repr)
        assert theirs == sorted(ours[name].to_pylist(), key=repr)


def test_no_row_is_copied_and_gc_takes_nothing(full: Store) -> None:
    export_delta(full)
    exported = list(Path(full.root, "delta").rglob("*.parquet"))
    rows = {path.stat().st_ino for path in Path(full.root, "meta").rglob("*.parquet")}
    assert {path.stat().st_ino for path in exported} == rows
    before = counts(full, "critiques_all")["n"]
    compact(full, full=True)
    nothing = timedelta()
    assert collect_garbage(full, keep_versions=1, keep=nothing, grace=nothing).deleted
    frame = pl.read_delta(str(Path(full.root, "delta/critiques_all")))
    assert len(frame) == before


def test_links_are_symbolic_where_they_cannot_be_hard(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OtherFileSystem:
        @staticmethod
        def link(*args: Any) -> None:
            raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(delta_module, "os", OtherFileSystem)
    report = export_delta(full, tmp_path / "tables")
    assert not report.hard
    frame = pl.read_delta(str(tmp_path / "tables/documents"))
    assert len(frame) == counts(full, "documents")["n"]


def test_delta_travels_in_time(full: Store, tmp_path: Path) -> None:
    export_delta(full, tmp_path / "first", at=1)
    tables = {path.name for path in (tmp_path / "first").iterdir()}
    assert {"documents", "critiques_all"} <= tables
    assert len(pl.read_delta(str(tmp_path / "first/documents"))) == 25
    assert len(pl.read_delta(str(tmp_path / "first/critiques_all"))) == 0


@pytest.mark.parametrize("reader", READERS)
def test_columns_of_differing_types_are_converted(store: Store, reader: str) -> None:
    add_documents(store, ["a"], likes=[3], mark=[True])
    add_documents(store, ["b"], likes=[1.5], mark=["x"])
    report = export_delta(store)
    assert (report.files, report.converted) == (1, 1)
    frame = READERS[reader](Path(store.root, "delta/documents")).sort("likes")
    assert frame["likes"].to_list() == [1.5, 3.0]
    ours = store.sql("SELECT mark FROM documents ORDER BY likes")["mark"].to_pylist()
    assert frame["mark"].to_list() == ours


@pytest.mark.parametrize("reader", READERS)
def test_dates_and_times_are_read(store: Store, reader: str) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5)
    columns = {
        "day": pa.array([date(2026, 1, 2)]),
        "local": pa.array([when], pa.timestamp("us")),
        "utc": pa.array([when.replace(tzinfo=UTC)], pa.timestamp("us", "UTC")),
    }
    with store.begin("ingest") as txn:
        family = txn.family("text", "web", {"doc_id": "bytes", "text": "str"})
        family.write({"doc_id": b"0" * 16, "text": "a"})
        shard = family.cut()
        txn.add_rows("documents", "web", documents_table(["a"], "web", shard.path, columns))
        txn.commit()
    export_delta(store)
    row = READERS[reader](Path(store.root, "delta/documents")).to_dicts()[0]
    assert row["day"] == date(2026, 1, 2)
    assert row["local"] == when
    assert row["utc"] == when.replace(tzinfo=UTC)


def test_types_without_a_form_in_delta_are_named() -> None:
    assert delta_type("MAP(VARCHAR, DOUBLE[])")["valueType"]["type"] == "array"
    with pytest.raises(StoreError, match="HUGEINT"):
        delta_type("HUGEINT")


def test_schemas_grow_and_old_rows_are_null(store: Store) -> None:
    add_documents(store, ["old", "older"])
    annotate(store, "web", Length())
    add_documents(store, ["new"], likes=[7])
    annotate(store, "web", Detailed(3))
    query = (
        "SELECT likes, scores['length'] AS length, scores['style'] AS style, version FROM ("
        "SELECT *, critic_id AS version FROM critiques_all JOIN documents USING (doc_id)) "
        "ORDER BY generation, likes NULLS FIRST, length"
    )
    expected = [
        {"likes": None, "length": 3.0, "style": None},
        {"likes": None, "length": 5.0, "style": None},
        {"likes": 7, "length": 1.0, "style": 2.0},
        {"likes": None, "length": 1.0, "style": 2.0},
        {"likes": None, "length": 1.0, "style": 2.0},
    ]

    def rows() -> list[dict[str, Any]]:
        found = store.sql(query).drop_columns("version").to_pylist()
        return sorted(found, key=repr)

    assert rows() == sorted(expected, key=repr)
    compact(store, full=True)
    assert rows() == sorted(expected, key=repr)
    export_delta(store)
    likes = pl.read_delta(str(Path(store.root, "delta/documents")))["likes"]
    assert sorted(likes.to_list(), key=repr) == [7, None, None]
    path = Path(store.root, "delta/critiques_all")
    scores = [dict(s) for s in deltalake.DeltaTable(path).to_pyarrow_table()["scores"].to_pylist()]
    assert sorted(s.get("style", 0) for s in scores) == [0, 0, 2, 2, 2]


def expected_rows(store: Store, where: str = "true") -> dict[str, dict[str, Any]]:
    found = store.sql(
        "SELECT documents.*, critiques.* EXCLUDE (doc_id, shard, row) FROM documents LEFT JOIN "
        f"critiques USING (doc_id) WHERE {where}"
    )
    return {f"{row['corpus']}/{row['doc_id']}": row for row in found.to_pylist()}


@pytest.mark.parametrize("group", [1, 1 << 16])
def test_parquet_has_text_and_critique_joined(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(selection_module, "GROUP", group)
    monkeypatch.setattr(selection_module, "BATCH", 7)
    report = export_parquet(Selected(full), tmp_path / "out/all.parquet")
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
    selected = Selected(full, where=where, corpora=["web"], critic="length")
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
    report = export_jsonl(Selected(full, where="corpus = 'old'"), tmp_path / "out.jsonl")
    assert report.documents == 20


def test_an_earlier_critic_can_be_named_by_its_id(full: Store, tmp_path: Path) -> None:
    first = next(iter(full.snapshot().critics))
    export_jsonl(Selected(full, critic=first, corpora=["web"]), tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert {row["critic_id"] for row in rows} == {first}
    assert rows[0]["spans"][0]["verdict"] == "right"


def test_without_critics_there_are_documents(store: Store, tmp_path: Path) -> None:
    add_documents(store, ["a", "b"])
    assert export_mds(Selected(store), tmp_path / "mds").documents == 2
    report = export_parquet(Selected(store, where="false"), tmp_path / "none.parquet")
    assert report.documents == 0
    assert "text" in pq.read_table(tmp_path / "none.parquet").column_names


def test_mds_opens_in_a_stock_dataset(full: Store, tmp_path: Path) -> None:
    selected = Selected(full, corpora=["web", "old"])
    report = export_mds(selected, tmp_path / "out", shard_bytes=500)
    dataset = StreamingDataset(local=str(tmp_path / "out"), shuffle=False, batch_size=1)
    samples = list(dataset)
    assert len(dataset.shards) > 2
    expected = {row["doc_id"].hex: row for row in expected_rows(full).values()}
    assert report.documents == len(samples) == 47
    for sample in samples:
        ours = expected[sample["doc_id"]]
        assert sample["critique"] == (ours["critique"] or "")
        assert sample["source_id"] == ours["source_id"]
        if ours["score"] is None:
            assert math.isnan(sample["score"])
        else:
            assert sample["score"] == pytest.approx(ours["score"])
    # And what was exported can be adopted again.
    again = Store.init(tmp_path / "again")
    adopt(again, "back", tmp_path / "out", id_field="source_id")
    ids = "SELECT doc_id FROM documents WHERE corpus IN ('web', 'old', 'back') ORDER BY doc_id"
    assert again.sql(ids)["doc_id"].to_pylist() == full.sql(ids)["doc_id"].to_pylist()


def test_what_is_asked_wrong_is_said(full: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no corpus 'nope'"):
        Selected(full, corpora=["nope"])
    with pytest.raises(StoreError, match="no critiques by 'nope'"):
        Selected(full, critic="nope")
    annotate(full, "new", Length(name="other"))
    with pytest.raises(StoreError, match=r"length, other: name one of them \(--critic\)"):
        Selected(full)
    for where in ("nope > 1", "true); DROP TABLE documents --", "(SELECT 1 FROM '/etc/passwd')"):
        with pytest.raises(QueryError, match="is refused"):
            export_jsonl(Selected(full, where=where, critic="length"), tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize("place", ["shards/x", "meta/documents", "_log", "_pins/a", ""])
def test_exports_keep_out_of_the_store(full: Store, place: str) -> None:
    before = sorted(Path(full.root).rglob("*"))
    target = Path(full.root, place)
    with pytest.raises(StoreError, match="is part of the store"):
        export_delta(full, target, overwrite=True)
    with pytest.raises(StoreError, match="is part of the store"):
        export_mds(Selected(full), target, overwrite=True)
    assert sorted(Path(full.root).rglob("*")) == before


def test_nothing_is_replaced_unasked(full: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_mds(Selected(full), out)
    with pytest.raises(StoreError, match="say --overwrite"):
        export_delta(full, out)
    assert (out / "index.json").exists()
    export_delta(full, out, overwrite=True)
    assert not (out / "index.json").exists()
    assert (out / "documents/_delta_log").is_dir()
    # A folder of someone else is never replaced.
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").write_text("dear")
    with pytest.raises(StoreError, match="was not made by"):
        export_delta(full, tmp_path / "home", overwrite=True)
    (tmp_path / "rows.jsonl").write_text("mine")
    with pytest.raises(StoreError, match="say --overwrite"):
        export_jsonl(Selected(full), tmp_path / "rows.jsonl")
    export_jsonl(Selected(full), tmp_path / "rows.jsonl", overwrite=True)
    assert len((tmp_path / "rows.jsonl").read_bytes().splitlines()) == 48


def test_an_export_that_fails_leaves_the_old_one(full: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_mds(Selected(full), out)
    before = sorted((path, path.read_bytes()) for path in out.iterdir())
    for path in Path(full.root, "shards/text").rglob("*.zstd"):
        path.unlink()
    with pytest.raises(StoreError, match="missing"):
        export_mds(Selected(full), out, overwrite=True)
    assert sorted((path, path.read_bytes()) for path in out.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert full.pins.all() == {}


def run(store: Store, *words: str) -> Any:
    asked = ["export", *words, "--store", store.root, "--output", "json"]
    return CliRunner().invoke(build(), asked)


def test_the_verb(full: Store, tmp_path: Path) -> None:
    done = run(full, "--format", "delta")
    assert orjson.loads(done.stdout)["tables"]["documents"] == 48
    out = tmp_path / "best.jsonl.zst"
    done = run(full, str(out), "--format", "jsonl", "--where", "score > 0.8", "--corpus", "web")
    report = orjson.loads(done.stdout)
    assert report["documents"] == len(expected_rows(full, "score > 0.8 AND corpus = 'web'"))
    assert report["critic"] == "length"
    for words in (["--format", "delta", "--where", "true"], ["--format", "mds"]):
        assert run(full, *words).exit_code == 2
