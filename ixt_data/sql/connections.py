"""DuckDB connections that take nothing from the host: no time zone, locale, extension or secret."""

from contextlib import suppress
from pathlib import Path

import duckdb

from ixt_data.sql.joins import sql_literal

_SETTINGS = {
    # Casts of TIMESTAMPTZ depend on both; their defaults come from the host.
    "TimeZone": "'UTC'",
    "Calendar": "'gregorian'",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "enable_geoparquet_conversion": "false",
    # By default `.tmp` in the working directory.
    "temp_directory": "''",
    # DuckDB binds a view at its creation and in each query. The cache parses footers once.
    "parquet_metadata_cache": "true",
    # No Python variable of the caller is a table.
    "python_enable_replacements": "false",
}
PROGRESS_SETTINGS = {"enable_progress_bar_print": "false", "enable_progress_bar": "true"}

DuckDBError = duckdb.Error
WriteFailed = duckdb.IOException
"""What a connection raises where a file cannot be read or written."""


def connect(
    memory_limit: str | None = None, spill: Path | None = None, *, plain: bool = False
) -> "Connection":
    """Open an in-memory DuckDB that downloads nothing and prints nothing: stdout is for results.

    Args:
        memory_limit: such as `25%`; None is DuckDB's default, 80 % of the memory.
        spill: folder for temporary files; None keeps everything in memory.
        plain: whether Arrow results have no extension types, and UUIDs as strings.
    """
    connection = duckdb.connect(":memory:")
    # Cursors start with the global values, and cannot change them after the lock.
    for name, value in _SETTINGS.items():
        connection.execute(f"SET GLOBAL {name} = {value}")
    connection.execute(f"SET GLOBAL arrow_lossless_conversion = {not plain}")
    if memory_limit is not None:
        connection.execute(f"SET memory_limit = {sql_literal(memory_limit)}")
    if spill is not None:
        connection.execute(f"SET temp_directory = {sql_literal(str(spill))}")
    enable_progress(connection)
    return connection


def enable_progress(connection: "Connection") -> None:
    """Enable the progress estimate, and keep it off stdout. Each cursor needs this."""
    # In a notebook without ipywidgets, DuckDB refuses to estimate what it cannot display.
    with suppress(duckdb.InvalidInputException):
        for name, value in PROGRESS_SETTINGS.items():
            connection.execute(f"SET {name} = {value}")


Connection = duckdb.DuckDBPyConnection
