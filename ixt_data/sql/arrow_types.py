"""Arrow types of columns and their DuckDB types, and Arrow data from DuckDB."""

from typing import TYPE_CHECKING, TypeVar

from ixt_data.sql.column_types import NULL, ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

ArrowData = TypeVar("ArrowData", "pa.Table", "pa.RecordBatch")

KIND = b"ixt.type"
"""Key of a field's metadata: its DuckDB type, where the Arrow type does not say it."""

_NAMES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "large_string": "VARCHAR",
    "binary": "BLOB",
    "date32[day]": "DATE",
    "time64[us]": "TIME",
    "null": NULL,
}


def field_type(field: "pa.Field") -> str:
    """Return the DuckDB name of the type of a column of rows.

    Raises:
        TypeError: a file of rows cannot have a column of this type.
    """
    kind = (field.metadata or {}).get(KIND)
    return str(duckdb_type(field.type)) if kind is None else kind.decode()


def duckdb_type(kind: "pa.DataType") -> ColumnType:
    """Return the DuckDB type of an Arrow type.

    Raises:
        TypeError: a file of rows cannot have a column of this type.
    """
    import pyarrow as pa

    if isinstance(kind, pa.UuidType):
        return ColumnType("UUID")
    if pa.types.is_list(kind):
        return ColumnType("LIST", (duckdb_type(kind.value_type),))
    if pa.types.is_map(kind):
        return ColumnType("MAP", (duckdb_type(kind.key_type), duckdb_type(kind.item_type)))
    if pa.types.is_struct(kind):
        types = tuple(duckdb_type(field.type) for field in kind)
        return ColumnType("STRUCT", types, tuple(field.name for field in kind))
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        return ColumnType("TIMESTAMPTZ" if kind.tz else "TIMESTAMP")
    if pa.types.is_decimal128(kind):
        return ColumnType("DECIMAL", digits=(kind.precision, kind.scale))
    if str(kind) not in _NAMES:
        raise TypeError(f"a column of rows cannot have the Arrow type {kind}")
    return ColumnType(_NAMES[str(kind)])


def arrow_type(kind: ColumnType) -> "pa.DataType":
    """Return the Arrow type of the stored form of a DuckDB type."""
    import pyarrow as pa

    match kind.name:
        case "LIST":
            return pa.list_(arrow_type(kind.children[0]))
        case "MAP":
            return pa.map_(*map(arrow_type, kind.children))
        case "STRUCT":
            return pa.struct(list(zip(kind.fields, map(arrow_type, kind.children), strict=True)))
        case "DECIMAL":
            return pa.decimal128(*kind.digits)
        case "HUGEINT":
            return pa.decimal128(38, 0)
        case "INTERVAL":
            return pa.int64()
        case "TIMESTAMP" | "TIMESTAMPTZ":
            return pa.timestamp("us", "UTC" if kind.name == "TIMESTAMPTZ" else None)
        case "TIME":
            return pa.time64("us")
        case "DATE":
            return pa.date32()
        case "UUID":
            return pa.uuid()
        case "NULL":
            return pa.string()
    names = {name: arrow for arrow, name in _NAMES.items() if arrow != "large_string"}
    return pa.type_for_alias(names[kind.name])


def as_plain(rows: "ArrowData") -> "ArrowData":
    """Convert columns of DuckDB's own Arrow extensions: hugeint to decimal128, bool8 to bool.

    Hugeints are sums, for example. Many readers know neither.
    """
    import pyarrow as pa

    for i, field in enumerate(rows.schema):
        kind = field.type
        if isinstance(kind, pa.Bool8Type):
            column = rows.column(i).cast(pa.bool_())
        elif isinstance(kind, pa.OpaqueType) and kind.type_name == "hugeint":
            column = _decimals(rows.column(i))
        elif pa.types.is_nested(kind) and "type_name=hugeint" in str(kind):
            column = _plain_column(rows.column(i))
        else:
            continue
        rows = rows.set_column(i, pa.field(field.name, column.type), column)
    return rows


def _decimals(column: "pa.Array | pa.ChunkedArray") -> "pa.Array | pa.ChunkedArray":
    import pyarrow as pa

    wide = pa.decimal128(38, 0)
    # Both are a little-endian integer of 128 bits.
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([chunk.storage.view(wide) for chunk in column.chunks], wide)
    return column.storage.view(wide)


def _plain_column(column: "pa.Array | pa.ChunkedArray") -> "pa.Array | pa.ChunkedArray":
    """Convert a list, struct or map of hugeints by DuckDB itself."""
    import pyarrow as pa

    from ixt_data.sql.connections import connect

    with connect(plain=True) as connection:
        connection.register("one_column", pa.table({"v": column}))
        plain = connection.sql("SELECT v FROM one_column").to_arrow_table().column(0)
    return plain if isinstance(column, pa.ChunkedArray) else plain.combine_chunks()


def without_maps(schema: "pa.Schema") -> "pa.Schema":
    """Return a schema with each map as a list of `key` and `value`: many readers have no maps."""
    import pyarrow as pa

    return pa.schema([field.with_type(_without_maps(field.type)) for field in schema])


def _without_maps(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    if pa.types.is_map(kind):
        key, value = _without_maps(kind.key_type), _without_maps(kind.item_type)
        return pa.list_(pa.struct([("key", key), ("value", value)]))
    if pa.types.is_list(kind):
        return pa.list_(_without_maps(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([child.with_type(_without_maps(child.type)) for child in kind])
    return kind
