"""Answers in files of labels: what comes back, and what is refused with its line and key."""

import json
from pathlib import Path
from typing import Any

import pytest

from ixt_data.errors import StoreError
from ixt_data.export.label_answers import LabelFile, read_labels
from ixt_data.export.label_files import LabelFormat
from ixt_data.records import Span
from ixt_data.store.label_values import Label

IXT, ARGILLA, STUDIO = LabelFormat.ixt, LabelFormat.argilla, LabelFormat.label_studio
ID = "00112233-4455-6677-8899-aabbccddeeff"


def read(folder: Path, records: list[Any], label_format: LabelFormat, by: str = "") -> LabelFile:
    path = folder / "b.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_labels(path, label_format, by or None)


def annotation(number: int, **values: Any) -> dict[str, Any]:
    results = {
        "score": ("number", {"number": values.get("score")}),
        "critique": ("textarea", {"text": [values.get("critique")]}),
        "spans": ("labels", {"start": 6, "end": 10, "text": "text", "labels": ["right"]}),
    }
    chosen = [{"from_name": k, "type": results[k][0], "value": results[k][1]} for k in values]
    return {"completed_by": number, "result": chosen}


def test_own_records_come_back(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 5, "verdict": "wrong"}, [6, 7, "right", "tag", "why"]]
    records = [
        {"doc_id": ID, "text": "x", "suggested_score": 1.0, "score": 1, "by": "ana"},
        {"doc_id": ID, "critique": "Good.", "flags": ["short"], "spans": spans},
        {"doc_id": ID, "score": None, "critique": "", "flags": []},
    ]
    file = read(tmp_path, records, IXT, "ben")
    spans = [Span(0, 5, "wrong"), Span(6, 7, "right", "tag", "why")]
    assert file.labels == [
        Label(ID, "ana", 1, "", [], []),
        Label(ID, "ben", None, "Good.", spans, ["short"]),
    ]
    assert (file.unlabeled, file.withheld) == (1, 0)


def test_users_of_argilla_are_not_mixed(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 5, "label": "wrong"}]
    responses = {
        "score": [{"value": 40, "user_id": "a"}, {"value": "70", "user_id": "b"}],
        "critique": [{"value": "Ends early.", "user_id": "b"}],
        "spans": [{"value": spans, "user_id": "a"}],
    }
    file = read(tmp_path, [{"id": ID, "responses": responses}], ARGILLA)
    assert file.labels == [
        Label(ID, "a", 0.4, spans=[Span(0, 5, "wrong")]),
        Label(ID, "b", 0.7, "Ends early."),
    ]


def test_responses_that_are_not_submitted_are_counted(tmp_path: Path) -> None:
    responses = [
        {"value": 40, "user_id": "a", "status": "draft"},
        {"value": 50, "user_id": "b", "status": "discarded"},
        {"value": 60, "user_id": "c", "status": "submitted"},
    ]
    records = [{"id": ID, "responses": {"score": responses}}, {"id": ID, "responses": {}}]
    file = read(tmp_path, records, ARGILLA)
    assert [(label.by, label.score) for label in file.labels] == [("c", 0.6)]
    assert (file.unlabeled, file.withheld) == (1, 2)


def test_annotations_of_label_studio_are_all_kept(tmp_path: Path) -> None:
    annotations = [
        {"completed_by": 1, "was_cancelled": True, "result": []},
        annotation(1, score=20, critique="Bad."),
        annotation(2, score=70, spans=1) | {"completed_by": {"id": 2, "email": "ana@lab.example"}},
    ]
    file = read(tmp_path, [{"data": {"doc_id": ID}, "annotations": annotations}], STUDIO)
    assert file.labels == [
        Label(ID, "user 1", 0.2, "Bad."),
        Label(ID, "ana@lab.example", 0.7, spans=[Span(6, 10, "right")]),
    ]
    assert (file.unlabeled, file.withheld) == (0, 1)


def argilla(question: str, *responses: Any) -> dict[str, Any]:
    return {"id": ID, "responses": {question: responses}}


def studio(*results: Any) -> dict[str, Any]:
    annotations = [{"completed_by": 1, "result": results}]
    return {"data": {"doc_id": ID}, "annotations": annotations}


def region(**value: Any) -> dict[str, Any]:
    value = {"start": 0, "end": 2, "labels": ["right"]} | value
    return {"from_name": "spans", "type": "labels", "value": value}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"score": "0.5"}, "score: '0.5' is not a number"),
        ({"score": True}, "score: True is not a number"),
        ({"score": 5}, "score: 5 is not between 0 and 1"),
        ({"scores": 0.5}, "unknown key 'scores'; valid: doc_id, "),
        ({"critique": ["x"]}, r"critique: \['x'\] is not a text"),
        ({"critique": 0}, "critique: 0 is not a text"),
        ({"critique": " "}, "a label needs a score"),
        ({"critique": "\ud800"}, "critique: .* surrogate"),
        ({"flags": [1]}, r"flags\[0\]: 1 is not a text"),
        ({"flags": "bad"}, "flags: 'bad' is not a list"),
        ({"flags": {"a": False}}, "flags: .* is not a list"),
        ({"flags": {}}, "flags: {} is not a list"),
        ({"flags": ["a", "a"]}, r"flags\[1\]: 'a' occurs twice"),
        ({"flags": ["a\nb"]}, r"flags\[0\]: .* several lines"),
        ({"spans": [[1.9, 3, "wrong"]]}, r"spans\[0\].start: 1.9 is not a whole number"),
        ({"spans": [[0, True, "wrong"]]}, r"spans\[0\].end: True is not a whole number"),
        ({"spans": [[0, 5, "WRONG"]]}, r"spans\[0\].verdict: 'WRONG'; valid: right, wrong"),
        ({"spans": [[0, 5]]}, r"spans\[0\]: \[0, 5\] is not \[start"),
        ({"spans": [[3, 3, "wrong"]]}, r"spans\[0\]: 3:3 is empty"),
        ({"spans": [{"start": 0, "stop": 5}]}, r"spans\[0\]: unknown key 'stop'"),
        ({"spans": [{"start": 0, "end": 5}]}, r"spans\[0\]: no 'verdict'"),
        ({"spans": [[0, 5, "wrong", 7]]}, r"spans\[0\].tag: 7 is not a text"),
        ({"spans": "0:5"}, "spans: '0:5' is not a list"),
        ({"by": "", "score": 1}, "by: '' is not a name"),
        ({"by": 7, "score": 1}, "by: 7 is not a name"),
        ({"by": None, "score": 1}, "by: names no person: add --by NAME"),
        ({"doc_id": ID[:8], "score": 1}, "doc_id: '00112233' is not a whole doc_id"),
        ({"doc_id": 7, "score": 1}, "doc_id: 7 is not a text"),
    ],
)
def test_value_of_another_type_names_its_line_and_key(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    records = [{"doc_id": ID, "by": "ana", "score": 0.5}, {"doc_id": ID, "by": "ana", **values}]
    with pytest.raises(StoreError, match=f"b.jsonl:2: .*{message}"):
        read(tmp_path, records, IXT)


@pytest.mark.parametrize(
    ("record", "label_format", "message"),
    [
        (argilla("score", {"value": 40}), ARGILLA, r"score\[0\]: no 'user_id': add --by"),
        (argilla("score", {"value": 40, "user_id": "None"}), ARGILLA, "no 'user_id'"),
        (argilla("score", {"value": "7_0", "user_id": "a"}), ARGILLA, "'7_0' is not a number"),
        (argilla("score", {"value": True, "user_id": "a"}), ARGILLA, "True is not a number"),
        (argilla("score", *[{"value": 1, "user_id": "a"}] * 2), ARGILLA, "second response"),
        (argilla("scores", {"value": 1, "user_id": "a"}), ARGILLA, "unknown key 'scores'"),
        (argilla("critique", {"value": 7, "user_id": "a"}), ARGILLA, "critique: 7 is not a text"),
        (argilla("score", {"user_id": "a", "status": "x"}), ARGILLA, "status: 'x'; valid"),
        (argilla("spans", {"user_id": "a", "value": [{"start": 0}]}), ARGILLA, "no 'label'"),
        (argilla("score", 7), ARGILLA, "7 is not an object"),
        (7, ARGILLA, "not a record of argilla: 7 is not an object"),
        ({"data": {"doc_id": ID}, "annotations": [{}]}, STUDIO, "no 'result'"),
        (studio(region(start="0")), STUDIO, "start: '0' is not a whole number"),
        (studio(region(labels=["right", "wrong"])), STUDIO, "is not one of right and wrong"),
        (studio(region(labels=["Bad"])), STUDIO, r"spans\[0\].verdict: 'Bad'"),
        (studio(region() | {"from_name": "spam"}), STUDIO, "unknown control 'spam'"),
        (studio(region() | {"meta": {"text": [7]}}), STUDIO, "is not a list of texts"),
        ({"data": {"doc_id": ID}, "annotations": [annotation(None, score=1)]}, STUDIO, "--by"),
    ],
)
def test_invalid_answer_names_its_line_and_key(
    tmp_path: Path, record: Any, label_format: LabelFormat, message: str
) -> None:
    with pytest.raises(StoreError, match=f"b.jsonl:1: .*{message}"):
        read(tmp_path, [record], label_format)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "b.json:1: not JSON"),
        ('\n{"score": .5}', "b.json:2: not JSON"),
        ('{"doc_id": "x", "score": 0.5, "score": 0.9}', "1: .*'score' occurs twice"),
        ('{"score": NaN}', "1: .*NaN"),
        ('[\n{"doc_id": "x"},\n {"doc_id": 7}]', "3: .*doc_id: 7"),
        ('[\n{"doc_id": "x"},\n {"doc_id": 7, "doc_id": 8}]', "occurs twice"),
        ('[\n{"doc_id": "x"}', "2: not JSON: the array is cut"),
        ('[{"doc_id": "x"},]', "1: not JSON"),
        ("[]\n7", "2: not JSON: text after the array"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 100_000, "not JSON"),
    ],
)
def test_file_that_is_not_json_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=message):
        read_labels(path, IXT, "ana")


def test_array_has_the_records_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps([{"doc_id": ID, "score": 0.5}] * 2, indent=2))
    file = read_labels(path, IXT, "ana")
    assert [label.place.rpartition(":")[2] for label in file.labels] == ["2", "6"]
    path.write_text(" [ ] ")
    assert read_labels(path, IXT) == LabelFile()
