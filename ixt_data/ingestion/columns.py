"""Metadata columns: their names, and their values in a table of rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import orjson
import pyarrow as pa
from orjson import Fragment

from ixt_data.ingestion.column_values import ColumnTypes, JsonText
from ixt_data.records import as_text
from ixt_data.sql import ColumnType

T = TypeVar("T")

# Columns of the views `documents` and `critiques`; a join contains both.
_DOCUMENTS = (
    *("doc_id", "corpus", "stage", "source", "source_id", "n_bytes", "n_chars"),
    *("shard", "row", "text"),
)
_CRITIQUES = (
    *("critic", "critic_id", "status", "score", "scores", "expected", "entropy", "critique"),
    *("n_thinking_tokens", "flags", "n_spans", "error", "attempts", "generation", "spans"),
    *("reviewer", "labeled", "label_spans"),
)
RESERVED = frozenset(_DOCUMENTS + _CRITIQUES)
MAX_COLUMNS = 1000
OTHER = "user_other_fields"

# Helper columns of our own queries start so, and no column of a user does.
INNER = "_ixt_"


class ColumnNames:
    """A mapping from fields to columns; a name that collides gets the prefix `user_` or a suffix.

    SQL ignores case. Of fields that differ only in case, the first one keeps its name and the next
    one gets the suffix `_2`. Control characters become `_`. A column that the store knows keeps its
    spelling. Fields beyond the first `MAX_COLUMNS` share one column of JSON objects,
    `user_other_fields`.

    Attributes:
        renamed: column by field, where they differ.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.renamed: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._spelling = {name.lower(): name for name in known}
        self._taken = {*RESERVED, OTHER}

    def __getitem__(self, field: str) -> str:
        """Return the column of a field, always the same."""
        name = self._names.get(field)
        if name is None:
            if len(self._names) >= MAX_COLUMNS:
                return OTHER
            name = self._names[field] = self._free(field)
            if name != field:
                self.renamed[field] = name
        return name

    def _free(self, field: str) -> str:
        # Delta and Arrow's C interface end a name at NUL; lone surrogates are not Unicode.
        field = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "_", field)
        if not field or field.lower() in (*RESERVED, OTHER) or field.lower().startswith(INNER):
            field = f"user_{field}"
        name, number = field, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{field}_{number}"
        self._taken.add(name.lower())
        return self._spelling.get(name.lower(), name)


class MetadataColumn(NamedTuple):
    """One column: the user's field (None: several), its name, its stored form, and its type."""

    field: str | None
    name: str
    array: pa.Array
    kind: ColumnType


@dataclass(frozen=True, slots=True)
class FieldValues:
    """The values of one field in some documents.

    Attributes:
        rows: the documents that have the field, ascending; None: all.
        values: one value per document that has it. Lists and objects are `JsonText`.
    """

    rows: Sequence[int] | None
    values: list[Any]

    def filled(self, n: int) -> list[Any]:
        """Return one value for each of n documents, None where it has none."""
        if self.rows is None:
            return self.values
        filled: list[Any] = [None] * n
        for row, value in zip(self.rows, self.values, strict=True):
            filled[row] = value
        return filled


def field_values(records: Sequence[Mapping[str, Any]]) -> dict[str, FieldValues]:
    """Return the values of all fields, in the order in which the records have them first."""
    if not records:
        return {}
    names = records[0].keys()
    if all(record.keys() == names for record in records):
        return {
            name: FieldValues(None, _flat([record[name] for record in records])) for name in names
        }
    rows: dict[str, list[int]] = {}
    values: dict[str, list[Any]] = {}
    for row, record in enumerate(records):
        for name, value in record.items():
            rows.setdefault(name, []).append(row)
            values.setdefault(name, []).append(value)
    return {
        name: FieldValues(None if len(at) == len(records) else at, _flat(values[name]))
        for name, at in rows.items()
    }


def _flat(values: list[Any]) -> list[Any]:
    """Replace lists and objects by text: it uses less memory, and its size is known."""
    if {list, dict}.isdisjoint(map(type, values)):
        return values
    return [JsonText(_as_json(v)) if type(v) is list or type(v) is dict else v for v in values]


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # Keys that are not text, or values that JSON has not.
        return as_text(value)


def selected(values: Sequence[T], chosen: Sequence[int]) -> Sequence[T]:
    """Return the values at some indices."""
    if isinstance(chosen, range):
        return values[chosen.start : chosen.stop]
    return [values[i] for i in chosen]


def merged_values(
    parts: Sequence[tuple[Mapping[str, FieldValues], Sequence[int]]],
) -> dict[str, FieldValues]:
    """Return the values of some documents of several parts.

    Args:
        parts: values by field, and the chosen documents in ascending order.
    """
    total = sum(len(chosen) for _, chosen in parts)
    rows: dict[str, list[int]] = {}
    values: dict[str, list[Any]] = {}
    start = 0
    for fields, chosen in parts:
        end = start + len(chosen)
        position: dict[int, int] = {}
        for name, found in fields.items():
            if found.rows is None:
                own: Sequence[int] = range(start, end)
                kept = selected(found.values, chosen)
            else:
                position = position or {row: start + i for i, row in enumerate(chosen)}
                pairs = zip(found.rows, found.values, strict=True)
                some = [(position[row], value) for row, value in pairs if row in position]
                own, kept = [at for at, _ in some], [value for _, value in some]
            if kept:
                rows.setdefault(name, []).extend(own)
                values.setdefault(name, []).extend(kept)
        start = end
    return {
        name: FieldValues(None if len(at) == total else at, values[name])
        for name, at in rows.items()
    }


def metadata_columns(
    fields: Mapping[str, FieldValues], n: int, names: Mapping[str, str], types: ColumnTypes
) -> list[MetadataColumn]:
    """Return typed columns of n values each.

    Args:
        fields: the values by field.
        n: number of documents.
        names: the columns of the fields.
        types: infers the types.
    """
    columns, others = [], {}
    for field, values in fields.items():
        name = names[field]
        if name == OTHER:
            others[field] = values
            continue
        array, kind = types.column(field, values.filled(n))
        columns.append(MetadataColumn(field, name, array, kind))
    if others:
        columns.append(MetadataColumn(None, OTHER, _as_objects(others, n), ColumnType("VARCHAR")))
    return columns


def _as_objects(fields: Mapping[str, FieldValues], n: int) -> pa.Array:
    """Return one JSON object per document with these fields; None without any."""
    objects: list[dict[str, Any]] = [{} for _ in range(n)]
    for field, found in fields.items():
        at = range(n) if found.rows is None else found.rows
        for row, value in zip(at, found.values, strict=True):
            objects[row][field] = Fragment(value.encode()) if type(value) is JsonText else value
    return pa.array([as_text(o) if o else None for o in objects], pa.string())
