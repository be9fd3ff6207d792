"""Merging of files of rows into one sorted Parquet file."""

from collections.abc import Sequence
from errno import ENOENT
from pathlib import Path

from ixt_data.errors import StoreError
from ixt_data.log import RowsFile
from ixt_data.sql.connections import WriteFailed, connect
from ixt_data.sql.derived_columns import DerivedColumns
from ixt_data.sql.joins import sql_literal
from ixt_data.sql.views import common_schema, union_query

ROW_GROUP = 61_440
"""Rows per Parquet row group in merged files, half of DuckDB's default: cheaper lookups."""


def merge_rows(
    rows: Sequence[RowsFile],
    files: dict[str, str],
    base: dict[str, str],
    target: Path,
    derived: DerivedColumns | None = None,
) -> dict[str, str]:
    """Merge files of rows of one table into one Parquet file, sorted by document.

    The sort spills to disk and uses at most a quarter of the machine's memory.

    Args:
        rows: the files.
        files: local path by key.
        base: columns that every table has, with their types.
        target: the file to write.
        derived: columns to add to the rows.

    Returns:
        The DuckDB type of each column.

    Raises:
        FileNotFoundError: one of the files does not exist.
        StoreError: the new file cannot be written.
    """
    schema = common_schema(rows, base)
    connection = connect("25%", target.parent)
    try:
        merged = f"SELECT * FROM ({union_query(rows, files, base, stored=True)})"
        if derived is not None:
            merged = derived.add_to(merged, schema)
        merged += " ORDER BY doc_id"
        # The paths are not user-supplied, and this connection runs no other statement.
        connection.execute(
            f"COPY ({merged}) TO {sql_literal(str(target))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
        )
    except WriteFailed as error:
        # Another compaction has replaced a file, or the disk is full.
        if missing := next((path for path in files.values() if not Path(path).exists()), None):
            raise FileNotFoundError(ENOENT, "No such file", missing) from None
        raise StoreError(f"{target.name} cannot be written: {error}") from None
    finally:
        connection.close()
    return schema if derived is None else schema | dict(derived.columns)
