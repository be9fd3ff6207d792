from datetime import date, datetime

import orjson
import pyarrow as pa
import pytest

from ixt_data.ingestion import columns
from ixt_data.ingestion.columns import OTHER, RESERVED, ColumnNames, metadata_columns


def typed(*values):
    found = metadata_columns([{"f": value} for value in values], ColumnNames())
    return (found["f"].type, found["f"].to_pylist()) if found else None


STAMP = pa.scalar(datetime(2026, 1, 2), pa.timestamp("ns"))
DAY = pa.scalar(date(2026, 1, 2), pa.date32())


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, False], pa.bool_(), [True, None, False]),
        ([1, None, -(2**63)], pa.int64(), [1, None, -(2**63)]),
        ([1, 2**63], pa.string(), ["1", "9223372036854775808"]),
        ([1, 0.5, None], pa.float64(), [1.0, 0.5, None]),
        ([2**70, 0.5], pa.float64(), [2.0**70, 0.5]),
        (["a", None], pa.string(), ["a", None]),
        (["a", 1, 0.5, True, [1, "x"], {"b": None}, None], pa.string(),
         ["a", "1", "0.5", "true", '[1,"x"]', '{"b":null}', None]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([[1], None], pa.string(), ["[1]", None]),
        ([STAMP, None], pa.timestamp("ns"), [STAMP.as_py(), None]),
        ([DAY], pa.date32(), [date(2026, 1, 2)]),
        ([DAY, "x"], pa.string(), ["2026-01-02", "x"]),
        ([b"ab", None], pa.string(), ["ab", None]),
    ],
)  # fmt: skip
def test_types(values, kind, expected):
    assert typed(*values) == (kind, expected)


def test_all_null_is_dropped():
    assert typed(None, None) is None


def test_fields_that_some_records_lack():
    found = metadata_columns([{"a": 1}, {}, {"b": "x"}], ColumnNames())
    assert {name: array.to_pylist() for name, array in found.items()} == {
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


def test_too_many_fields_share_a_column(monkeypatch):
    monkeypatch.setattr(columns, "MAX_COLUMNS", 2)
    found = metadata_columns([{"a": 1, "b": 2, "c": 3, "d": None}, {"e": [1]}, {}], ColumnNames())
    assert list(found) == ["a", "b", OTHER]
    assert [value and orjson.loads(value) for value in found[OTHER].to_pylist()] == [
        {"c": 3, "d": None},
        {"e": [1]},
        None,
    ]
