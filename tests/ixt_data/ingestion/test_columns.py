from datetime import date, datetime

import orjson
import pyarrow as pa
import pytest

from ixt_data.ingestion import columns
from ixt_data.ingestion.column_values import ColumnTypes, TypeOptions
from ixt_data.ingestion.columns import OTHER, RESERVED, ColumnNames, field_values, metadata_columns
from ixt_data.ingestion.remarks import Remarks
from ixt_data.sql import MAX_LISTS


@pytest.fixture
def table(tmp_path):
    def build(records):
        types, names = ColumnTypes(tmp_path, TypeOptions(), Remarks()), ColumnNames()
        fields = field_values(records)
        found = metadata_columns(fields, len(records), {f: names[f] for f in fields}, types)
        return {column.name: (str(column.kind), column.array) for column in found}

    return build


STAMP = pa.scalar(datetime(2026, 1, 2), pa.timestamp("us"))
DAY = pa.scalar(date(2026, 1, 2), pa.date32())


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, False], "BOOLEAN", [True, None, False]),
        ([1, None, -(2**63)], "BIGINT", [1, None, -(2**63)]),
        ([1, 2**63], "UBIGINT", [1, 2**63]),
        ([-1, 2**63], "HUGEINT", [-1, 2**63]),
        ([10**38, 1], "VARCHAR", [str(10**38), "1"]),
        ([1, 0.5, None], "DOUBLE", [1.0, 0.5, None]),
        ([2**70, 0.5], "DOUBLE", [2.0**70, 0.5]),
        (["a", None], "VARCHAR", ["a", None]),
        (["a", 1, 0.5, True, [1, "x"], {"b": None}, None], "VARCHAR",
         ["a", "1", "0.5", "true", '[1,"x"]', '{"b":null}', None]),
        ([True, 1], "VARCHAR", ["true", "1"]),
        ([[1], None], "BIGINT[]", [[1], None]),
        ([[1], [2.5]], "DOUBLE[]", [[1.0], [2.5]]),
        ([[1], ["x"]], "VARCHAR[]", [["1"], ["x"]]),
        ([[1], 2], "VARCHAR", ["[1]", "2"]),
        ([{"a": 1}, {"b": "2026-01-02"}], 'STRUCT("a" BIGINT, "b" VARCHAR)',
         [{"a": 1, "b": None}, {"a": None, "b": "2026-01-02"}]),
        ([{"a": 1, "A": 2}], "VARCHAR", ['{"a":1,"A":2}']),
        (["2026-01-02"], "VARCHAR", ["2026-01-02"]),
        ([STAMP, None], "TIMESTAMP", [STAMP.as_py(), None]),
        ([DAY], "DATE", [date(2026, 1, 2)]),
        ([DAY, STAMP], "TIMESTAMP", [STAMP.as_py(), STAMP.as_py()]),
        ([DAY, "x"], "VARCHAR", ["2026-01-02", "x"]),
        ([pa.scalar(7, pa.uint8()), -1], "BIGINT", [7, -1]),
        ([b"ab", None], "VARCHAR", ["ab", None]),
        ([None, None], "NULL", [None, None]),
    ],
)  # fmt: skip
def test_types(table, values, kind, expected):
    (found,) = table([{"f": value} for value in values]).values()
    assert (found[0], found[1].to_pylist()) == (kind, expected)


@pytest.mark.parametrize("as_arrow", [False, True])
def test_lists_that_duckdb_cannot_read_in_time_are_json_text(table, as_arrow):
    value = 1
    for _ in range(MAX_LISTS):
        value = [value]
    convert = pa.scalar if as_arrow else list
    assert table([{"f": convert(value)}])["f"][0] == "BIGINT" + "[]" * MAX_LISTS
    kind, array = table([{"f": convert([value])}])["f"]
    assert kind == "VARCHAR"
    assert array.to_pylist() == ["[" * (MAX_LISTS + 1) + "1" + "]" * (MAX_LISTS + 1)]


def test_fields_that_some_records_lack(table):
    found = table([{"a": 1}, {}, {"b": "x"}])
    assert {name: array.to_pylist() for name, (_, array) in found.items()} == {
        "a": [1, None, None],
        "b": [None, None, "x"],
    }


def test_names_that_collide():
    names = ColumnNames()
    assert names["Score"] == "user_Score"
    assert names["score"] == "user_score_2"
    assert names["user_score"] == "user_score_3"
    assert (names["url"], names["URL"], names["Url"]) == ("url", "URL_2", "Url_3")
    assert names["URL"] == "URL_2"
    assert names["url_2"] == "url_2_2"
    assert names[""] == "user_"
    assert all(ColumnNames()[name] == f"user_{name}" for name in RESERVED)


def test_a_name_of_the_store_keeps_its_spelling():
    names = ColumnNames(["Url"])
    assert (names["url"], names["URL"]) == ("Url", "URL_2")


def test_too_many_fields_share_a_column(monkeypatch, table):
    monkeypatch.setattr(columns, "MAX_COLUMNS", 2)
    found = table([{"a": 1, "b": 2, "c": 3, "d": None}, {"e": [1]}, {}])
    assert list(found) == ["a", "b", OTHER]
    assert [value and orjson.loads(value) for value in found[OTHER][1].to_pylist()] == [
        {"c": 3, "d": None},
        {"e": [1]},
        None,
    ]
