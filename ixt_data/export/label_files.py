"""Files of labels: our own JSON Lines, records of Argilla, and tasks of Label Studio.

Documents to label go out with their texts, and the score and critique of a critic as a suggestion.
Labels come back. A file that ends in `.jsonl` has one record per line, another one a JSON array;
both are read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.records import Span
from ixt_data.storage import atomic_write
from ixt_data.store import Label, StoredDocument

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
) -> int:
    """Write documents for people to label; return their number.

    Args:
        path: file to write.
        label_format: its format.
        documents: the documents.
        critic: critic whose score and critique are suggested; None for no suggestion.
    """
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


def read_labels(path: Path, label_format: LabelFormat, by: str | None = None) -> Iterator[Label]:
    """Yield the labels of a file; records without an answer of a person are skipped.

    Args:
        path: file to read.
        label_format: its format.
        by: name of the person, where the file names none.

    Raises:
        StoreError: the file is not JSON, or a record is not valid; the message names its place.
    """
    readers = {
        LabelFormat.ixt: _ixt_label,
        LabelFormat.argilla: _argilla_label,
        LabelFormat.label_studio: _label_studio_label,
    }
    for place, record in _records(path):
        try:
            label = readers[label_format](record, by)
            if label is not None:
                label.check()
                yield label
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise StoreError(
                f"{path}:{place}: not a record of {label_format.value}: {what}"
            ) from None
        except StoreError as error:
            raise StoreError(f"{path}:{place}: {error}") from None


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the records of a JSON array or of lines, each with its number from 1."""
    data = path.read_bytes()
    try:
        if data.lstrip()[:1] == b"[":
            yield from enumerate(orjson.loads(data), 1)
            return
    except ValueError as error:
        raise StoreError(f"{path}: not JSON: {error}") from None
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                record = orjson.loads(line)
            except ValueError as error:
                raise StoreError(f"{path}:{number}: not JSON: {error}") from None
            yield number, record


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


def _ixt_label(record: Mapping[str, Any], by: str | None) -> Label | None:
    spans = tuple(_span(span) for span in record.get("spans") or ())
    score, critique = record.get("score"), record.get("critique") or ""
    flags = tuple(record.get("flags") or ())
    if score is None and not (critique or spans or flags):
        return None
    return Label(
        record["doc_id"], record.get("by") or _named(by), _number(score), critique, spans, flags
    )


def _span(span: Any) -> Span:
    if isinstance(span, Mapping):
        return Span(
            int(span["start"]),
            int(span["end"]),
            span["verdict"],
            span.get("tag") or "",
            span.get("comment") or "",
        )
    return Span(*span)


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ValueError(f"score {value!r} is not a number")


def _named(by: str | None) -> str:
    if by is None:
        raise StoreError("names no person: add --by NAME")
    return by


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


def _argilla_label(record: Mapping[str, Any], by: str | None) -> Label | None:
    responses = record.get("responses") or {}
    answers = {name: values[-1] for name, values in responses.items() if values}
    if not answers:
        return None
    user = next(iter(answers.values())).get("user_id")
    score = answers.get("score", {}).get("value")
    critique = answers.get("critique", {}).get("value") or ""
    spans = tuple(
        Span(span["start"], span["end"], span["label"])
        for span in answers.get("spans", {}).get("value") or ()
    )
    number = None if score is None else float(score) / SCALE
    return Label(record["id"], by or str(user), number, critique, spans)


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


def _label_studio_label(task: Mapping[str, Any], by: str | None) -> Label | None:
    answers = [
        answer for answer in task.get("annotations") or () if not answer.get("was_cancelled")
    ]
    if not answers:
        return None
    answer = answers[-1]
    score, critique, spans = None, "", list[Span]()
    for result in answer["result"]:
        value = result["value"]
        match result["type"]:
            case "number":
                score = float(value["number"]) / SCALE
            case "textarea":
                critique = "\n".join(value["text"])
            case "labels":
                comment = "; ".join(result.get("meta", {}).get("text", ()))
                spans.append(Span(value["start"], value["end"], value["labels"][0], "", comment))
    return Label(task["data"]["doc_id"], by or _reviewer(answer), score, critique, tuple(spans))


def _reviewer(answer: Mapping[str, Any]) -> str:
    """Return who wrote an annotation: an email address, else the number of the user."""
    user = answer.get("completed_by")
    if isinstance(user, Mapping):
        return str(user.get("email") or user["id"])
    return _named(None if user is None else f"user {user}")


def merge_labels(labels: Sequence[Label]) -> list[Label]:
    """Return the last label of each document."""
    return list({label.doc_id: label for label in labels}.values())
