"""JSON lines: keys that occur twice, numbers, nesting, encodings."""

import sys

import pytest

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import Fields, RejectedRecord
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.ingestion.json_lines import MAX_NESTING, JsonRecords

LONG = "y" * 1000


def record(line):
    (found,) = JsonRecords("a.jsonl", "a.jsonl", Fields()).documents([line.encode()])
    return found


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('{"text":"a","n":1,"n":2}', "n"),
        ('{"text":"a","text":"b"}', "text"),
        ('{"text":"a","text":"' + LONG + '"}', "text"),
        ('{"text":"' + LONG + '","m":{"n":1,"n":2}}', "n"),
        ('{"text":"' + LONG + '","m":[{"n" : 1,"n" : 2}]}', "n"),
        ('{"text" : "' + LONG + '", "n" : 1, "n" : 2}', "n"),
        (r'{"text":"\"n\": ' + LONG + '","n":1,"n":2}', "n"),
        (r'{"text":"a","n":1,"\u006e":2}', "n"),
        (r'{"text":"a","n\\":1,"n\\":2}', r"n\\"),
        ('{"text":"a","n":NaN,"n":1}', "n"),
        ('{"text":"a","w":18446744073709551616,"n":1,"n":2}', "n"),
        ('{"text":"a","m":{"text":"b","text":"c"}}', "text"),
    ],
)
def test_key_with_two_values_is_rejected_by_name(line, key):
    found = record(line)
    assert isinstance(found, RejectedRecord)
    assert found.reason == f"the key '{key}' occurs twice in one object"


@pytest.mark.parametrize(
    "line",
    [
        '{"text":"a","n":1,"n":1}',
        r'{"text":"\"n\": 1 and \"n\": 2","n":1}',
        '{"text":"' + LONG + r'\\","n\\":1,"m":{"text":"b"}}',
        '{ "text" : "a" , "n" : [ { "n" : 1 } , { "n" : 2 } ] }',
        '{"text":"n : 1, n : 2","n":1}',
    ],
)
def test_keys_that_only_look_repeated_are_a_document(line):
    assert not isinstance(record(line), RejectedRecord)


@pytest.fixture(params=[1000, 20_000])
def recursion_limit(request):
    """Python's limit, which belongs to the process and not to the input."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(request.param)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("recursion_limit")
@pytest.mark.parametrize("number", ["1", "18446744073709551616", "NaN"])
@pytest.mark.parametrize("depth", [MAX_NESTING, 300, 1000, 5000])
def test_nesting_that_is_too_deep_is_rejected(number, depth):
    nested = "[" * depth + number + "]" * depth
    found = record('{"text":"a","m":' + nested + "}")
    assert isinstance(found, RejectedRecord)
    assert found.reason == f"nested more than {MAX_NESTING} levels deep"


@pytest.mark.parametrize("number", ["1", "18446744073709551616", "NaN"])
def test_deepest_nesting_is_a_document(number):
    depth = MAX_NESTING - 1
    found = record('{"text":"a","m":' + "[" * depth + number + "]" * depth + "}")
    assert not isinstance(found, RejectedRecord)


def test_empty_id_is_the_place_in_the_file():
    assert record('{"text":"a","id":""}').source_id == "a.jsonl:1"


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-32", "UTF-32")])
@pytest.mark.parametrize("file", ["a.jsonl", "a.json", "a.txt"])
def test_other_encoding_is_refused_with_the_way_to_convert(tmp_path, encoding, name, file):
    path = tmp_path / file
    path.write_bytes('{"text":"a"}\n'.encode(encoding))
    with pytest.raises(ConfigError, match=f"is {name}, not UTF-8. Convert it: iconv -f {name}"):
        open_inputs([path])
