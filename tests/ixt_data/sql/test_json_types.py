from pathlib import Path
from typing import Any

import orjson
import pytest

from ixt_data.sql import JsonTypes, json_types

VALUES: list[list[Any]] = [
    [[1, 2], [3], None],
    [[1.5, 2], []],
    [["a"], ["2026-01-02"]],
    [{"a": 1, "b": [{"c": True}]}, {"a": 5, "b": []}],
    [{"a": 1, "b": [{"c": True}]}, {"a": 2, "b": [{"c": None}]}],
    [{"a": 1}, {"a": 2, "b": 3}],
    [{"a": None}, {"a": 2}],
    [{"a": {"b": {"c": "x"}}}, None],
    [{"a": 1}, {"a": 2.5}],
    [{"a": 2**60}, {"a": 2.5}],
    [{"a": 2**63}],
    [{"a": 1}, {"a": "x"}],
    [{"a": []}],
    [{}],
    [[None, 1]],
    [{"a": 1, "A": 2}],
    [{f"k{i}": i for i in range(150)}],
    [{f"k{i}": i for i in range(300)}],
    [{f"k{i}": i} for i in range(300)],
    [[[1], [2, 3]], [[]]],
    [1, [2]],
    [{'a"b': "\u0000é"}],
]


@pytest.mark.parametrize("values", VALUES)
def test_values_of_one_form_get_the_type_that_duckdb_finds(
    values: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [orjson.dumps(value) for value in values]
    found = JsonTypes(tmp_path).infer(texts, dates=False)
    monkeypatch.setattr(json_types, "_uniform_values", lambda texts: None)
    expected = JsonTypes(tmp_path).infer(texts, dates=False)
    assert (found and found[1]) == (expected and expected[1])
    assert (found and found[0].to_pylist()) == (expected and expected[0].to_pylist())
    assert (found and found[0].type) == (expected and expected[0].type)


def test_small_numbers_of_both_signs_are_a_bigint(tmp_path: Path) -> None:
    # DuckDB's reader of JSON finds HUGEINT here.
    found = JsonTypes(tmp_path).infer([b'{"a":1}', b'{"a":-5}'], dates=False)
    assert found is not None
    assert str(found[1]) == 'STRUCT("a" BIGINT)'


def test_fractions_of_many_digits_are_not_wide_integers(tmp_path: Path) -> None:
    texts = [b'{"p":%r,"q":%r}' % (i / 7, -i / 1e17) for i in range(1, 50)]
    found = JsonTypes(tmp_path).infer(texts, dates=False)
    assert found is not None
    assert str(found[1]) == 'STRUCT("p" DOUBLE, "q" DOUBLE)'
    wide = JsonTypes(tmp_path).infer([b"[18446744073709551616]", b"[0]"], dates=False)
    assert wide is not None
    assert str(wide[1]) == "HUGEINT[]"
