"""Ingest in several processes: the same bytes for any number."""

import uuid
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mixed_inputs import contents, write_inputs

from ixt_data.ingestion import ingest
from ixt_data.ingestion.fields import Fields
from ixt_data.ingestion.json_lines import JsonLinesInput, LinesPortion
from ixt_data.ingestion.source_files import SourceFile
from ixt_data.maintenance.verification import verify
from ixt_data.store.store import Store


def test_any_number_of_workers_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixt_data.ingestion.json_lines.PORTION_BYTES", 1)
    monkeypatch.setattr("ixt_data.ingestion.table_files.PORTION_BYTES", 1)
    monkeypatch.setattr("ixt_data.ingestion.folders.FILES", 7)
    monkeypatch.setattr("ixt_data.ingestion.folders.SLOW_FILES", 7)
    monkeypatch.setattr("ixt_data.ingestion.web_pages.PAGES", 9)
    # Paths and rows contain the id of the transaction.
    same = SimpleNamespace(uuid4=lambda: uuid.UUID(int=1))
    monkeypatch.setattr("ixt_data.store.transaction.uuid", same)
    inputs = write_inputs(tmp_path)
    results = []
    for workers in (1, 2, 3):
        store = Store.init(tmp_path / f"store-{workers}")
        report = ingest(store, "web", inputs, shard_bytes=300_000, workers=workers)
        assert not [*Path(store.root, "_tmp").iterdir()]
        results.append((asdict(report), contents(Path(store.root))))
    assert results[0] == results[1] == results[2]
    report, files = results[0]
    assert report["documents"] == store.snapshot().corpora["web"].documents
    assert report["shards"] > 10
    assert (report["quarantined"], report["duplicates"]) == (34, 598)
    assert len(files) == 2 * report["shards"] + 2
    assert verify(store).problems == []
    assert "column made: timestamp[ns, tz=UTC] became microseconds: 2" in report["remarks"]


def test_lines_have_the_same_documents_in_portions_as_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixt_data.ingestion.json_lines.PORTION_BYTES", 1)
    monkeypatch.setattr("ixt_data.storage.byte_streams.CHUNK", 7)
    for number, content in enumerate(
        (b'{"text":"a"}\n\n{"text":"b"}\n\n', b"\n", b"", b'\xef\xbb\xbf{"text":"a"}', b"\n\n\n{}")
    ):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(content)
        whole = JsonLinesInput(SourceFile(path), Fields())
        portions = [*JsonLinesInput(SourceFile(path), Fields()).portions()]
        assert [item for portion in portions for item in portion] == [*whole]
        assert all(isinstance(portion, LinesPortion) for portion in portions)
        assert not portions or portions[-1].consumed == len(content)


def test_each_corrupt_portion_of_parquet_is_one_rejected_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixt_data.ingestion.table_files.PORTION_BYTES", 1)
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"{i}" * 50 for i in range(100)]})
    pq.write_table(table, path, row_group_size=10, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(3).column(0)
    data = bytearray(path.read_bytes())
    start, size = column.dictionary_page_offset, column.total_compressed_size
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    store = Store.init(tmp_path / "store")
    report = ingest(store, "web", [path], workers=1)
    assert (report.documents, report.quarantined) == (90, 1)
    rejected = orjson.loads(Path(store.root, report.quarantine_file or "").read_bytes())
    assert rejected["line"] == 31
    assert rejected["reason"].startswith("corrupt Parquet data: ")
