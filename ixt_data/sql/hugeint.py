"""Integers of more than 64 bits in Arrow data from DuckDB."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

ArrowData = TypeVar("ArrowData", "pa.Table", "pa.RecordBatch")


def as_decimals(rows: "ArrowData") -> "ArrowData":
    """Convert hugeint columns, such as sums, from DuckDB's opaque 16 bytes to decimal128."""
    import pyarrow as pa

    wide = pa.decimal128(38, 0)
    for i, field in enumerate(rows.schema):
        kind = field.type
        if isinstance(kind, pa.OpaqueType) and kind.type_name == "hugeint":
            # Both are a little-endian integer of 128 bits.
            column = rows.column(i)
            chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
            views = [chunk.storage.view(wide) for chunk in chunks]
            decimals = pa.chunked_array(views, wide) if isinstance(rows, pa.Table) else views[0]
            rows = rows.set_column(i, pa.field(field.name, wide), decimals)
    return rows
