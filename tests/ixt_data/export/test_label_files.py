"""Files of labels: documents out, without labels."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_stores import Length, add_documents

from ixt_data.critique_runs import annotate
from ixt_data.errors import StoreError
from ixt_data.export.label_answers import LabelFile, read_labels
from ixt_data.export.label_files import LabelFormat, write_documents
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


@pytest.mark.parametrize("label_format", list(LabelFormat))
@pytest.mark.parametrize("name", ["out.jsonl", "out.json"])
def test_documents_without_answers_have_no_labels(
    store: Store, tmp_path: Path, label_format: LabelFormat, name: str
) -> None:
    path = tmp_path / name
    for critic in (None, "length"):
        written = records(store, path, label_format, critic)
        assert "first text" in json.dumps(written[0])
        assert read_labels(path, label_format) == LabelFile(unlabeled=2)


def test_file_with_labels_is_not_overwritten(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "work.jsonl"
    path.write_text('{"score": 0.5}\n')
    documents = [store.document("0")]
    with pytest.raises(StoreError, match=r"already exists; .* add --overwrite"):
        write_documents(path, LabelFormat.ixt, documents)
    assert "0.5" in path.read_text()
    with pytest.raises(StoreError, match="is a folder"):
        write_documents(tmp_path, LabelFormat.ixt, documents)
    with pytest.raises(StoreError, match="is part of the store"):
        write_documents(Path(store.root) / "shards" / "x.jsonl", LabelFormat.ixt, documents)
    assert write_documents(path, LabelFormat.ixt, documents, overwrite=True) == 1
