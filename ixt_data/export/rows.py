"""Export of matched documents as Parquet or JSONL: one row each, with text and critique."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.target import new_file
from ixt_data.records import ProgressCallback


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export.

    Attributes:
        out: the file or folder.
        documents: number of documents in it.
        critic: name or id of the critic whose critiques are joined; None without critiques.
        snapshot: the exported version.
    """

    out: str
    documents: int
    critic: str | None
    snapshot: int


def export_parquet(
    selected: MatchedDocuments,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: ProgressCallback = lambda scanned, matched: None,
) -> ExportReport:
    """Write one Parquet file.

    Args:
        selected: the documents.
        out: the file to create.
        overwrite: replace an existing file.
        progress: called after each shard with samples scanned and documents matched.

    Raises:
        StoreError: the path exists or belongs to a store.
        QueryError: DuckDB refuses the predicate.
    """
    documents = 0
    tables = selected.tables(progress=progress)
    with new_file(out, overwrite) as path:
        schema = next(tables).schema
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)
                documents += table.num_rows
    return ExportReport(str(out), documents, selected.critic, selected.snapshot.version)


def export_jsonl(
    selected: MatchedDocuments,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: ProgressCallback = lambda scanned, matched: None,
) -> ExportReport:
    """Write one JSONL file, compressed if its name ends in `.zst` or `.gz`.

    Args:
        selected: the documents.
        out: the file to create.
        overwrite: replace an existing file.
        progress: called after each shard with samples scanned and documents matched.

    Raises:
        StoreError: the path exists or belongs to a store.
        QueryError: DuckDB refuses the predicate.
    """
    documents = 0
    with new_file(out, overwrite) as path, _open(path, Path(out).suffix) as file:
        for table in selected.tables(progress=progress):
            for record in _records(table):
                file.write(orjson.dumps(record, default=str) + b"\n")
            documents += table.num_rows
    return ExportReport(str(out), documents, selected.critic, selected.snapshot.version)


@contextmanager
def _open(path: Path, suffix: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("wb") as plain:
        if suffix == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(plain, closefd=False) as packed:
                yield packed
        elif suffix == ".gz":
            with gzip.open(plain, "wb", compresslevel=6) as packed:
                yield packed
        else:
            yield plain


def _records(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows as JSON objects; convert Arrow's maps, which are pairs, to objects."""
    maps = [field.name for field in table.schema if pa.types.is_map(field.type)]
    for record in table.to_pylist():
        for name in maps:
            if record[name] is not None:
                record[name] = dict(record[name])
        yield record
