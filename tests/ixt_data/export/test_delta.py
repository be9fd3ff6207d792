from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pytest
from exported_stores import Detailed
from small_stores import Length, add_documents, documents_table

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import StoreError
from ixt_data.export import delta as delta_module
from ixt_data.export import export_delta
from ixt_data.export.delta import delta_type
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.sql.column_types import parse_type
from ixt_data.store.store import Store


def counts(store: Store, table: str) -> dict[str, Any]:
    sql = f"SELECT count(*) AS n, count(DISTINCT doc_id) AS docs FROM {table}"
    return store.sql(sql).arrow().to_pylist()[0]


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
    assert report.hard_links
    assert report.converted == 0
    read = READERS[reader]
    for table in ("documents", "critiques_all"):
        path = Path(full.root, "delta", table)
        frame = read(path)
        expected = counts(full, table)
        assert report.tables[table] == expected["n"] == len(frame)
        assert frame["doc_id"].n_unique() == expected["docs"]
        ours = full.sql(f"SELECT * FROM {table} ORDER BY doc_id, row").arrow()
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
    ours = full.sql("SELECT * FROM critiques").arrow()
    assert len(latest) == ours.num_rows < len(frame)
    assert sorted(latest["critic_id"].to_list()) == sorted(ours["critic_id"].to_pylist())
    scores = dict(zip(latest["doc_id"], latest["score"], strict=True))
    for row in ours.select(["doc_id", "score"]).to_pylist():
        assert scores[row["doc_id"].bytes] == row["score"]


def test_nested_columns_keep_their_values(full: Store) -> None:
    export_delta(full)
    path = Path(full.root, "delta/critiques_all")
    table = deltalake.DeltaTable(path).to_pyarrow_table()
    ours = full.sql("SELECT scores, flags FROM critiques_all").arrow()
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
    assert not report.hard_links
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
    ours = store.sql("SELECT mark FROM documents ORDER BY likes").arrow()["mark"].to_pylist()
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
    assert delta_type(parse_type("MAP(VARCHAR, DOUBLE[])"))["valueType"]["type"] == "array"
    with pytest.raises(StoreError, match="HUGEINT"):
        delta_type(parse_type("HUGEINT"))


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
        found = store.sql(query).arrow().drop_columns("version").to_pylist()
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
