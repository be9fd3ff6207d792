"""Types of metadata columns: one type per column of a shard, merged with the store's by rules."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa

from ixt_data.errors import ConfigError
from ixt_data.ingestion.remarks import Remarks
from ixt_data.records import as_text
from ixt_data.sql import MAX_LISTS, ColumnType, JsonTypes, arrow_type, duckdb_type, merge_types

_INT64, _UINT64, _DECIMAL = range(-(2**63), 2**63), range(2**64), range(1 - 10**38, 10**38)
_VARCHAR = ColumnType("VARCHAR")


class JsonText(str):
    """JSON of a list or an object: it uses less memory than the values, and its size is known."""

    __slots__ = ()


@dataclass(frozen=True)
class TypeOptions:
    """What decides the types of metadata columns.

    Attributes:
        types: `text` leaves dates, times and UUIDs in JSON text; `auto` gives them their types.
        casts: DuckDB type by field, for fields that get neither their own type nor the inferred.
    """

    types: Literal["text", "auto"] = "text"
    casts: Mapping[str, str] = field(default_factory=dict)


class StoreTypes:
    """The types of the store's metadata columns, widened by what an ingest adds.

    Attributes:
        widened: columns whose type in the store changes with this ingest.
    """

    def __init__(self, known: Mapping[str, ColumnType], remarks: Remarks) -> None:
        """Start with the types of the store's columns by name; `remarks` is for the summary."""
        self.widened: set[str] = set()
        self._known, self._remarks = dict(known), remarks

    def add(self, field: str, name: str, kind: ColumnType) -> None:
        """Add the type of one more shard's values of a field to its column.

        Raises:
            ConfigError: the store's column cannot hold these values.
        """
        known = self._known.get(name, kind)
        merged = merge_types(known, kind)
        if merged is None:
            raise ConfigError(
                f"field {field!r}: its values are {kind}, and the column {name} of the store is "
                f"{known}; no type holds both. Cast it (--type {field}={known}, or VARCHAR), or "
                "rename the field"
            )
        if merged != known and known.name != "NULL":
            self.widened.add(name)
            self._remarks.add(f"column {name}: was {known}, is {merged} because of {kind} values")
        self._known[name] = merged


class ColumnTypes:
    """The types of the values of one shard's metadata columns."""

    def __init__(self, folder: Path, options: TypeOptions, remarks: Remarks) -> None:
        """Keep the options.

        Args:
            folder: folder for temporary files.
            options: see `TypeOptions`.
            remarks: collects what the summary says.
        """
        self._options, self._remarks = options, remarks
        self._json = JsonTypes(folder)

    def column(self, field: str, values: Sequence[Any]) -> tuple[pa.Array, ColumnType]:
        """Return a column in its stored form, and its type.

        Args:
            field: the user's field.
            values: one value per document, None where it is NULL.

        Raises:
            ConfigError: DuckDB cannot cast a column to the type that the user names.
        """
        if (wanted := self._options.casts.get(field)) is not None:
            return self._cast(field, values, wanted)
        array, kind = self._typed(field, values)
        if kind.lists <= MAX_LISTS:
            return array, kind
        return self._text(field, values, f"more than {MAX_LISTS} lists inside of lists")

    def _cast(self, field: str, values: Sequence[Any], kind: str) -> tuple[pa.Array, ColumnType]:
        text = pa.array([None if v is None else as_text(_python(v)) for v in values], pa.string())
        array, parsed = self._json.cast(text, kind)
        if lost := array.null_count - text.null_count:
            self._remarks.add(f"field {field}: values that do not fit {kind} became NULL", lost)
        return array, parsed

    def _typed(self, field: str, values: Sequence[Any]) -> tuple[pa.Array, ColumnType]:
        kinds: set[Any] = set(map(type, values))
        if any(issubclass(kind, pa.Scalar) for kind in kinds):
            kinds = {v.type if isinstance(v, pa.Scalar) else type(v) for v in values}
        kinds.discard(type(None))
        if not kinds:
            return pa.nulls(len(values), pa.string()), ColumnType("NULL")
        if len(kinds) == 1 and isinstance(kind := next(iter(kinds)), pa.DataType):
            return _scalars(values, kind)
        if not any(isinstance(kind, pa.DataType) for kind in kinds):
            found = self._python_values(kinds, values)
        else:
            found = self._merged(kinds, values)
        return self._text(field, values) if found is None else found

    def _python_values(
        self, kinds: set[Any], values: Sequence[Any]
    ) -> tuple[pa.Array, ColumnType] | None:
        """Return a column of Python values; None if they are of several kinds."""
        if kinds == {str} and self._options.types == "text":
            return pa.array(values, pa.string()), _VARCHAR
        if kinds == {bool}:
            return pa.array(values, pa.bool_()), ColumnType("BOOLEAN")
        if kinds == {int}:
            return _integers(values)
        if kinds == {int, float} or kinds == {float}:
            floats = [None if value is None else float(value) for value in values]
            return pa.array(floats, pa.float64()), ColumnType("DOUBLE")
        if kinds in ({str}, {JsonText}):
            is_json = kinds == {JsonText}
            texts = (
                b"null" if v is None else v.encode() if is_json else orjson.dumps(v) for v in values
            )
            return self._json.infer(texts, dates=self._options.types == "auto")
        return None

    def _merged(self, kinds: set[Any], values: Sequence[Any]) -> tuple[pa.Array, ColumnType] | None:
        """Return a column of values of several Arrow types; None if no type holds all."""
        merged: ColumnType | None = ColumnType("NULL")
        parts: list[tuple[list[int], pa.Array]] = []
        python = {kind for kind in kinds if not isinstance(kind, pa.DataType)}
        for kind in (*(kinds - python), *([None] if python else [])):
            at = [i for i, value in enumerate(values) if _is_of(value, kind)]
            chosen = [values[i] for i in at]
            part = self._python_values(python, chosen) if kind is None else _scalars(chosen, kind)
            if part is None or merged is None:
                return None
            merged = merge_types(merged, part[1])
            parts.append((at, part[0]))
        if merged is None or merged == _VARCHAR:
            return None
        target = arrow_type(merged)
        order: list[int | None] = [None] * len(values)
        try:
            pool = pa.chunked_array([part.cast(target) for _, part in parts], target)
        except pa.ArrowException:
            return None
        for number, i in enumerate(i for at, _ in parts for i in at):
            order[i] = number
        return pool.take(pa.array(order, pa.int64())).combine_chunks(), merged

    def _text(
        self, field: str, values: Sequence[Any], why: str = "no common type"
    ) -> tuple[pa.Array, ColumnType]:
        counts = Counter(_kind_name(value) for value in values if value is not None)
        (most, count), *others = counts.most_common()
        if not others and most == _KIND_NAMES[JsonText]:
            self._remarks.add(f"field {field}: {most} of {why}; the column is JSON text")
        for kind, count in others:
            example = next(v for v in values if v is not None and _kind_name(v) == kind)
            shown = as_text(_python(example))[:40]
            self._remarks.add(
                f"field {field}: {kind} (such as {shown!r}) beside {most}; the column is VARCHAR",
                count,
            )
        texts = [None if v is None else as_text(_python(v)) for v in values]
        return pa.array(texts, pa.string()), _VARCHAR


def _is_of(value: Any, kind: pa.DataType | None) -> bool:
    if value is None:
        return False
    if kind is None:
        return not isinstance(value, pa.Scalar)
    return isinstance(value, pa.Scalar) and value.type == kind


def _scalars(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, ColumnType]:
    if pa.types.is_duration(kind):
        return pa.array(values, kind).cast(pa.int64()), ColumnType("INTERVAL")
    if isinstance(kind, pa.UuidType):
        storage = pa.array([v and v.value for v in values], kind.storage_type)
        return pa.ExtensionArray.from_storage(kind, storage), ColumnType("UUID")
    return pa.array(values, kind), duckdb_type(kind)


def _integers(values: Sequence[int | None]) -> tuple[pa.Array, ColumnType]:
    given = [value for value in values if value is not None]
    lowest, highest = min(given), max(given)
    if lowest in _INT64 and highest in _INT64:
        return pa.array(values, pa.int64()), ColumnType("BIGINT")
    if lowest in _UINT64 and highest in _UINT64:
        return pa.array(values, pa.uint64()), ColumnType("UBIGINT")
    if lowest in _DECIMAL and highest in _DECIMAL:
        return pa.array(values, pa.decimal128(38, 0)), ColumnType("HUGEINT")
    # No type of DuckDB has these digits as a number.
    return pa.array([v if v is None else str(v) for v in values], pa.string()), _VARCHAR


_KIND_NAMES: dict[type, str] = {
    str: "text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    JsonText: "a list or object",
    bytes: "bytes",
}


def _kind_name(value: Any) -> str:
    if isinstance(value, pa.Scalar):
        return str(duckdb_type(value.type)) if not pa.types.is_duration(value.type) else "INTERVAL"
    return _KIND_NAMES.get(type(value), type(value).__name__)


def _python(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value
