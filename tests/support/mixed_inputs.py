"""Inputs of many kinds for an ingest, and a comparison of what it wrote."""

import gzip
import hashlib
import io
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter


def write_inputs(folder: Path) -> list[Path]:
    """Write inputs of many kinds, with what is rejected and what occurs twice."""
    lines: list[bytes] = []
    for i in range(4000):
        record: dict[str, Any] = {"text": f"text {i % 3500} " + "word " * (i % 3500 % 150), "n": i}
        record |= {"url": f"u{i}", "meta": {"tags": ["a"] * (i % 3), "p": i / 7}}
        record |= {"rare": i} if i % 1000 == 7 else {}
        record |= {"n": "NA"} if i == 3333 else {}
        lines.append(orjson.dumps(record))
        lines += [b"", b"{", b'{"text": 1}', b'{"text":"x","y":NaN}'] if i % 500 == 3 else []
    plain = folder / "a.jsonl"
    plain.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines) + b"\n\n")
    packed = folder / "b.jsonl.gz"
    records = [orjson.dumps({"text": f"b {i} " + "x" * 500}) for i in range(6000)]
    packed.write_bytes(gzip.compress(b"\n".join(records), 1)[:-20])
    stamps = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 400, pa.timestamp("ns", "UTC"))
    table = pa.table(
        {
            "text": [f"row {i} " + "y" * i for i in range(400)],
            "price": pa.array([Decimal(i) / 4 for i in range(400)], pa.decimal128(10, 2)),
            "made": stamps,
            "uuid": pa.array([uuid.UUID(int=i).bytes for i in range(400)], pa.uuid()),
            "pair": [{"a": i, "b": None if i % 2 else "z"} for i in range(400)],
        }
    )
    pq.write_table(table, folder / "c.parquet", row_group_size=37)
    (folder / "d.csv").write_text("text,n\n" + "".join(f"csv {i},{i}\n" for i in range(300)))
    (folder / "e").mkdir()
    for i in range(20):
        (folder / "e" / f"{i}.txt").write_text(f"file {i}")
    with pa.ipc.new_file(folder / "f.arrow", table.schema) as writer:
        for batch in table.slice(0, 90).to_batches(max_chunksize=13):
            writer.write_batch(batch)
    (folder / "g").mkdir()
    for i in range(40):
        (folder / "g" / f"{i}.html").write_text(_page(i) if i % 9 else "<html></html>")
    with (folder / "h.warc.gz").open("wb") as file:
        _write_responses(WARCWriter(file, gzip=True))
    names = ("c.parquet", "d.csv", "e", "f.arrow", "g", "h.warc.gz", "g/1.html")
    return [plain, packed, *(folder / name for name in names)]


def _page(number: int) -> str:
    sentence = f"Page {number} has a text that is long enough for an extractor. " * 8
    head = f"<head><title>t{number}</title></head>"
    return f"<html lang=en>{head}<body><p>{sentence}</p></body></html>"


def _write_responses(writer: WARCWriter) -> None:
    for i in range(100, 140):
        status = "404 Not Found" if i % 10 == 0 else "200 OK"
        headers = StatusAndHeaders(status, [("Content-Type", "text/html")], "HTTP/1.1")
        record = writer.create_warc_record(
            f"https://example.com/{i}",
            "response",
            payload=io.BytesIO(_page(i).encode()),
            http_headers=headers,
            warc_headers_dict={"WARC-Date": "2026-01-01T00:00:00Z"},
        )
        writer.write_record(record)


def contents(root: Path) -> dict[str, str]:
    """Return a hash of each file that has documents."""
    files = [path for name in ("shards", "meta", "quarantine") for path in (root / name).rglob("*")]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }
