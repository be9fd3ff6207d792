"""Tables of a lake in a folder: their log says which of the Parquet files are the table now.

A folder of such a table also has files of older versions. Reading all of them would add rows that
were deleted.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ixt_data.errors import ConfigError, MissingExtra
from ixt_data.ingestion.source_files import printable

_READABLE_FEATURES = frozenset({"timestampNtz", "vacuumProtocolCheck", "v2Checkpoint"})
"""Features of Delta that change nothing in how a data file is read."""


def lake_files(folder: Path) -> list[Path] | None:
    """Return the data files of the newest version of a Delta table; None for any other folder.

    Raises:
        ConfigError: the table cannot be read file by file, or is one of Iceberg or Hudi.
        MissingExtra: deltalake is not installed.
    """
    shown = printable(folder)
    if (folder / "_delta_log").is_dir():
        return _delta_files(folder)
    kind = None
    if any((folder / "metadata").glob("*.metadata.json")):
        kind = "an Iceberg"
    elif (folder / ".hoodie").is_dir():
        kind = "a Hudi"
    if kind is not None:
        raise ConfigError(
            f"input {shown} is {kind} table, and its folder also has files of older versions. "
            "Write its rows to Parquet first"
        )
    return None


def _delta_files(folder: Path) -> list[Path]:
    MissingExtra.require("delta", "deltalake")
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    shown = printable(folder)
    try:
        table = DeltaTable(folder)
        columns = table.metadata().partition_columns
        features = set(table.protocol().reader_features or ()) - _READABLE_FEATURES
        uris = table.file_uris()
    except (DeltaError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"input {shown}: the Delta table cannot be read: {reason}") from None
    if columns or features:
        what = f"partition columns ({', '.join(columns)})" if columns else ", ".join(features)
        raise ConfigError(
            f"input {shown} is a Delta table with {what}, so its files alone are not its rows. "
            "Write it to Parquet first: deltalake.DeltaTable(...).to_pyarrow_table()"
        )
    paths = [Path(unquote(urlsplit(uri).path) if "://" in uri else uri) for uri in sorted(uris)]
    root = folder.resolve()
    return [folder / path.resolve().relative_to(root) for path in paths]
