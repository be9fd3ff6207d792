"""Export of matched documents as Parquet or JSONL: one row each, with text and critique."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.target import new_file
from ixt_data.records import ProgressCallback
from ixt_data.sql import QueryOutput, copy_rows, without_maps


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
        schema = without_maps(next(tables).schema)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table.cast(schema))
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
    tables = selected.tables(progress=progress)

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal documents
        for table in tables:
            documents += table.num_rows
            yield from table.to_batches()

    compression = {".gz": "gzip", ".zst": "zstd"}.get(Path(out).suffix, "none")
    with new_file(out, overwrite) as path:
        schema = next(tables).schema
        copy_rows(schema, batches(), QueryOutput.jsonl, str(path), compression)
    return ExportReport(str(out), documents, selected.critic, selected.snapshot.version)
