"""Types of the user's columns, from a file through the view to each export."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from ixt_data.errors import ConfigError
from ixt_data.export.delta import export_delta
from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.rows import export_jsonl, export_parquet
from ixt_data.ingestion.corpus import ingest
from ixt_data.maintenance.compaction import compact
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store

STAMP = datetime(2026, 1, 2, 3, 4, 5, 678901)
# Arrow type, value in Python, type in the view, value in the view if it differs.
COLUMNS: dict[str, tuple[pa.DataType, Any, str]] = {
    "seen": (pa.timestamp("us", "Asia/Tokyo"), STAMP.replace(tzinfo=UTC), "TIMESTAMPTZ"),
    "local": (pa.timestamp("ms"), STAMP.replace(microsecond=678000), "TIMESTAMP"),
    "fine": (pa.timestamp("ns"), STAMP, "TIMESTAMP"),
    "day": (pa.date32(), date(1969, 7, 20), "DATE"),
    "day64": (pa.date64(), date(1969, 7, 20), "DATE"),
    "at": (pa.time64("us"), time(23, 59, 59, 999999), "TIME"),
    "at32": (pa.time32("s"), time(1, 2, 3), "TIME"),
    "took": (pa.duration("ms"), timedelta(days=-1, milliseconds=7), "INTERVAL"),
    "price": (pa.decimal128(10, 2), Decimal("-12.30"), "DECIMAL(10,2)"),
    "ok": (pa.bool_(), False, "BOOLEAN"),
    "small": (pa.int8(), -128, "TINYINT"),
    "byte": (pa.uint8(), 255, "UTINYINT"),
    "half": (pa.float16(), 0.5, "FLOAT"),
    "big": (pa.uint64(), 2**64 - 1, "UBIGINT"),
    "raw": (pa.binary(), b"\xff\x00", "BLOB"),
    "fixed": (pa.binary(2), b"\xff\x00", "BLOB"),
    "tags": (pa.large_list(pa.string()), ["a", None], "VARCHAR[]"),
    "switches": (pa.list_(pa.bool_()), [True, False], "BOOLEAN[]"),
    "meta": (pa.struct([("lang", pa.string()), ("n", pa.int64())]), {"lang": "en", "n": 1},
             "STRUCT(lang VARCHAR, n BIGINT)"),
    "marks": (pa.map_(pa.string(), pa.int32()), [("a", 1)], "MAP(VARCHAR, INTEGER)"),
    "kind": (pa.dictionary(pa.int8(), pa.string()), "web", "VARCHAR"),
    "nothing": (pa.null(), None, "VARCHAR"),
}  # fmt: skip


def write_table(path: Path) -> Path:
    names = list(COLUMNS)
    arrays = [pa.array([COLUMNS[n][1], None], COLUMNS[n][0]) for n in names if n != "half"]
    arrays.insert(names.index("half"), pa.array([0.5, None], pa.float64()).cast(pa.float16()))
    pq.write_table(pa.table([pa.array(["one", "two"]), *arrays], names=["text", *names]), path)
    return path


@pytest.fixture
def typed(store: Store, tmp_path: Path) -> Store:
    report = ingest(store, "web", [write_table(tmp_path / "types.parquet")])
    assert report.remarks == ["column fine: timestamp[ns] became microseconds"]
    return store


def shown(store: Store) -> dict[str, str]:
    kinds = {name: kind for name, kind, *_ in store.sql("DESCRIBE documents").fetchall()}
    return {
        name: kinds[name].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for name in COLUMNS
    }


def values(row: dict[str, Any]) -> dict[str, Any]:
    row = {name: row[name] for name in COLUMNS}
    if row["marks"] and isinstance(row["marks"], dict):
        row["marks"] = list(row["marks"].items())
    return row


EXPECTED = {name: value for name, (_, value, _) in COLUMNS.items()}


def test_columns_keep_their_types_and_values_in_the_view(typed: Store) -> None:
    for _ in range(2):
        assert shown(typed) == {name: kind for name, (_, _, kind) in COLUMNS.items()}
        result = typed.sql(
            "SELECT * REPLACE (epoch_ms(took) AS took) FROM documents "
            "WHERE source_id LIKE 'types%' ORDER BY source_id"
        )
        one, two = (dict(zip(result.columns, row, strict=True)) for row in result)
        assert values(one) == {**EXPECTED, "took": 7 - 86_400_000}
        assert set(values(two).values()) == {None}
        # Compaction rewrites the file by DuckDB.
        add = [pa.array(["three"])]
        path = Path(typed.root).parent / "more.parquet"
        pq.write_table(pa.table(add, names=["text"]), path)
        ingest(typed, "web", [path])
        compact(typed)


def test_parquet_exports_keep_the_types(typed: Store, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    export_parquet(MatchedDocuments(typed), out)
    for name, (kind, value, _) in COLUMNS.items():
        row = pq.read_table(out)[name][0].as_py()
        if name == "marks":
            value = [{"key": "a", "value": 1}]
        assert row == value, (name, kind)
    frame = polars.read_parquet(out)
    assert frame["took"][0] == EXPECTED["took"]
    assert (frame["big"][0], frame["price"][0]) == (2**64 - 1, Decimal("-12.30"))
    assert str(pandas.read_parquet(out)["seen"].dtype) == "datetime64[us, UTC]"
    import datasets

    loaded = datasets.load_dataset("parquet", data_files=str(out), cache_dir=str(tmp_path / "hf"))
    assert loaded["train"][0]["marks"] == [{"key": "a", "value": 1}]
    assert loaded["train"][0]["took"] == EXPECTED["took"]


def test_delta_exports_keep_the_types(typed: Store, tmp_path: Path) -> None:
    export_delta(typed, tmp_path / "delta")
    table = DeltaTable(tmp_path / "delta/documents").to_pyarrow_table()
    row = values(table.to_pylist()[0])
    expected = {
        **EXPECTED,
        **{"at": "23:59:59.999999", "at32": "01:02:03", "took": "-23:59:59.993"},
    }
    assert row == expected
    frame = polars.read_delta(str(tmp_path / "delta/documents"))
    assert int(frame["big"][0]) == 2**64 - 1


def test_jsonl_exports_keep_the_values(typed: Store, tmp_path: Path) -> None:
    export_jsonl(MatchedDocuments(typed), tmp_path / "out.jsonl")
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (row["big"], row["price"], row["ok"]) == (2**64 - 1, -12.3, False)
    assert (row["marks"], row["meta"], row["tags"]) == ({"a": 1}, EXPECTED["meta"], ["a", None])
    assert (row["seen"], row["at32"]) == ("2026-01-02 03:04:05.678901+00", "01:02:03")
    back = polars.read_ndjson(tmp_path / "out.jsonl")
    assert back["n_chars"].to_list() == [3, 3]


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_integers_of_more_than_64_bits_keep_every_digit(store: Store, tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", '{"text": "a", "h": 18446744073709551615}')
    ingest(store, "web", [first])
    assert store.sql("SELECT DISTINCT typeof(h) FROM documents").fetchall() == [("UBIGINT",)]
    wide = 10**37 + 1
    ingest(store, "web", [write(tmp_path / "b.jsonl", f'{{"text": "b", "h": {wide}}}')])
    ingest(store, "web", [write(tmp_path / "c.jsonl", '{"text": "c", "h": -1}')])
    for _ in range(2):
        found = store.sql("SELECT h, typeof(h) FROM documents ORDER BY h").fetchall()
        assert found == [(-1, "HUGEINT"), (2**64 - 1, "HUGEINT"), (wide, "HUGEINT")]
        assert store.sql("SELECT sum(h) FROM documents").fetchall() == [(wide + 2**64 - 2,)]
        compact(store)
    export_jsonl(MatchedDocuments(store), tmp_path / "out.jsonl")
    rows = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert {row["h"] for row in rows} == {-1, 2**64 - 1, wide}
    export_delta(store, tmp_path / "delta")
    table = DeltaTable(tmp_path / "delta/documents").to_pyarrow_table()
    assert set(table["h"].to_pylist()) == {-1, 2**64 - 1, wide}


def test_numbers_that_are_not_finite_become_null_and_are_counted(
    store: Store, tmp_path: Path
) -> None:
    lines = ('{"text":"a","p":NaN}', '{"text":"b","p":[-Infinity, 1]}', '{"text":"c","q":3.0}')
    report = ingest(store, "web", [write(tmp_path / "a.jsonl", *lines, '{"text":"d","p":NAN}')])
    assert (report.documents, report.quarantined) == (3, 1)
    assert report.remarks[0] == "NaN or Infinity in JSON became NULL: 2"


def test_dates_of_json_stay_text_unless_asked(store: Store, tmp_path: Path) -> None:
    line = '{"text":"a","d":"2026-01-02","in":{"d":"2026-01-02"},"t":"2026-01-02T03:04:05Z"}'
    ingest(store, "web", [write(tmp_path / "a.jsonl", line)])
    kinds = 'SELECT typeof(d), typeof("in"), typeof(t) FROM documents'
    assert store.sql(kinds).fetchall() == [("VARCHAR", "STRUCT(d VARCHAR)", "VARCHAR")]
    other = Store.init(tmp_path / "other")
    ingest(other, "web", [tmp_path / "a.jsonl"], types="auto")
    assert other.sql(kinds).fetchall() == [("DATE", "STRUCT(d DATE)", "TIMESTAMP WITH TIME ZONE")]


def test_a_text_among_numbers_is_said_with_the_selections_that_break(
    store: Store, tmp_path: Path
) -> None:
    ingest(store, "web", [write(tmp_path / "a.jsonl", '{"text":"a","likes":3}')])
    save_selection(store, "liked", "likes > 2")
    save_selection(store, "all", "n_chars > 0")
    bad = write(tmp_path / "b.jsonl", '{"text":"b","likes":4}', '{"text":"c","likes":"NA"}')
    report = ingest(store, "books", [bad])
    assert report.remarks[:2] == [
        "field likes: text (such as 'NA') beside a number; the column is VARCHAR",
        "column likes: was BIGINT, is VARCHAR because of VARCHAR values",
    ]
    assert len(report.remarks) == 3
    assert report.remarks[2].startswith("selection liked no longer works: where 'likes > 2'")
    # The way out: a type for the field.
    other = Store.init(tmp_path / "other")
    report = ingest(other, "books", [bad], casts={"likes": "BIGINT"})
    assert report.remarks == ["field likes: values that do not fit BIGINT became NULL"]
    assert other.sql("SELECT likes FROM documents ORDER BY likes").fetchall() == [(4,), (None,)]


def test_types_that_do_not_merge_are_an_error_with_the_way_out(
    store: Store, tmp_path: Path
) -> None:
    ingest(store, "web", [write(tmp_path / "a.jsonl", '{"text":"a","likes":[1]}')])
    other = write(tmp_path / "b.jsonl", '{"text":"b","likes":2}')
    with pytest.raises(ConfigError, match=r"'likes'.* BIGINT, .*likes .*BIGINT\[\].*--type likes="):
        ingest(store, "web", [other])
    assert store.snapshot().version == 1
    ingest(store, "web", [other], casts={"likes": "BIGINT[]"})
    with pytest.raises(ConfigError, match="--type 'NUMBER'"):
        ingest(store, "more", [other], casts={"likes": "NUMBER"})


def test_two_columns_of_one_name_are_both_kept(store: Store, tmp_path: Path) -> None:
    arrays = [pa.array(["one"]), pa.array([1]), pa.array([2]), pa.array([3])]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(arrays, names=["text", "n", "n", "n_2"]), path)
    report = ingest(store, "web", [path])
    assert report.remarks == ["a second column n is n_3"]
    assert store.sql("SELECT n, n_2, n_3 FROM documents").fetchall() == [(1, 3, 2)]


def test_times_out_of_range_become_null_and_do_not_break_the_store(
    store: Store, tmp_path: Path
) -> None:
    fine = pa.array([1], pa.timestamp("ns"))
    far = pa.array([datetime(9999, 12, 31)], pa.timestamp("us"))
    beyond = pa.array([2**62], pa.timestamp("ms"))
    for name, column in {"a": fine, "b": far, "c": beyond}.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"text": [name], "at": column}), path)
        report = ingest(store, "web", [path])
    assert report.remarks == ["column at: values out of range became NULL"]
    assert len(store.sql("SELECT * FROM documents").fetchall()) == 3


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        (["[9007199254740993]", f"[{2**70}]"], "HUGEINT[]", [[2**53 + 1], [2**70]]),
        ([f'{{"a": {2**64}}}', f'{{"a": {-(2**64)}}}'], "STRUCT(a HUGEINT)", None),
        (["[1.5]", f"[{2**70}]"], "VARCHAR", ["[1.5]", f"[{2**70}]"]),
        (["[1.5]", "[2]"], "DOUBLE[]", [[1.5], [2.0]]),
        (['["12345678901234567890"]'], "VARCHAR[]", [["12345678901234567890"]]),
    ],
)
def test_wide_integers_inside_of_json_keep_every_digit(
    store: Store, tmp_path: Path, values: list[str], kind: str, stored: list[Any] | None
) -> None:
    lines = [f'{{"text": "{i}", "v": {value}}}' for i, value in enumerate(values)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    ingest(store, "web", [tmp_path / "in.jsonl"])
    assert store.sql("SELECT DISTINCT typeof(v) FROM documents").fetchall() == [(kind,)]
    if stored is None:
        found = store.sql("SELECT v.a::VARCHAR FROM documents ORDER BY source_id").fetchall()
        assert found == [(str(2**64),), (str(-(2**64)),)]
    else:
        found = store.sql("SELECT v FROM documents ORDER BY source_id").fetchall()
        assert [row[0] for row in found] == stored
