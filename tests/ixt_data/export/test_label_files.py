"""Files of labels: documents out, labels in, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_stores import Length, add_documents

from ixt_data.critique_runs import annotate
from ixt_data.errors import StoreError
from ixt_data.export.label_files import LabelFormat, read_labels, write_documents
from ixt_data.records import Span
from ixt_data.store.labels import label_documents
from ixt_data.store.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("labels") / "S")
    add_documents(store, ["first text", "second text"])
    annotate(store, "web", Length())
    return store


def records(store: Store, path: Path, label_format: LabelFormat, critic: str | None) -> list[Any]:
    documents = [store.document(name) for name in ("0", "1")]
    assert write_documents(path, label_format, documents, critic, overwrite=True) == 2
    text = path.read_text()
    return (
        [json.loads(line) for line in text.splitlines()]
        if path.suffix == ".jsonl"
        else json.loads(text)
    )


def write(path: Path, written: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in written))
    return path


@pytest.mark.parametrize("label_format", list(LabelFormat))
@pytest.mark.parametrize("name", ["out.jsonl", "out.json"])
def test_documents_without_answers_have_no_labels(
    store: Store, tmp_path: Path, label_format: LabelFormat, name: str
) -> None:
    path = tmp_path / name
    for critic in (None, "length"):
        written = records(store, path, label_format, critic)
        assert "first text" in json.dumps(written[0])
        assert list(read_labels(path, label_format)) == []


def test_own_records_come_back(store: Store, tmp_path: Path) -> None:
    first, second = records(store, tmp_path / "a.jsonl", LabelFormat.ixt, "length")
    assert first["suggested_score"] == 1.0
    first |= {"score": 0.5, "by": "ana", "spans": [{"start": 0, "end": 5, "verdict": "wrong"}]}
    second |= {"critique": "Good.", "flags": ["short"]}
    labels = list(read_labels(write(tmp_path / "b.jsonl", [first, second]), LabelFormat.ixt, "ben"))
    assert [(label.by, label.score, label.critique) for label in labels] == [
        ("ana", 0.5, ""),
        ("ben", None, "Good."),
    ]
    assert labels[0].spans == (Span(0, 5, "wrong"),)
    assert label_documents(store, labels).labels == 2


def test_answers_of_argilla_come_back(store: Store, tmp_path: Path) -> None:
    (record, _) = records(store, tmp_path / "a.jsonl", LabelFormat.argilla, "length")
    assert record["suggestions"]["score"]["value"] == 100
    user = {"user_id": "5f1c"}
    record["responses"] = {
        "score": [{"value": 40, **user}],
        "critique": [{"value": "Ends early.", **user}],
        "spans": [{"value": [{"start": 0, "end": 5, "label": "wrong"}], **user}],
    }
    (label,) = read_labels(write(tmp_path / "b.jsonl", [record]), LabelFormat.argilla)
    assert (label.by, label.score, label.critique) == ("5f1c", 0.4, "Ends early.")
    assert label.spans == (Span(0, 5, "wrong"),)


def test_annotations_of_label_studio_come_back(store: Store, tmp_path: Path) -> None:
    (task, _) = records(store, tmp_path / "a.json", LabelFormat.label_studio, "length")
    assert task["predictions"][0]["result"][0]["value"] == {"number": 100}
    place = {"to_name": "text"}
    task["annotations"] = [
        {"completed_by": 1, "was_cancelled": True, "result": []},
        {
            "completed_by": {"id": 2, "email": "ana@lab.example"},
            "result": [
                {"from_name": "score", "type": "number", "value": {"number": 70}, **place},
                {
                    "from_name": "critique",
                    "type": "textarea",
                    "value": {"text": ["Fine."]},
                    **place,
                },
                {
                    "from_name": "spans",
                    "type": "labels",
                    "value": {"start": 6, "end": 10, "text": "text", "labels": ["right"]},
                    **place,
                },
            ],
        },
    ]
    (label,) = read_labels(write(tmp_path / "b.jsonl", [task]), LabelFormat.label_studio)
    assert (label.by, label.score, label.critique) == ("ana@lab.example", 0.7, "Fine.")
    assert label.spans == (Span(6, 10, "right"),)


@pytest.mark.parametrize(
    ("line", "label_format", "message"),
    [
        ("{", LabelFormat.ixt, "b.jsonl:1: not JSON"),
        ('{"score": 0.5, "by": "a"}', LabelFormat.ixt, "1: not a record of ixt: no 'doc_id'"),
        ('{"doc_id": "x", "score": 0.5}', LabelFormat.ixt, "1: names no person: add --by NAME"),
        ('{"doc_id": "x", "score": "0.5", "by": "a"}', LabelFormat.ixt, "'0.5' is not a number"),
        ('{"doc_id": "x", "score": 5, "by": "a"}', LabelFormat.ixt, "1: score: 5"),
        ('{"doc_id": "page-3", "score": 0.5, "by": "a"}', LabelFormat.ixt, "1: doc_id: 'page-3'"),
        (
            '{"doc_id": "x", "by": "a", "spans": "0:5:wrong"}',
            LabelFormat.ixt,
            r"b.jsonl:1: .*'0:5:wrong' is not a list such as \[{\"start\": 0",
        ),
        ('{"doc_id": "x", "by": "a", "spans": ["0:5:wrong"]}', LabelFormat.ixt, 'or \\[0, 5, "wr'),
        ('{"doc_id": "x", "by": "a", "spans": [["0", 5, "wrong"]]}', LabelFormat.ixt, "characters"),
        (
            '{"doc_id": "x", "by": "a", "spans": [[0, 5, "bad"]]}',
            LabelFormat.ixt,
            "'bad' is not right",
        ),
        (
            '{"doc_id": "x", "by": "a", "flags": "short"}',
            LabelFormat.ixt,
            "flags: 'short' is not a",
        ),
        ('{"doc_id": "x", "by": "a", "critique": 5}', LabelFormat.ixt, "critique: 5 is not a text"),
        ('{"doc_id": 7, "by": "a", "score": 0.5}', LabelFormat.ixt, "7 is not a text"),
        ("7", LabelFormat.ixt, "1: not a record of ixt: it is not an object"),
        ('{"responses": {"score": [{"value": "x"}]}}', LabelFormat.argilla, "'x' is not a number"),
        ('{"responses": []}', LabelFormat.argilla, ""),
        ('{"responses": [7]}', LabelFormat.argilla, "another type than the format has"),
        ("[]", LabelFormat.argilla, ""),
        ("7", LabelFormat.argilla, "1: not a record of argilla"),
        ('{"annotations": [{}]}', LabelFormat.label_studio, "no 'result'"),
    ],
)
def test_invalid_records_name_their_place(
    tmp_path: Path, line: str, label_format: LabelFormat, message: str
) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(line + "\n")
    if not message:
        assert list(read_labels(path, label_format)) == []
        return
    with pytest.raises(StoreError, match=message):
        list(read_labels(path, label_format))


def test_file_with_labels_is_not_overwritten(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "work.jsonl", [{"score": 0.5}])
    documents = [store.document("0")]
    with pytest.raises(StoreError, match=r"already exists; .* add --overwrite"):
        write_documents(path, LabelFormat.ixt, documents)
    assert "0.5" in path.read_text()
    with pytest.raises(StoreError, match="is a folder"):
        write_documents(tmp_path, LabelFormat.ixt, documents)
    with pytest.raises(StoreError, match="is part of the store"):
        write_documents(Path(store.root) / "shards" / "x.jsonl", LabelFormat.ixt, documents)
    assert write_documents(path, LabelFormat.ixt, documents, overwrite=True) == 1
