"""Export of matched documents as a separate MDS folder, for any MDS reader."""

import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.rows import ExportReport
from ixt_data.export.target import new_folder
from ixt_data.mds import SHARD_BYTES, ShardFormat, write_index
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
    with new_folder(out, overwrite, about) as folder, _Shards(folder, selected.workers) as shards:
        for table in selected.tables(columns, progress):
            values = {name: table[name].to_pylist() for name in columns}
            n = table.num_rows
            samples = _FORMAT.encode(
                {
                    "critique": [text or "" for text in values.get("critique", [""] * n)],
                    "doc_id": [parse_id(text).hex() for text in values["doc_id"]],
                    "score": [
                        math.nan if score is None else score
                        for score in values.get("score", [None] * n)
                    ],
                    "source_id": values["source_id"],
                    "text": values["text"],
                }
            )
            for sample in samples:
                shards.add(sample, shard_bytes)
            documents += n
    return ExportReport(str(out), documents, selected.critic, selected.snapshot.version)


_FORMAT = ShardFormat(COLUMNS)


class _Shards:
    """Shards of a folder, compressed by threads."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder, self._workers = folder, workers
        self._threads = ThreadPoolExecutor(workers)
        self._building: deque[Future[dict[str, Any]]] = deque()
        self._index: list[dict[str, Any]] = []
        self._samples: list[bytes] = []
        self._size = self._number = 0

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with self._threads:
            if kind is None:
                self._finish()

    def add(self, sample: bytes, shard_bytes: int) -> None:
        """Add a sample; the shard ends with the sample that fills it."""
        self._samples.append(sample)
        self._size += len(sample)
        if self._size >= shard_bytes:
            self._cut()

    def _cut(self) -> None:
        while len(self._building) >= self._workers:
            self._index.append(self._building.popleft().result())
        future = self._threads.submit(_FORMAT.write, self._folder, self._number, self._samples)
        self._building.append(future)
        self._samples, self._size, self._number = [], 0, self._number + 1

    def _finish(self) -> None:
        if self._samples:
            self._cut()
        self._index += [future.result() for future in self._building]
        write_index(self._folder, self._index)
