"""The result of a query: DuckDB's names, Python values, a table in notebooks."""

import datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from torch.utils.data import DataLoader

from ixt_data.errors import QueryError
from ixt_data.sql import QueryResult
from ixt_data.store import Store

SQL = """
SELECT i::INTEGER AS i, 'text ' || i AS s, i / 2 AS d, [i] AS l, NULL AS n,
       DATE '2020-01-02' AS day, sum(i) OVER () AS total
FROM range(3) t(i) ORDER BY i
"""


@pytest.fixture
def result(tmp_path: Path) -> QueryResult:
    return Store.init(tmp_path / "S").sql(SQL)


def test_rows_are_python_values(result: QueryResult) -> None:
    day = datetime.date(2020, 1, 2)
    rows = [(i, f"text {i}", i / 2, [i], None, day, 3) for i in range(3)]
    assert result.fetchall() == list(result) == rows
    assert all(type(row[-1]) is int for row in result)
    assert result.fetchone() == rows[0]
    assert len(result) == 3
    assert result.columns == ["i", "s", "d", "l", "n", "day", "total"]


def test_result_converts_to_arrow_pandas_and_polars(result: QueryResult) -> None:
    assert isinstance(result.arrow(), pa.Table)
    assert isinstance(result.df(), pd.DataFrame)
    assert result.df()["s"].tolist() == ["text 0", "text 1", "text 2"]
    assert isinstance(result.pl(), pl.DataFrame)
    assert result.pl()["d"].to_list() == [0.0, 0.5, 1.0]


def test_repeated_names_get_a_number(tmp_path: Path) -> None:
    result = Store.init(tmp_path / "S").sql("SELECT 1 AS n, 2 AS n, 3 AS n_1, 4 AS n")
    names = ["n", "n_2", "n_1", "n_3"]
    assert result.columns == result.arrow().column_names == names
    assert list(result.df().columns) == result.pl().columns == names
    assert result.fetchall() == [(1, 2, 3, 4)]


def test_show_prints_a_limited_table(
    result: QueryResult, capsys: pytest.CaptureFixture[str]
) -> None:
    result.show(max_rows=2)
    printed = capsys.readouterr().out
    assert "text 1" in printed
    assert "text 2" not in printed
    assert "first 2 of 3 rows" in printed


def test_notebook_table_escapes_text(tmp_path: Path) -> None:
    page = Store.init(tmp_path / "S").sql("SELECT '<script>' AS \"<b>\", NULL AS x")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<th>&lt;b&gt;</th>" in page
    assert "<td>NULL</td>" in page


def test_repr_names_rows_and_types(result: QueryResult) -> None:
    assert repr(result).startswith("QueryResult(3 rows: i int32, s string, d double")


def test_empty_result_has_columns(tmp_path: Path) -> None:
    empty = Store.init(tmp_path / "S").sql("SELECT doc_id, corpus FROM documents")
    assert (len(empty), empty.fetchone(), empty.columns) == (0, None, ["doc_id", "corpus"])


def test_store_repr_names_snapshot_corpora_and_critics(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    assert "snapshot 0; corpora: none; critics: none" in repr(store)


def test_maps_are_dicts_and_dates_without_a_python_value_are_an_error(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    assert store.sql("SELECT map {'a': 1} AS m").fetchone() == ({"a": 1},)
    assert store.sql("SELECT map {[1]: 1} AS m").fetchone() == ([([1], 1)],)
    with pytest.raises(QueryError, match="column d: Python has no value"):
        store.sql("SELECT DATE 'infinity' AS d").fetchall()


def test_result_converts_to_a_dataset_of_hugging_face(store: Store) -> None:
    sql = """
    SELECT i::INTEGER AS i, 'x' AS s, map {'k': i} AS m, [uuid_of] AS u, INTERVAL 3 DAY AS took,
           i::HUGEINT AS wide, true AS yes, uuid_of, 1.50::DECIMAL(9, 2) AS price
    FROM (SELECT i, '30313233-3435-3637-3839-616263646566'::UUID AS uuid_of FROM range(3) t(i))
    """
    dataset = store.sql(sql).to_hf()
    assert dataset.num_rows == 3
    row = dataset[2]
    assert (row["i"], row["s"], row["m"]) == (2, "x", [{"key": "k", "value": 2}])
    assert row["u"] == [row["uuid_of"]] == ["30313233-3435-3637-3839-616263646566"]
    assert (row["took"], row["wide"], row["yes"]) == ("3 days", 2, True)
    assert row["price"] == Decimal("1.50")


def test_dataset_feeds_a_data_loader(store: Store) -> None:
    dataset = store.sql("SELECT i::BIGINT AS i, i / 2 AS d FROM range(4) t(i)").to_hf()
    loader = DataLoader(dataset.with_format("torch"), batch_size=4)
    (batch,) = loader
    assert batch["i"].tolist() == [0, 1, 2, 3]
    assert batch["d"].tolist() == [0.0, 0.5, 1.0, 1.5]


def test_dataset_refuses_a_union_by_column(store: Store) -> None:
    result = store.sql("SELECT 1 AS a, union_value(k := 1) AS b")
    with pytest.raises(QueryError, match="column b: datasets has no type for"):
        result.to_hf()
