"""The name of an export tells its format, or --format does; they never disagree."""

import pytest

from ixt_data.errors import UsageError
from ixt_data.export import find_exporter


@pytest.mark.parametrize(
    ("to", "format", "expected"),
    [
        ("a.jsonl", None, "jsonl"),
        ("a.JSONL.zst", None, "jsonl"),
        ("a.parquet", None, "parquet"),
        ("folder.of/a.parquet", "parquet", "parquet"),
        ("a", "parquet", "parquet"),
        ("v1.2", "mds", "mds"),
        (None, "delta", "delta"),
    ],
)
def test_find_exporter_by_name_or_format(to, format, expected):
    assert find_exporter(to, format)[0] == expected


@pytest.mark.parametrize(
    ("to", "format", "message"),
    [
        ("a.csv", None, "tells no format; add --format, one of delta, hf, jsonl, mds"),
        ("a", None, "tells no format"),
        ("a.jsonl", "parquet", "a name of the format jsonl, but --format is parquet"),
        ("a.jsonl", "mds", "a name of the format jsonl, but --format is mds"),
        ("a.csv", "parquet", r"a name of the format parquet ends with \.parquet"),
        ("a", "csv", "'csv' does not exist; valid are"),
    ],
)
def test_find_exporter_refuses_a_mismatch(to, format, message):
    with pytest.raises(UsageError, match=message):
        find_exporter(to, format)
