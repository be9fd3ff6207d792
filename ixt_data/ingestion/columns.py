"""Metadata columns: their names, and their values in a table of rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
from orjson import Fragment

from ixt_data.ingestion.column_values import ColumnTypes, JsonText
from ixt_data.records import as_text
from ixt_data.sql import KIND

# Columns of the views `documents` and `critiques`; a join contains both.
_DOCUMENTS = (
    *("doc_id", "corpus", "stage", "source", "source_id", "n_bytes", "n_chars"),
    *("shard", "row", "text"),
)
_CRITIQUES = (
    *("critic", "critic_id", "status", "score", "scores", "expected", "entropy", "critique"),
    *("n_thinking_tokens", "flags", "n_spans", "error", "attempts", "generation", "spans"),
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


def metadata_columns(
    records: Sequence[Mapping[str, Any]], names: ColumnNames, types: ColumnTypes
) -> list[tuple[pa.Field, pa.Array]]:
    """Return typed columns of `len(records)` values each.

    Args:
        records: metadata by field, one mapping per document.
        names: the names of all shards of this ingest, so each field has one column.
        types: the types of all shards of this ingest.

    Raises:
        ConfigError: a column of the store cannot hold the values.
    """
    columns, others = [], set()
    for field in dict.fromkeys(chain.from_iterable(records)):
        if names[field] == OTHER:
            others.add(field)
            continue
        name = names[field]
        array, kind = types.column(field, name, [record.get(field) for record in records])
        columns.append((pa.field(name, array.type, metadata={KIND: str(kind)}), array))
    if others:
        rest = [{f: _json(v) for f, v in r.items() if f in others} for r in records]
        array = pa.array([as_text(r) if r else None for r in rest], pa.string())
        columns.append((pa.field(OTHER, array.type), array))
    return columns


def _json(value: Any) -> Any:
    return Fragment(value.encode()) if type(value) is JsonText else value
