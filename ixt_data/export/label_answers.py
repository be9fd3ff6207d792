"""People's answers in files of labels: read completely, and checked record by record.

A file is a JSON array or has one record per line. Nothing in it is converted or ignored: a value of
another type, an unknown key and a key that occurs twice are errors with their line.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ixt_data.errors import StoreError
from ixt_data.export.label_files import SCALE, LabelFormat
from ixt_data.records import Span
from ixt_data.store import Label

ANSWERS = ("score", "critique", "spans")
"""Questions of Argilla and controls of Label Studio."""
_IXT_KEYS = (
    *("doc_id", "corpus", "source", "source_id", "text", "suggested_score", "suggested_critique"),
    *("score", "critique", "spans", "flags", "by"),
)
_SPAN_KEYS = ("start", "end", "verdict", "tag", "comment")
_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_SPACE = re.compile(r"\s*")


@dataclass
class LabelFile:
    """What a file of labels contains.

    Attributes:
        labels: every answer of a person, in the order of the file.
        unlabeled: records without an answer.
        withheld: answers that their person has not submitted: drafts, and discarded ones.
    """

    labels: list[Label] = field(default_factory=list)
    unlabeled: int = 0
    withheld: int = 0


@dataclass
class _Answers:
    """The answers of one record, each as the arguments of a `Label`."""

    labels: list[dict[str, Any]] = field(default_factory=list)
    withheld: int = 0


def read_labels(path: Path, label_format: LabelFormat, by: str | None = None) -> LabelFile:
    """Return the labels of a file.

    Args:
        path: file to read.
        label_format: its format.
        by: name of the person: in our own format where the file names none, else for all labels.

    Raises:
        StoreError: the file is not JSON, or a record is not valid; the message names line and key.
    """
    readers = {
        LabelFormat.ixt: _ixt_answers,
        LabelFormat.argilla: _argilla_answers,
        LabelFormat.label_studio: _label_studio_answers,
    }
    file = LabelFile()
    for line, record in _records(path):
        try:
            if not isinstance(record, dict):
                raise ValueError(f"{_shown(record)} is not an object")
            answers = readers[label_format](record, by)
        except ValueError as error:
            raise StoreError(
                f"{path}:{line}: not a record of {label_format.value}: {error}"
            ) from None
        labels = [Label(**values, place=f"{path}:{line}") for values in answers.labels]
        for label in labels:
            label.check()
        file.labels += labels
        file.withheld += answers.withheld
        file.unlabeled += not labels and not answers.withheld
    return file


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the records of a JSON array or of lines, each with its line.

    Raises:
        StoreError: the file is not JSON, or an object has a key twice.
    """
    line = 1
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if text.lstrip()[:1] == "[":
            yield from _items(text)
            return
        for line, content in enumerate(text.split("\n"), 1):
            if content.strip():
                yield line, _DECODER.decode(content)
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        raise StoreError(f"{path}:{line}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}:{line}: not JSON: {error}") from None


def _items(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the items of a JSON array, each with its line."""
    position, line = _skip(text, text.index("[") + 1), 1
    counted, mark = 0, text[position : position + 1]
    while mark != "]":
        line, counted = line + text.count("\n", counted, position), position
        record, position = _DECODER.raw_decode(text, position)
        yield line, record
        position = _skip(text, position)
        mark = text[position : position + 1]
        if mark not in (",", "]") or not mark:
            raise json.JSONDecodeError("the array is cut, or lacks a comma", text, position)
        if mark == ",":
            position = _skip(text, position + 1)
    end = _skip(text, position + 1)
    if end < len(text):
        raise json.JSONDecodeError("text after the array", text, end)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None
    return match.end()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return values


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def _get(record: Mapping[str, Any], name: str, kind: type, place: str = "") -> Any:
    """Return a value of a record, after a check of its type."""
    if name not in record:
        raise ValueError(f"{place}no {name!r}")
    if not isinstance(record[name], kind):
        raise ValueError(f"{place}{name}: {_shown(record[name])} is not {_KINDS[kind]}")
    return record[name]


def _check_keys(names: Iterable[str], known: Iterable[str], place: str = "") -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{place}unknown key {name!r}; valid: {', '.join(known)}")


def _ixt_answers(record: dict[str, Any], by: str | None) -> _Answers:
    _check_keys(record, _IXT_KEYS)
    _get(record, "doc_id", str)
    given = {name: value for name, value in record.items() if value is not None}
    spans = given.get("spans", [])
    if isinstance(spans, list):
        spans = [_span(span, f"spans[{number}]") for number, span in enumerate(spans)]
    values = {
        "score": given.get("score"),
        "critique": given.get("critique", ""),
        "spans": spans,
        "flags": given.get("flags", []),
    }
    if values == {"score": None, "critique": "", "spans": [], "flags": []}:
        return _Answers()
    if "by" not in given and by is None:
        raise ValueError("by: names no person: add --by NAME")
    return _Answers([{"doc_id": record["doc_id"], "by": given.get("by", by), **values}])


def _span(span: Any, place: str) -> Span:
    """Return a span from a list or an object; `Label.check` checks its values."""
    if isinstance(span, list) and 3 <= len(span) <= len(_SPAN_KEYS):
        return Span(*span)
    if not isinstance(span, dict):
        form = "[start, end, verdict, tag, comment], nor such an object"
        raise ValueError(f"{place}: {_shown(span)} is not {form}")
    _check_keys(span, _SPAN_KEYS, f"{place}: ")
    for name in _SPAN_KEYS[:3]:
        if name not in span:
            raise ValueError(f"{place}: no {name!r}")
    return Span(**{name: value for name, value in span.items() if value is not None})


def _hundredths(value: Any, key: str) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SCALE:
        raise ValueError(f"{key}: {_shown(value)} is not a number from 0 to {SCALE}")
    return value / SCALE


# Argilla: every question has a list of responses, each with its user.


def _argilla_answers(record: dict[str, Any], by: str | None) -> _Answers:
    doc_id = _get(record, "id", str)
    responses = _get(record, "responses", dict) if record.get("responses") is not None else {}
    _check_keys(responses, ANSWERS, "responses: ")
    by_user: dict[str | None, dict[str, Any]] = {}
    withheld: set[str | None] = set()
    for question in responses:
        for number, response in enumerate(_get(responses, question, list, "responses.")):
            place = f"responses.{question}[{number}]"
            user, is_submitted = _response(response, place, by)
            if not is_submitted:
                withheld.add(user)
            elif response.get("value") is not None:
                values = by_user.setdefault(user, {})
                if question in values:
                    raise ValueError(f"{place}: a second response of user {user}")
                values[question] = _argilla_value(question, response["value"], place)
    labels = [{"doc_id": doc_id, "by": by or user, **by_user[user]} for user in by_user]
    return _Answers(labels, len(withheld - by_user.keys()))


def _response(response: Any, place: str, by: str | None) -> tuple[str | None, bool]:
    """Return the user of a response, and whether the user has submitted it."""
    if not isinstance(response, dict):
        raise ValueError(f"{place}: {_shown(response)} is not an object")
    user = response.get("user_id")
    # The export of Argilla writes a missing user as a text.
    if user in (None, "None", ""):
        if by is None:
            raise ValueError(f"{place}: no 'user_id': add --by NAME")
        user = None
    elif isinstance(user, bool) or not isinstance(user, str | int):
        raise ValueError(f"{place}: user_id: {_shown(user)} is not a text")
    status = response.get("status") or "submitted"
    if status not in ("submitted", "draft", "discarded"):
        raise ValueError(f"{place}: status: {_shown(status)}; valid: submitted, draft, discarded")
    return None if user is None else str(user), status == "submitted"


def _argilla_value(question: str, value: Any, place: str) -> Any:
    if question == "score":
        return _hundredths(value, place)
    if question == "critique":
        return value
    if not isinstance(value, list):
        raise ValueError(f"{place}: {_shown(value)} is not a list")
    spans = []
    for number, span in enumerate(value):
        where = f"{place}.value[{number}]: "
        if not isinstance(span, dict):
            raise ValueError(f"{where}{_shown(span)} is not an object")
        verdict = _get(span, "label", str, where)
        spans.append(Span(_get(span, "start", int, where), _get(span, "end", int, where), verdict))
    return spans


# Label Studio: every annotation is of one person, with a result per control and region.


def _label_studio_answers(task: dict[str, Any], by: str | None) -> _Answers:
    doc_id = _get(_get(task, "data", dict), "doc_id", str, "data: ")
    answers = _Answers()
    annotations = _get(task, "annotations", list) if task.get("annotations") is not None else []
    for number, annotation in enumerate(annotations):
        place = f"annotations[{number}]: "
        if not isinstance(annotation, dict):
            raise ValueError(f"{place}{_shown(annotation)} is not an object")
        if annotation.get("was_cancelled"):
            answers.withheld += 1
        elif values := _annotation(_get(annotation, "result", list, place), place):
            who = by or _person(annotation.get("completed_by"), place)
            answers.labels.append({"doc_id": doc_id, "by": who, **values})
    return answers


def _annotation(results: list[Any], place: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for number, result in enumerate(results):
        where = f"{place}result[{number}]: "
        if not isinstance(result, dict):
            raise ValueError(f"{where}{_shown(result)} is not an object")
        name, kind = _get(result, "from_name", str, where), _get(result, "type", str, where)
        value = _get(result, "value", dict, where)
        if name in values and name != "spans":
            raise ValueError(f"{where}a second {name!r}")
        match name, kind:
            case "score", "number":
                values["score"] = _hundredths(value.get("number"), f"{where}number")
            case "critique", "textarea":
                texts = _get(value, "text", list, where)
                if not all(isinstance(text, str) for text in texts):
                    raise ValueError(f"{where}text: {_shown(texts)} is not a list of texts")
                values["critique"] = "\n".join(texts)
            case "spans", "labels":
                values.setdefault("spans", []).append(_region(value, result, where))
            case _:
                known = "score (number), critique (textarea), spans (labels)"
                raise ValueError(f"{where}unknown control {name!r} ({kind}); valid: {known}")
    return values


def _region(value: dict[str, Any], result: dict[str, Any], where: str) -> Span:
    labels = _get(value, "labels", list, where)
    if len(labels) != 1:
        raise ValueError(f"{where}labels: {_shown(labels)} is not one of right and wrong")
    meta = _get(result, "meta", dict, where) if result.get("meta") is not None else {}
    notes = _get(meta, "text", list, f"{where}meta: ") if "text" in meta else []
    if not all(isinstance(note, str) for note in notes):
        raise ValueError(f"{where}meta: text: {_shown(notes)} is not a list of texts")
    start, end = _get(value, "start", int, where), _get(value, "end", int, where)
    return Span(start, end, labels[0], "", "; ".join(notes))


def _person(user: Any, place: str) -> str:
    """Return who wrote an annotation: an email address, else the number of the user."""
    if isinstance(user, dict):
        user = user.get("email") or user.get("id")
        return user if isinstance(user, str) else _person(user, place)
    if isinstance(user, bool) or not isinstance(user, int):
        raise ValueError(f"{place}completed_by: {_shown(user)} is not a user: add --by NAME")
    return f"user {user}"
