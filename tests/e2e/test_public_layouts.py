"""Three public layouts, made by their own tools: in, judged, asked, and out to other readers."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import polars
import pyarrow as pa
import pytest
from command_line import as_json, ixt
from deltalake import DeltaTable, write_deltalake
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
N = 24
HTML = [("Content-Type", "text/html")]
TOPICS = ("rivers", "bridges", "clocks", "gardens")


def page(i: int) -> str:
    topic = TOPICS[i % len(TOPICS)]
    return (
        f"This page number {i} explains {topic} to a reader who has never seen them. It names "
        f"{i + 2} places where the reader finds {topic}, and it gives the year {1900 + i} for the "
        "oldest of them. The last paragraph says what is not known yet."
    )


def as_dataset(folder: Path) -> list[str]:
    rows = {"text": [page(i) for i in range(N)], "year": [1900 + i for i in range(N)]}
    datasets.Dataset.from_dict(rows).save_to_disk(folder / "saved", num_shards=2)
    return ["saved"]


def as_warc(folder: Path) -> list[str]:
    with (folder / "crawl.warc.gz").open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for i in range(N):
            body = f"<html><head><title>{i}</title></head><body><p>{page(i)}</p></body></html>"
            headers = StatusAndHeaders(
                "200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1"
            )
            record = writer.create_warc_record(
                f"http://example.org/{i}", "response", payload=BytesIO(body.encode()),
                http_headers=headers,
            )  # fmt: skip
            writer.write_record(record)
    return ["crawl.warc.gz"]


def as_delta(folder: Path) -> list[str]:
    # The first version is not part of the table any more.
    write_deltalake(folder / "table", pa.table({"text": ["A page of an older version."]}))
    rows = pa.table({"text": [page(i) for i in range(N)], "year": [1900 + i for i in range(N)]})
    write_deltalake(folder / "table", rows, mode="overwrite", schema_mode="overwrite")
    return ["table"]


def read_hf(path: Path) -> list[dict[str, Any]]:
    return list(datasets.load_dataset(str(path), split="train", cache_dir=str(path.parent / "hf")))


def read_parquet(path: Path) -> list[dict[str, Any]]:
    return polars.read_parquet(path).to_dicts()


def read_delta(path: Path) -> list[dict[str, Any]]:
    return DeltaTable(path / "documents").to_pyarrow_table().to_pylist()


@pytest.mark.parametrize("make", [as_dataset, as_warc, as_delta])
def test_public_layout_goes_through_the_engine_and_out(
    make: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    inputs = make(tmp_path)
    ixt("init", folder=tmp_path)
    report = as_json("ingest", "--corpus", "public", *inputs, folder=tmp_path)
    assert (report["documents"], report["quarantined"]) == (N, 0)
    as_json("critique", "--corpus", "public", "--critic", "rules", folder=tmp_path)
    as_json("dedupe", "--corpus", "public", folder=tmp_path)
    sql = "SELECT count(*) AS n, min(score) AS s FROM documents JOIN critiques USING (doc_id)"
    (row,) = json.loads(ixt("query", sql, "--output", "json", folder=tmp_path).stdout)
    assert row["n"] == N
    assert 0 <= row["s"] <= 1
    ixt("select", "save", "all", "score >= 0", "--critic", "rules", folder=tmp_path)
    readers = {"out": ("hf", read_hf), "out.parquet": ("parquet", read_parquet)}
    for name, (form, read) in readers.items():
        ixt("export", name, "--format", form, "--selection", "all", folder=tmp_path)
        rows = read(tmp_path / name)
        assert sorted(row["text"] for row in rows) == sorted(page(i) for i in range(N))
        if make is not as_warc:
            assert sorted(row["year"] for row in rows) == [1900 + i for i in range(N)]
    ixt("export", "delta", "--format", "delta", folder=tmp_path)
    assert len(read_delta(tmp_path / "delta")) == N


def test_table_that_is_not_its_files_is_refused(tmp_path: Path) -> None:
    ixt("init", folder=tmp_path)
    rows = pa.table({"text": ["one page", "two pages"], "year": [1, 2]})
    write_deltalake(tmp_path / "parts", rows, partition_by=["year"])
    done = ixt("ingest", "--corpus", "a", "parts", folder=tmp_path, code=1)
    assert "a Delta table with partition columns (year)" in done.stderr
    (tmp_path / "ice" / "metadata").mkdir(parents=True)
    (tmp_path / "ice" / "metadata" / "v1.metadata.json").touch()
    done = ixt("ingest", "--corpus", "a", "ice", folder=tmp_path, code=1)
    assert "is an Iceberg table" in done.stderr
