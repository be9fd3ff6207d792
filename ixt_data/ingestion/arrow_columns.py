"""Columns of Arrow data as records: each in the nearest type that a file of rows can have."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import Fields

_SAME = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_float32, pa.types.is_float64)
_MICROSECONDS = {"s": 10**6, "ms": 10**3, "us": 1, "ns": 1}
MAX_DIGITS = 38


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type has text."""
    return any(
        check(kind)
        for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    ) or (pa.types.is_dictionary(kind) and is_text(kind.value_type))


def _is_binary(kind: pa.DataType) -> bool:
    return any(
        check(kind)
        for check in (
            *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
            pa.types.is_fixed_size_binary,
        )
    )


def stored_type(kind: pa.DataType, *, nested: bool = False) -> pa.DataType | None:
    """Return the type that a file of rows has for an Arrow type; None if it has none."""
    if isinstance(kind, pa.UuidType):
        return None if nested else kind
    if isinstance(kind, pa.Bool8Type):
        return pa.bool_()
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type, nested=nested)
    if is_text(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return stored_type(kind.value_type, nested=nested)
    if any(check(kind) for check in _SAME):
        return kind
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.int64() if nested else pa.duration("us")
    if pa.types.is_decimal(kind):
        fits = kind.precision <= MAX_DIGITS and 0 <= kind.scale <= kind.precision
        return pa.decimal128(kind.precision, kind.scale) if fits else None
    if _is_binary(kind):
        return pa.binary()
    return _nested_type(kind)


def _nested_type(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_map(kind):
        key = stored_type(kind.key_type, nested=True)
        item = stored_type(kind.item_type, nested=True)
        return None if key is None or item is None else pa.map_(key, item)
    if pa.types.is_struct(kind):
        children = [(field.name, stored_type(field.type, nested=True)) for field in kind]
        # SQL ignores case, and Parquet has no struct without fields.
        distinct = len({name.lower() for name, _ in children}) == len(children) > 0
        return pa.struct(children) if distinct and all(c for _, c in children) else None
    if isinstance(
        kind,
        pa.ListType | pa.LargeListType | pa.FixedSizeListType | pa.ListViewType
        | pa.LargeListViewType,
    ):  # fmt: skip
        item = stored_type(kind.value_type, nested=True)
        return None if item is None else pa.list_(item)
    return None


class StoredColumns:
    """A reader of record batches of one schema; it says which types it changes.

    Args:
        schema: the schema of the batches.
        fields: the fields of text, id, source and messages, which become Python values.
    """

    def __init__(self, schema: pa.Schema, fields: Fields) -> None:
        self._fields = fields
        self._names = _distinct([field.name for field in schema], fields)
        self._readers = [
            self._reader(name, field.type) for name, field in zip(self._names, schema, strict=True)
        ]

    def records(self, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        """Yield the rows of a batch."""
        columns = (read(column) for read, column in zip(self._readers, batch.columns, strict=True))
        for values in zip(*columns, strict=True):
            yield dict(zip(self._names, values, strict=True))

    def _reader(self, name: str, kind: pa.DataType) -> Callable[[pa.Array], list[Any]]:
        if not self._fields.is_metadata(name):
            return _python_values
        if (repeated := _repeated_field(kind)) is not None:
            raise ConfigError(
                f"column {name}: a struct has two fields {repeated!r}; rename one of them"
            )
        target = stored_type(kind)
        if target is None:
            self._fields.remarks.add(f"column {name}: {kind} became text")
            return _python_values
        if pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
            if kind.unit == "ns":
                self._fields.remarks.add(f"column {name}: {kind} became microseconds")
            return lambda column: _scalars(self._in_range(name, column, target))
        if pa.types.is_string(target):
            return lambda column: _python_values(_unpacked(column))
        if target in (pa.bool_(), pa.int64(), pa.float64()):
            return lambda column: list(_unpacked(column).cast(target).to_pylist())
        if isinstance(target, pa.UuidType):
            return _scalars
        if pa.types.is_nested(target):
            return lambda column: _scalars(self._valid(name, _unpacked(column)).cast(target))
        options = pc.CastOptions(target, allow_time_truncate=True)
        return lambda column: _scalars(_unpacked(column).cast(options=options))

    def _valid(self, name: str, column: pa.Array) -> pa.Array:
        """Return a column of lists, structs or maps with NULL for values that are not UTF-8."""
        if _is_valid(column):
            return column
        rows = range(len(column))
        valid = pa.array([_is_valid(column.take(pa.array([row]))) for row in rows], pa.bool_())
        lost = len(column) - (pc.sum(valid).as_py() or 0)
        self._fields.remarks.add(f"column {name}: values that are not UTF-8 became NULL", lost)
        return column.take(pc.if_else(valid, pa.array(rows, pa.int64()), None))

    def _in_range(self, name: str, column: pa.Array, target: pa.DataType) -> pa.Array:
        """Cast times to microseconds; a value that 64 bits of microseconds do not hold is NULL."""
        factor = _MICROSECONDS[column.type.unit]
        if factor > 1 and not pa.types.is_time(column.type):
            numbers = column.cast(pa.int64())
            limit = (2**63 - 1) // factor
            fits = pc.and_(pc.less_equal(numbers, limit), pc.greater_equal(numbers, -limit))
            if lost := len(column) - column.null_count - (pc.sum(fits).as_py() or 0):
                self._fields.remarks.add(f"column {name}: values out of range became NULL", lost)
            column = pc.if_else(fits, column, pa.scalar(None, column.type))
        return column.cast(options=pc.CastOptions(target, allow_time_truncate=True))


def _repeated_field(kind: pa.DataType) -> str | None:
    """Return the name of a field that a struct has twice, at any depth."""
    names = [kind.field(i).name for i in range(kind.num_fields)]
    if pa.types.is_struct(kind) and len(set(names)) < len(names):
        return str(max(names, key=names.count))
    inner = (_repeated_field(kind.field(i).type) for i in range(kind.num_fields))
    return next((name for name in inner if name is not None), None)


def _is_valid(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def row_bytes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the bytes of the texts and binary values in each row, decoded, int64[n]."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        is_dictionary = isinstance(column, pa.DictionaryArray)
        values = column.dictionary if is_dictionary else column
        if is_text(values.type) or _is_binary(values.type):
            if pa.types.is_string_view(values.type) or pa.types.is_binary_view(values.type):
                values = values.cast(pa.large_binary())
            lengths = pc.binary_length(values)
            lengths = lengths.take(column.indices) if is_dictionary else lengths
            sizes += np.asarray(lengths.cast(pa.int64()).fill_null(0))
    return sizes


def _distinct(names: list[str], fields: Fields) -> list[str]:
    """Return the names, with a number after each repeated one."""
    distinct: list[str] = []
    for name in names:
        own, number = name, 1
        while own in distinct or (own != name and own in names):
            number += 1
            own = f"{name}_{number}"
        if own != name:
            fields.remarks.add(f"a second column {name} is {own}")
        distinct.append(own)
    return distinct


def _unpacked(column: pa.Array) -> pa.Array:
    """Return the values of a dictionary, of runs or of an extension."""
    while True:
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        elif isinstance(column, pa.RunEndEncodedArray):
            column = pc.run_end_decode(column)
        elif isinstance(column, pa.ExtensionArray) and not isinstance(column.type, pa.Bool8Type):
            column = column.storage
        else:
            return column


def _scalars(column: pa.Array) -> list[Any]:
    return [scalar if scalar.is_valid else None for scalar in column]


def _python_values(column: pa.Array) -> list[Any]:
    """Return Python values; bytes for invalid UTF-8."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        kind = column.type
        if not is_text(kind):
            return [_python_value(scalar) for scalar in column]
        binary = pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()
        return [_decoded(value) for value in column.cast(binary).to_pylist()]


def _python_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return b"\xff"


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value
