"""CSV: the dialect is stated, types keep each value as written, bad lines are named."""

from pathlib import Path

import pytest

from ixt_data.errors import ConfigError, IxtError
from ixt_data.sql.csv_files import CsvFile


def read(path: Path, data: str | bytes, delimiter: str | None = None):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    file = CsvFile(path, path.name, delimiter)
    rows = [row for batch, _ in file.batches(100) for row in batch.to_pylist()]
    return rows, list(file.rejected_lines())


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-20", ""], [1, -20, None]),
        (["007", "1"], ["007", "1"]),
        (["+5", "1"], ["+5", "1"]),
        (["18446744073709551615", "1"], [18446744073709551615, 1]),
        (["1", "NA"], ["1", "NA"]),
        (["1.5", "-2e3", "7"], [1.5, -2000.0, 7.0]),
        (["0.1234567890123456789", "1.0"], ["0.1234567890123456789", "1.0"]),
        (["true", "FALSE"], [True, False]),
        (["t", "f"], ["t", "f"]),
        (["2024-01-02", "03/04/2024"], ["2024-01-02", "03/04/2024"]),
        (['""', "x"], ["", "x"]),
        (["NULL", "nan"], ["NULL", "nan"]),
        (["inf", "1.0"], ["inf", "1.0"]),
        (["1e400", "1.0"], ["1e400", "1.0"]),
    ],
)
def test_column_type_keeps_each_value_as_written(cells, values, tmp_path):
    rows, rejected = read(tmp_path / "a.csv", "k,v\n" + "".join(f"x,{cell}\n" for cell in cells))
    assert [row["v"] for row in rows] == values
    assert rejected == []


def test_numbers_beyond_64_bits_keep_every_digit(tmp_path):
    rows, _ = read(tmp_path / "a.csv", "v,w\n123456789012345678901234567890,1\n-5,2\n")
    assert [int(row["v"]) for row in rows] == [123456789012345678901234567890, -5]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("text;n\na, b, c;1\n", {"text": "a, b, c", "n": 1}),
        ("text\tn\na, b\t1\n", {"text": "a, b", "n": 1}),
        ("text|n\na, b|1\n", {"text": "a, b", "n": 1}),
        ('"a;b;c",text\n1,2\n', {"a;b;c": 1, "text": 2}),
        ("text\nno delimiter\n", {"text": "no delimiter"}),
        ('text,n\n"two\nlines",1\n', {"text": "two\nlines", "n": 1}),
        ("text,n\r\na,1\r\n", {"text": "a", "n": 1}),
        ("\ufefftext,n\na,1\n", {"text": "a", "n": 1}),
        ("text, n ,\na,1,2\n", {"text": "a", "n": 1, "column2": 2}),
        ('"te\nxt";n\na;1\n', {"te\nxt": "a", "n": 1}),
        ("text,n\n# not a comment,1\n", {"text": "# not a comment", "n": 1}),
    ],
)
def test_first_line_decides_the_dialect(data, expected, tmp_path):
    rows, rejected = read(tmp_path / "a.csv", data)
    assert rows == [expected]
    assert rejected == []


def test_delimiter_option_wins(tmp_path):
    rows, _ = read(tmp_path / "a.csv", "a,b^n\nx^1\n", "^")
    assert rows == [{"a,b": "x", "n": 1}]
    with pytest.raises(ConfigError, match="is not one character"):
        CsvFile(tmp_path / "a.csv", "a.csv", "::")


def test_utf_16_is_read_by_its_byte_order_mark(tmp_path):
    rows, _ = read(tmp_path / "a.csv", "text,n\nhé,1\n".encode("utf-16"))
    assert rows == [{"text": "hé", "n": 1}]


def test_bad_lines_are_rejected_with_number_and_reason(tmp_path):
    data = b"text,n\na,1\nb,2,3\nc\nlat\xe9in,4\nd,5\n"
    rows, rejected = read(tmp_path / "a.csv", data)
    assert rows == [{"text": "a", "n": 1}, {"text": "d", "n": 5}]
    assert [line for line, _, _ in rejected] == [3, 4, 5]
    assert [text for _, _, text in rejected[:2]] == ["b,2,3", "c"]
    assert "Invalid unicode" in rejected[2][1]


def test_empty_file_is_refused(tmp_path):
    with pytest.raises(IxtError, match="no line with the names"):
        read(tmp_path / "a.csv", "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text,né\na,1\n".encode("latin-1"), "the first line of a.csv is not UTF-8"),
        ("text,n\na,1\n".encode("utf-16-le"), "the first line of a.csv is not UTF-8"),
        (b'{"text":"a","n":1}\n', "has no names of columns"),
        (b"text,n\r\na,1\nb,2\r\n", "its lines may end in several ways"),
        (b"x" * (2 << 20), "the first line of a.csv is longer than 1 MiB"),
    ],
)
def test_file_that_is_not_csv_is_refused_with_the_reason(data, message, tmp_path):
    with pytest.raises(IxtError, match=message):
        read(tmp_path / "a.csv", data)
