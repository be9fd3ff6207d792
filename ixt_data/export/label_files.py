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
from ixt_data.export.target import check_target
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
            if not isinstance(record, Mapping):
                raise ValueError("it is not an object")
            label = readers[label_format](record, by)
            if label is not None:
                label.check()
                yield label
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = _explain(error)
            raise StoreError(
                f"{path}:{place}: not a record of {label_format.value}: {what}"
            ) from None
        except StoreError as error:
            raise StoreError(f"{path}:{place}: {error}") from None


def _explain(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error}"
    # Other errors are Python's own, about a value of another type.
    if isinstance(error, ValueError):
        return str(error)
    return f"a value has another type than the format has ({error})"


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
    spans = tuple(_span(span) for span in _listed(record, "spans", f"[{_SPAN}]"))
    flags = tuple(_texts(_listed(record, "flags", '["short"]'), "flag"))
    score = record.get("score")
    (critique,) = _texts([record.get("critique") or ""], "critique")
    if score is None and not (critique or spans or flags):
        return None
    doc_id, name = _texts([record["doc_id"], record.get("by") or _named(by)], "doc_id or by")
    return Label(doc_id, name, _number(score), critique, spans, flags)


_SPAN = '{"start": 0, "end": 5, "verdict": "wrong"}'


def _listed(record: Mapping[str, Any], name: str, example: str) -> list[Any]:
    value = record.get(name) or []
    if not isinstance(value, list):
        raise ValueError(f"{name}: {value!r} is not a list such as {example}")
    return value


def _texts(values: Sequence[Any], name: str) -> list[str]:
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"{name}: {value!r} is not a text")
    return list(values)


def _span(span: Any) -> Span:
    if isinstance(span, list) and 3 <= len(span) <= 5:
        span = dict(zip(("start", "end", "verdict", "tag", "comment"), span, strict=False))
    if not isinstance(span, Mapping) or not {"start", "end", "verdict"} <= span.keys():
        raise ValueError(f'span {span!r} is not as {_SPAN} or [0, 5, "wrong"]')
    start, end = span["start"], span["end"]
    if type(start) is not int or type(end) is not int:
        raise ValueError(f"span {span!r}: start and end are not numbers of characters")
    verdict, tag, comment = _texts(
        [span["verdict"], span.get("tag") or "", span.get("comment") or ""], "span"
    )
    return Span(start, end, verdict, tag, comment)


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ValueError(f"score {value!r} is not a number")


def _hundredths(value: Any) -> float:
    try:
        return float(value) / SCALE
    except ValueError:
        raise ValueError(f"score {value!r} is not a number from 0 to {SCALE}") from None


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
    number = None if score is None else _hundredths(score)
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
                score = _hundredths(value["number"])
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
