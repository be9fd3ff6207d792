"""Metadata columns: names and SQL types for the user's own fields."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from ixt_data.records import as_text

# Columns of the views `documents` and `critiques`; a join contains both.
_DOCUMENTS = (
    *("doc_id", "corpus", "stage", "source", "source_id", "n_bytes", "n_chars"),
    *("shard", "row", "text"),
)
_CRITIQUES = (
    *("critic", "critic_id", "status", "score", "scores", "expected", "entropy", "critique"),
    *("n_thinking_tokens", "flags", "n_spans", "error", "attempts"),
)
RESERVED = frozenset(_DOCUMENTS + _CRITIQUES)
MAX_COLUMNS = 1000
OTHER = "user_other_fields"

_INT64 = range(-(2**63), 2**63)


class ColumnNames:
    """A mapping from fields to columns; a name that collides gets the prefix `user_` or a suffix.

    SQL ignores case. Of fields that differ only in case, the first one keeps its name and the next
    one gets the suffix `_2`. A column that the store knows keeps its spelling. Fields beyond the
    first `MAX_COLUMNS` share one column of JSON objects, `user_other_fields`.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
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
        return name

    def _free(self, field: str) -> str:
        if not field or field.lower() in (*RESERVED, OTHER):
            field = f"user_{field}"
        name, number = field, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{field}_{number}"
        self._taken.add(name.lower())
        return self._spelling.get(name.lower(), name)


def metadata_columns(records: Sequence[Mapping[str, Any]], names: ColumnNames) -> dict[str, Any]:
    """Return typed columns by name, one `pyarrow.Array` of `len(records)` values each.

    Types are bool, int64, double, string, and the timestamps and dates of Parquet inputs. Lists
    and objects become JSON, integers among doubles become doubles, other mixtures strings. A field
    that is always null has no column.

    Args:
        records: metadata by field, one mapping per document.
        names: the names of all shards of this ingest, so each field has one column.
    """
    columns, others = {}, set()
    for field in dict.fromkeys(chain.from_iterable(records)):
        if names[field] == OTHER:
            others.add(field)
            continue
        array = _typed([record.get(field) for record in records])
        if array is not None:
            columns[names[field]] = array
    if others:
        rest = [{f: v for f, v in record.items() if f in others} for record in records]
        columns[OTHER] = pa.array([as_text(r) if r else None for r in rest], pa.string())
    return columns


def _typed(values: list[Any]) -> Any:
    """Convert the values to an Arrow array; return None if all are null."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return None
    if kinds == {str}:
        return pa.array(values, pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or value in _INT64 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and float in kinds:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    if all(issubclass(kind, pa.Scalar) for kind in kinds):
        types = {value.type for value in values if value is not None}
        if len(types) == 1:
            return pa.array(values, types.pop())
    return pa.array([None if v is None else as_text(v) for v in values], pa.string())
