"""Inputs of many kinds for an ingest, and a comparison of what it wrote."""

import gzip
import hashlib
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq


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
    return [plain, packed, folder / "c.parquet", folder / "d.csv", folder / "e"]


def contents(root: Path) -> dict[str, str]:
    """Return a hash of each file that has documents."""
    files = [path for name in ("shards", "meta", "quarantine") for path in (root / name).rglob("*")]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }
