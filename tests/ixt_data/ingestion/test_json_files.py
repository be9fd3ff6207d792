"""JSON that is not one object per line: arrays, one object, records inside an object."""

import json

import pytest

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.records import Document


def read(path, **options):
    records = [record for source in open_inputs([path], **options) for record in source]
    documents = [record for record in records if isinstance(record, Document)]
    return documents, [record for record in records if isinstance(record, RejectedRecord)]


def test_array_rejects_its_bad_elements_by_number(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"}, 5, {"text": ""}, {"text": "b"},\n null, {"x": [1, {"y": 2}]}]')
    documents, rejected = read(path)
    assert [(d.text, d.source_id) for d in documents] == [("a", "a.json:1"), ("b", "a.json:4")]
    assert [(r.line, r.reason) for r in rejected] == [
        (2, "not a JSON object but a number"),
        (3, "empty text"),
        (5, "not a JSON object but null"),
        (6, "no field 'text' (fields: x)"),
    ]


@pytest.mark.parametrize("data", ["[]", "[ ]", " [\n]\n"])
def test_empty_array_has_no_records(tmp_path, data):
    (tmp_path / "a.json").write_text(data)
    assert read(tmp_path / "a.json") == ([], [])


def test_truncated_array_keeps_what_is_complete(tmp_path):
    path = tmp_path / "a.json"
    whole = json.dumps([{"text": f"document {i}"} for i in range(10)])
    path.write_text(whole[: whole.index("document 7")])
    documents, (rejected,) = read(path)
    assert [d.text for d in documents] == [f"document {i}" for i in range(7)]
    assert (rejected.line, rejected.reason) == (8, "truncated JSON: the array has no end")


def test_records_inside_an_object_need_their_path(tmp_path):
    path = tmp_path / "a.json"
    records = [{"text": "a"}, {"text": "b"}]
    content = {"info": {"data": [1]}, "data": records, "more": {"rows": records[:1]}}
    path.write_text(json.dumps(content, indent=1))
    with pytest.raises(ConfigError, match="--records can be: data"):
        read(path)
    assert [d.text for d in read(path, records="data")[0]] == ["a", "b"]
    assert [d.text for d in read(path, records="more.rows")[0]] == ["a"]
    with pytest.raises(ConfigError, match=r"no array at --records rows"):
        read(path, records="rows")


def test_one_pretty_printed_object_is_one_document(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"text": "a", "parts": [{"b": 1}]}, indent=4))
    ((document,), rejected) = read(path)
    assert (document.text, document.metadata) == ("a", {"parts": [{"b": 1}]})
    assert rejected == []


def test_records_option_is_refused_for_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(ConfigError, match="no array at --records data"):
        read(path, records="data")


@pytest.mark.parametrize(
    ("text", "records", "texts", "reason"),
    [
        ('[{"text": "a"}] [{"text": "b"}]', None, ["a"], "the JSON text continues after its end"),
        ('[\n{"text": "a"}\n]\n\n{"text": "b"}', None, ["a"], "the JSON text continues"),
        ('{"d": [{"text": "a"}], "d": [{"text": "b"}]}', "d", ["a"], "a second array at d"),
        ('{"d": [{"text": "a"}]', "d", ["a"], "truncated JSON: the object has no end"),
        ('{"d": [{"text": "a"}]} x', "d", ["a"], "the JSON text continues after its end"),
    ],
)
def test_content_after_an_array_is_rejected(tmp_path, text, records, texts, reason):
    path = tmp_path / "a.json"
    path.write_text(text)
    documents, (rejected,) = read(path, records=records)
    assert [d.text for d in documents] == texts
    assert rejected.reason.startswith(reason)


def test_key_of_records_may_be_escaped(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(r'{"d\u00e9": [{"text": "a"}]}')
    assert [d.text for d in read(path, records="dé")[0]] == ["a"]
