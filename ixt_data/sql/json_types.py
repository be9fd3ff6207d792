"""DuckDB's own type inference for columns of JSON, and casts of columns."""

import os
import re
import threading
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from ixt_data.errors import ConfigError
from ixt_data.sql.arrow_types import arrow_type, duckdb_type
from ixt_data.sql.column_types import NULL, ColumnType, parse_type
from ixt_data.sql.connections import Connection, DuckDBError, connect
from ixt_data.sql.joins import sql_literal
from ixt_data.sql.parquet_scan import escape_glob

if TYPE_CHECKING:
    import pyarrow as pa

_IN_TEXT = ("DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "UUID")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
# Not the digits of a fraction: most results of a division have 16 or 17.
_WIDE_INTEGER = re.compile(rb"(?<![0-9.])[0-9]{17,}(?![0-9.eE])")
_FRACTION = re.compile(rb"[0-9][.eE]")
_WIDE = ColumnType("HUGEINT")
_VALUES = "read_json({}, format = 'newline_delimited', maximum_object_size = 1073741824{})"


class JsonTypes:
    """Types of JSON values. One connection serves all columns of an ingest.

    Args:
        folder: folder for a temporary file.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"values-{os.getpid()}-{threading.get_ident()}.jsonl"

    @cached_property
    def _connection(self) -> Connection:
        return connect(plain=True)

    def infer(
        self, values: Iterable[bytes], *, dates: bool
    ) -> "tuple[pa.Array, ColumnType] | None":
        """Return values in the type that DuckDB's reader of JSON finds for all of them.

        A value of several types is JSON in a VARCHAR.

        Args:
            values: JSON texts.
            dates: whether text that is a date, time or UUID in all values gets that type.

        Returns:
            The column in its stored form and its type; None where DuckDB has no type.
        """
        texts = list(values)
        is_wide = any(map(_has_wide_integer, texts))
        if not dates and not is_wide and (uniform := _uniform_values(texts)) is not None:
            return uniform
        with self._path.open("wb") as file:
            file.writelines(b'{"v":%s}\n' % text for text in texts)
        source = sql_literal(escape_glob(str(self._path)))
        try:
            found = self._connection.sql(
                f"SELECT v FROM {_VALUES.format(source, ', sample_size = -1')}"
            )
            text = str(found.types[0]).replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
            kind = parse_type(text).with_leaves(lambda leaf: _leaf(leaf, dates))
            if is_wide:
                # DuckDB infers DOUBLE for these inside of a list or an object.
                if any(_FRACTION.search(_STRING.sub(b"", value)) for value in texts):
                    return None
                kind = kind.with_leaves(lambda leaf: _WIDE if leaf.name == "DOUBLE" else leaf)
            options = f", columns = {{'v': {sql_literal(str(kind))}}}"
            rows = self._connection.sql(f"SELECT v FROM {_VALUES.format(source, options)}")
            column = rows.to_arrow_table().column(0).combine_chunks()
            return column.cast(arrow_type(kind)), kind
        except (DuckDBError, ValueError):
            # For example an object with the keys `a` and `A`.
            return None

    def cast(self, column: "pa.Array", kind: str) -> "tuple[pa.Array, ColumnType]":
        """Return a column cast to a DuckDB type; NULL where a value does not fit.

        Raises:
            ConfigError: the type does not exist, or DuckDB has no such cast.
        """
        import pyarrow as pa

        self._connection.register("column_values", pa.table({"v": column}))
        try:
            rows = self._connection.sql(f"SELECT TRY_CAST(v AS {kind}) AS v FROM column_values")
            text = str(rows.types[0]).replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
            parsed = parse_type(text)
            values = rows.to_arrow_table().column(0).combine_chunks().cast(arrow_type(parsed))
        except (DuckDBError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"--type {kind!r}: {reason}") from None
        finally:
            self._connection.unregister("column_values")
        return values, parsed


def _uniform_values(texts: list[bytes]) -> "tuple[pa.Array, ColumnType] | None":
    """Return values that are all of one form with their type; None for other values.

    The type is what DuckDB finds, in less time: its reader parses the values twice. No rule of
    inference matters here, because all objects have the same keys, each with a value.
    """
    import pyarrow as pa

    try:
        array = pa.array(orjson.loads(b"[" + b",".join(texts) + b"]"))
    except (pa.ArrowException, OverflowError, orjson.JSONDecodeError):
        return None
    return (array, duckdb_type(array.type)) if _is_uniform(array) else None


def _is_uniform(array: "pa.Array") -> bool:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_list(kind):
        return _is_uniform(array.flatten())
    if pa.types.is_struct(kind):
        names = {field.name.lower() for field in kind}
        return 0 < len(names) == kind.num_fields <= _MAX_KEYS and all(
            array.field(i).null_count == array.null_count and _is_uniform(array.field(i))
            for i in range(kind.num_fields)
        )
    return kind in (pa.bool_(), pa.int64(), pa.float64(), pa.string())


_MAX_KEYS = 100
"""An object of many keys may be a MAP for DuckDB."""


def _has_wide_integer(value: bytes) -> bool:
    """Return whether a JSON text has an integer that a DOUBLE may not hold, outside of strings."""
    search = _WIDE_INTEGER.search
    return bool(search(value)) and bool(search(_STRING.sub(b"", value)))


def _leaf(leaf: ColumnType, dates: bool) -> ColumnType:
    is_text = leaf.name in ("JSON", NULL) or (leaf.name in _IN_TEXT and not dates)
    # Arrow has a UUID inside of a list or struct only as text.
    return ColumnType("VARCHAR") if is_text or leaf.name == "UUID" else leaf
