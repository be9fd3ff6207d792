"""JSON lines: keys that occur twice, numbers, nesting, encodings."""

import pytest

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import Fields, RejectedRecord
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.ingestion.json_lines import JsonRecords

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


def test_nesting_that_is_too_deep_is_rejected():
    nested = "[" * 1000 + "]" * 1000
    found = record('{"text":"a","w":18446744073709551616,"m":' + nested + "}")
    assert found.reason == "not JSON: nested too deeply"


def test_empty_id_is_the_place_in_the_file():
    assert record('{"text":"a","id":""}').source_id == "a.jsonl:1"


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-32", "UTF-32")])
@pytest.mark.parametrize("file", ["a.jsonl", "a.json", "a.txt"])
def test_other_encoding_is_refused_with_the_way_to_convert(tmp_path, encoding, name, file):
    path = tmp_path / file
    path.write_bytes('{"text":"a"}\n'.encode(encoding))
    with pytest.raises(ConfigError, match=f"is {name}, not UTF-8. Convert it: iconv -f {name}"):
        open_inputs([path])
