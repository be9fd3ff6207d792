"""The rows of a snapshot as Delta tables, without copies: for Spark, Trino, Polars, Daft.

A table is a folder with a Delta log and one link per file of rows. The Delta protocol allows
external files, but delta-rs and Polars read only files below the table's folder (checked with
deltalake 1.6 and polars 2.1). Hard links protect an export from garbage collection in the store.
On another file system the links are symbolic, and the export is valid while the snapshot exists.

Limits: Delta has fewer types. A UUID is `binary`, a time or duration text, an unsigned integer the
next wider signed one or a decimal; a HUGEINT is `decimal(38,0)`. A file with a column of another
type than the table's (integers before doubles) is converted and copied. `critiques_all` contains
every critique, partitioned by `generation`: the latest one per document and critic has the highest.
Writes to the tables (OPTIMIZE, VACUUM) change only the links, never the store.
"""

import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.export.target import new_folder
from ixt_data.log import RowsFile
from ixt_data.sql import (
    CRITIQUES,
    DOCUMENTS,
    ColumnType,
    common_schema,
    merge_rows,
    parse_type,
)
from ixt_data.store import Store

TABLES = {"documents": ("documents", DOCUMENTS), "critiques_all": ("critiques", CRITIQUES)}
"""Table in the store, and its base columns, by Delta table. The names are those of the views."""

_TYPES = {
    "BOOLEAN": "boolean",
    "TINYINT": "byte",
    "SMALLINT": "short",
    "INTEGER": "integer",
    "BIGINT": "long",
    "FLOAT": "float",
    "DOUBLE": "double",
    "VARCHAR": "string",
    "DATE": "date",
    "TIMESTAMPTZ": "timestamp",
    "TIMESTAMP": "timestamp_ntz",
    "BLOB": "binary",
    "UUID": "binary",
}
_WHOLE = ColumnType("DECIMAL", digits=(38, 0))
_REPLACED = {
    "UTINYINT": ColumnType("SMALLINT"),
    "USMALLINT": ColumnType("INTEGER"),
    "UINTEGER": ColumnType("BIGINT"),
    "UBIGINT": ColumnType("DECIMAL", digits=(20, 0)),
    "HUGEINT": _WHOLE,
    "TIME": ColumnType("VARCHAR"),
    "INTERVAL": ColumnType("VARCHAR"),
    "NULL": ColumnType("VARCHAR"),
}
"""Types that Delta lacks, each with the type of its values in a table."""
_STORED = {"HUGEINT": _WHOLE, "NULL": ColumnType("VARCHAR")}
"""Of these, the types whose values a file of rows has in that type."""


@dataclass
class DeltaReport:
    """The result of a Delta export.

    Attributes:
        out: the folder of the tables.
        tables: number of rows by table.
        files: number of linked files of rows.
        converted: number of files that were copied to convert a column type.
        hard_links: True if all links are hard.
        snapshot: the exported version.
    """

    out: str
    tables: dict[str, int] = field(default_factory=dict)
    files: int = 0
    converted: int = 0
    hard_links: bool = True
    snapshot: int = 0


def export_delta(
    store: Store,
    out: str | Path | None = None,
    *,
    at: int | str | None = None,
    overwrite: bool = False,
) -> DeltaReport:
    """Create the Delta tables `documents` and `critiques_all` of a snapshot.

    Args:
        store: the store.
        out: folder for the tables; by default `delta` in a local store.
        at: version or tag, the newest by default.
        overwrite: replace an earlier export.

    Raises:
        StoreError: the path exists or belongs to a store, or a column type has no Delta type.
    """
    if out is None:
        if "://" in store.root:
            raise StoreError(f"{store.root}: specify a local folder for the Delta tables")
        out = Path(store.root, "delta")
    snapshot = store.snapshot(at)
    report = DeltaReport(str(out), snapshot=snapshot.version)
    about = {"format": "delta", "snapshot": snapshot.version}
    with (
        store.pins.hold(snapshot.version, "export"),
        new_folder(out, overwrite, about) as folder,
    ):
        for table, (kind, base) in TABLES.items():
            rows = [file for file in snapshot.rows.values() if file.table == kind]
            partition = ["generation"] if table == "critiques_all" else []
            with store.storage.copies() as copies:
                local = copies.get(file.path for file in rows)
                _write_table(folder / table, rows, local, base, partition, report, store.root)
            report.tables[table] = sum(file.rows for file in rows)
    return report


def _write_table(
    folder: Path,
    rows: Sequence[RowsFile],
    local: Mapping[str, Path],
    base: dict[str, str],
    partition: list[str],
    report: DeltaReport,
    root: str,
) -> None:
    columns = {name: _delta_form(kind) for name, kind in common_schema(rows, base).items()}
    (folder / "_delta_log").mkdir(parents=True)
    actions = [_protocol(columns), _metadata(columns, partition)]
    for number, file in enumerate(rows):
        # Polars reads the value of a partition from the path.
        parent = folder.joinpath(*(f"{name}={getattr(file, name)}" for name in partition))
        parent.mkdir(exist_ok=True)
        path = parent / f"{number:06d}-{Path(file.path).name}"
        if any(columns[name] != _stored_form(kind) for name, kind in file.schema.items()):
            merge_rows([file], {file.path: str(local[file.path])}, columns, path)
            report.converted += 1
        else:
            report.hard_links &= _link(local[file.path], path, is_cached="://" in root)
            report.files += 1
        actions.append(_add(folder, path, file, partition))
    log = b"".join(orjson.dumps(action) + b"\n" for action in actions)
    (folder / "_delta_log" / f"{0:020d}.json").write_bytes(log)


def _link(source: Path, path: Path, *, is_cached: bool) -> bool:
    """Link a file, or copy a cached one; return False if it is a symbolic link."""
    try:
        os.link(source, path)
    except OSError:
        if is_cached:
            # The cache may delete its file later.
            shutil.copyfile(source, path)
            return True
        path.symlink_to(source.resolve())
        return False
    return True


def _protocol(columns: Mapping[str, str]) -> dict[str, Any]:
    if not any(re.search(r"\bTIMESTAMP\b", kind) for kind in columns.values()):
        return {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
    feature = ["timestampNtz"]
    return {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": feature,
            "writerFeatures": feature,
        }
    }


def _metadata(columns: Mapping[str, str], partition: list[str]) -> dict[str, Any]:
    kinds = {**columns, **dict.fromkeys(partition, "INTEGER")}
    schema = _struct({name: parse_type(kind) for name, kind in kinds.items()})
    return {
        "metaData": {
            "id": str(uuid.uuid4()),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": orjson.dumps(schema).decode(),
            "partitionColumns": partition,
            "configuration": {},
            "createdTime": int(time.time() * 1000),
        }
    }


def _add(folder: Path, path: Path, file: RowsFile, partition: list[str]) -> dict[str, Any]:
    stat = path.stat()
    return {
        "add": {
            "path": path.relative_to(folder).as_posix(),
            "partitionValues": {name: str(getattr(file, name)) for name in partition},
            "size": stat.st_size,
            "modificationTime": int(stat.st_mtime * 1000),
            "dataChange": True,
            "stats": orjson.dumps({"numRecords": file.rows}).decode(),
        }
    }


def _delta_form(kind: str) -> str:
    """Return the type of a column in a table."""
    return str(parse_type(kind).with_leaves(lambda leaf: _REPLACED.get(leaf.name, leaf)))


def _stored_form(kind: str) -> str:
    """Return the type of a column in a file of rows."""
    return str(parse_type(kind).with_leaves(lambda leaf: _STORED.get(leaf.name, leaf)))


def delta_type(kind: ColumnType) -> Any:
    """Return the Delta type of a DuckDB type.

    Raises:
        StoreError: Delta has no such type.
    """
    match kind.name:
        case "LIST":
            item = delta_type(kind.children[0])
            return {"type": "array", "elementType": item, "containsNull": True}
        case "MAP":
            key, value = map(delta_type, kind.children)
            return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
        case "STRUCT":
            return _struct(dict(zip(kind.fields, kind.children, strict=True)))
        case "DECIMAL":
            return "decimal({},{})".format(*kind.digits)
    if kind.name not in _TYPES:
        raise StoreError(f"Delta has no type for a column of the type {kind}")
    return _TYPES[kind.name]


def _struct(columns: Mapping[str, ColumnType]) -> dict[str, Any]:
    fields = [
        {"name": name, "type": delta_type(kind), "nullable": True, "metadata": {}}
        for name, kind in columns.items()
    ]
    return {"type": "struct", "fields": fields}
