"""Export of matched documents as a separate MDS folder, for any MDS reader."""

import math
from pathlib import Path

from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.rows import ExportReport
from ixt_data.export.target import new_folder
from ixt_data.mds import SHARD_BYTES, ShardWriter
from ixt_data.records import ProgressCallback, parse_id

COLUMNS = {
    "critique": "str",
    "doc_id": "str",
    "score": "float32",
    "source_id": "str",
    "text": "str",
}
"""MDS encoding by column. doc_id has 32 hexadecimal digits. Without a critique the score is NaN and
the critique empty."""


def export_mds(
    selected: MatchedDocuments,
    out: str | Path,
    *,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    progress: ProgressCallback = lambda scanned, matched: None,
) -> ExportReport:
    """Write one MDS folder that a stock StreamingDataset opens.

    Args:
        selected: the documents.
        out: the folder to create.
        overwrite: replace an earlier export.
        shard_bytes: maximum uncompressed bytes of a shard, exceeded by at most one document.
        progress: called after each shard with samples scanned and documents matched.

    Raises:
        StoreError: the path exists or belongs to a store.
        QueryError: DuckDB refuses the predicate.
    """
    judged = ("critique", "score") if selected.critic is not None else ()
    columns = [*judged, "doc_id", "source_id", "text"]
    about = {
        "format": "mds",
        "snapshot": selected.snapshot.version,
        "where": selected.where,
        "critic": selected.critic,
    }
    documents = 0
    with new_folder(out, overwrite, about) as folder:
        writer = ShardWriter(folder, COLUMNS)
        for table in selected.tables(columns, progress):
            for row in table.to_pylist():
                score = row.get("score")
                writer.write(
                    {
                        "critique": row.get("critique") or "",
                        "doc_id": parse_id(row["doc_id"]).hex(),
                        "score": math.nan if score is None else score,
                        "source_id": row["source_id"],
                        "text": row["text"],
                    }
                )
                if writer.size >= shard_bytes:
                    writer.cut()
            documents += table.num_rows
        if writer.samples:
            writer.cut()
        writer.close()
    return ExportReport(str(out), documents, selected.critic, selected.snapshot.version)
