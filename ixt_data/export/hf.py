"""Export of matched documents as a folder for Hugging Face `datasets`, with a dataset card."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ixt_data.console import printable
from ixt_data.errors import QueryError
from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.rows import ExportReport
from ixt_data.export.target import new_folder
from ixt_data.records import ProgressCallback
from ixt_data.sql import SCORE_EDGES, SCORE_STEPS, without_maps

FILE_BYTES = 500_000_000
"""Uncompressed bytes after which the next Parquet file starts: the hub advises files below 1 GB."""

MAX_SOURCES = 50
"""Sources that the card lists, the largest ones."""
BAR = 40
"""Characters of the longest bar of the histogram."""

# `datasets` takes the files from here; without it, it would read the JSON files of the folder too.
_HEADER = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---
"""


@dataclass
class _Counts:
    """What the card states of the written documents."""

    documents: int = 0
    characters: int = 0
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    scores: list[int] = field(default_factory=lambda: [0] * SCORE_STEPS)

    def add(self, table: pa.Table) -> None:
        self.documents += table.num_rows
        self.characters += pc.sum(table["n_chars"]).as_py() or 0
        groups = table.select(["corpus", "source"]).group_by(["corpus", "source"])
        for row in groups.aggregate([([], "count_all")]).to_pylist():
            self.sources[row["corpus"], row["source"] or ""] += row["count_all"]
        if "score" in table.column_names:
            for status in pc.value_counts(table["status"]).to_pylist():
                self.statuses[status["values"] or "no critique"] += status["counts"]
            scores = table["score"].drop_null().to_numpy()
            for step in np.searchsorted(SCORE_EDGES, scores, side="right").tolist():
                self.scores[step] += 1


def export_hf(
    selected: MatchedDocuments,
    out: str | Path,
    *,
    overwrite: bool = False,
    file_bytes: int = FILE_BYTES,
    progress: ProgressCallback = lambda scanned, matched: None,
) -> ExportReport:
    """Write a folder that `datasets.load_dataset` opens: Parquet files in `data/`, and README.md.

    The README is a dataset card with sources, critics, scores, and the SQL of the selection.

    Args:
        selected: the documents.
        out: the folder to create.
        overwrite: replace an earlier export.
        file_bytes: uncompressed bytes after which the next file starts.
        progress: called after each shard with samples scanned and documents matched.

    Raises:
        StoreError: the path exists or belongs to a store.
        QueryError: DuckDB refuses the predicate, or no document matches.
    """
    about = {
        "format": "hf",
        "snapshot": selected.snapshot.version,
        "where": selected.where,
        "critic": selected.critic,
    }
    counts = _Counts()
    with new_folder(out, overwrite, about) as folder:
        (folder / "data").mkdir()
        _write_files(folder / "data", selected.tables(progress=progress), counts, file_bytes)
        card = _HEADER + "\n".join(_card(Path(out).name, selected, counts))
        (folder / "README.md").write_text(card, encoding="utf-8")
    return ExportReport(str(out), counts.documents, selected.critic, selected.snapshot.version)


def _write_files(
    folder: Path, tables: Iterator[pa.Table], counts: _Counts, file_bytes: int
) -> None:
    schema = without_maps(next(tables).schema)
    with ExitStack() as files:
        writer, size, number = None, 0, 0
        for table in tables:
            if writer is None or size >= file_bytes:
                files.close()
                path = folder / f"train-{number:05d}.parquet"
                writer = files.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
                size, number = 0, number + 1
            writer.write_table(table.cast(schema))
            counts.add(table)
            size += table.nbytes
        if writer is None:
            raise QueryError("no document matches, and `datasets` opens no folder without rows")


def _card(name: str, selected: MatchedDocuments, counts: _Counts) -> Iterator[str]:
    """Yield the lines of the card below its header."""
    snapshot = selected.snapshot
    yield f"# {_cell(name)}\n"
    yield (
        f"{counts.documents:,} documents with {counts.characters:,} characters, exported by "
        f"[IXT](https://arxiv.org/abs/2605.20285) from snapshot {snapshot.version} of a store. A "
        "map of the store is a list of `key` and `value`, a UUID is text.\n"
    )
    yield f"## Selection\n\n```sql\nSELECT * FROM documents WHERE {_fenced(selected.where)}\n```\n"
    yield "## Sources\n"
    rows = [[*key, f"{n:,}"] for key, n in counts.sources.most_common(MAX_SOURCES)]
    yield from _table(["corpus", "source", "documents"], rows)
    if (more := len(counts.sources) - MAX_SOURCES) > 0:
        yield f"\nAnd {more:,} smaller sources."
    if selected.critic is None:
        return
    yield "\n## Critics\n"
    critics = [
        [critic.name, critic.id, critic.config.get("kind", "")]
        for critic in snapshot.critics.values()
        if selected.critic in (critic.name, critic.id)
    ]
    yield from _table(["critic", "id", "kind"], critics)
    yield "\n"
    yield from _table(["status", "documents"], [[s, f"{n:,}"] for s, n in counts.statuses.items()])
    yield "\n## Scores\n\n```"
    largest = max(counts.scores) or 1
    for i, n in enumerate(counts.scores):
        bar = "#" * round(BAR * n / largest)
        yield f"{i / 10:.1f} {n:>12,} {bar}".rstrip()
    yield "```\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    for row in (header, ["-"] * len(header), *rows):
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(value: Any) -> str:
    """Return a value as the text of a cell, whatever characters a user's name has."""
    text = printable(str(value)).replace("\n", " ")
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in text)


def _fenced(sql: str) -> str:
    """Return SQL that does not end its fence."""
    return printable(sql).replace("```", "` ` `")
