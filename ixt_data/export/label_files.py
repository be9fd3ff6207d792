"""Files of documents to label: our own records, those of Argilla, and tasks of Label Studio.

Documents have their texts, and the score and critique of a critic as a suggestion. A file that ends
in `.jsonl` has one record per line, another one a JSON array. `label_answers` reads both again.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.export.target import check_target
from ixt_data.storage import atomic_write
from ixt_data.store import StoredDocument

SCALE = 100
"""Label Studio's rating and Argilla's text answers state a score from 0 to 1 in hundredths."""


class LabelFormat(StrEnum):
    """Formats of files of labels."""

    ixt = "ixt"
    argilla = "argilla"
    label_studio = "label-studio"


def write_documents(
    path: Path,
    label_format: LabelFormat,
    documents: Iterable[StoredDocument],
    critic: str | None = None,
    *,
    overwrite: bool = False,
) -> int:
    """Write documents for people to label; return their number.

    Args:
        path: file to write.
        label_format: its format.
        documents: the documents.
        critic: critic whose score and critique are suggested; None for no suggestion.
        overwrite: replace a file that exists, with the labels in it.

    Raises:
        StoreError: the path is a folder or part of a store, or a file without `overwrite`.
    """
    if path.is_dir():
        raise StoreError(f"{path}: is a folder; name a file")
    check_target(path, overwrite)
    writers = {
        LabelFormat.ixt: _ixt_record,
        LabelFormat.argilla: _argilla_record,
        LabelFormat.label_studio: _label_studio_task,
    }
    records = [writers[label_format](document, critic) for document in documents]
    if path.suffix == ".jsonl":
        content = b"".join(orjson.dumps(record) + b"\n" for record in records)
    else:
        content = orjson.dumps(records, option=orjson.OPT_INDENT_2) + b"\n"
    atomic_write(path, lambda file: file.write_bytes(content))
    return len(records)


def _suggestion(document: StoredDocument, critic: str | None) -> tuple[float | None, str]:
    for critique in document.critiques:
        if critic in (critique.row["critic"], critique.row["critic_id"]):
            return critique.row["score"], critique.row["critique"] or ""
    return None, ""


def _metadata(document: StoredDocument) -> dict[str, Any]:
    row = document.row
    return {name: row[name] for name in ("doc_id", "corpus", "source", "source_id")}


# Our own records.


def _ixt_record(document: StoredDocument, critic: str | None) -> dict[str, Any]:
    score, critique = _suggestion(document, critic)
    suggested = {"suggested_score": score, "suggested_critique": critique} if critic else {}
    return {**_metadata(document), "text": document.text, **suggested, "score": None}


# Records of Argilla 2: `rg.Record.from_dict`, and the JSON that `records.to_json` writes. The
# dataset has a field `text`, a rating or label question `score` from 0 to 100, a text question
# `critique` and a span question `spans`.


def _argilla_record(document: StoredDocument, critic: str | None) -> dict[str, Any]:
    score, critique = _suggestion(document, critic)
    suggestions: dict[str, Any] = {}
    if score is not None:
        suggestions["score"] = {"value": round(SCALE * score), "agent": critic, "score": None}
    if critique:
        suggestions["critique"] = {"value": critique, "agent": critic, "score": None}
    return {
        "id": document.row["doc_id"],
        "fields": {"text": document.text},
        "metadata": _metadata(document),
        "suggestions": suggestions,
        "responses": {},
        "vectors": {},
        "status": "pending",
    }


# Tasks of Label Studio, with the controls `score` (Number, 0 to 100), `critique` (TextArea) and
# `spans` (Labels), all of them to the object `text`.


def _label_studio_task(document: StoredDocument, critic: str | None) -> dict[str, Any]:
    score, critique = _suggestion(document, critic)
    result: list[dict[str, Any]] = []
    if score is not None:
        result.append(_result("score", "number", {"number": round(SCALE * score)}))
    if critique:
        result.append(_result("critique", "textarea", {"text": [critique]}))
    predictions = [{"model_version": critic, "score": score, "result": result}] if result else []
    return {
        "data": {**_metadata(document), "text": document.text},
        "predictions": predictions,
    }


def _result(name: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": kind, "value": dict(value)}
