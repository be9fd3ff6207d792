"""Small files that decode to much more than a document may have: little memory, and a reason."""

import bz2
import gzip
import io
import lzma
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from ixt_data.errors import IxtError
from ixt_data.ingestion import source_files
from ixt_data.ingestion.inputs import open_inputs

BOMB = 448 << 20
MAX_MEMORY = 440 << 20
# The peak that `getrusage` knows of a process is at least that of its parent.
MEASURED = """
import atexit, pathlib, runpy, sys
path = pathlib.Path(sys.argv.pop(1))
lines = lambda: pathlib.Path("/proc/self/status").read_text().splitlines()
atexit.register(lambda: path.write_text([x for x in lines() if x.startswith("VmHWM")][0]))
runpy.run_module("ixt_data", run_name="__main__")
"""
LIMIT = "longer than 4 MiB (--max-document-mb)"


def ingest(folder: Path, name: str) -> tuple[int, str, list[dict[str, object]], int]:
    """Ingest a file in a process of its own; return code, stderr, quarantine and documents."""
    store = folder / "S"
    command = [sys.executable, "-m", "ixt_data"]
    subprocess.run([*command, "init", "--store", str(store)], check=True, capture_output=True)
    command += ["ingest", "--store", str(store), "--corpus", "web", "--max-document-mb", "4"]
    command += ["-o", "json", str(folder / name)]
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder / "memory"), *command[3:]],
        capture_output=True,
        text=True,
    )
    (line,) = (folder / "memory").read_text().splitlines()
    assert int(line.split()[1]) << 10 < MAX_MEMORY
    lines = [line for path in store.glob("quarantine/*") for line in path.read_bytes().splitlines()]
    documents = orjson.loads(process.stdout)["documents"] if process.stdout else 0
    rejected = [orjson.loads(line) for line in lines]
    return process.returncode, process.stderr, rejected, documents


def chunks(before: bytes, after: bytes) -> Iterator[bytes]:
    yield before
    for _ in range(BOMB >> 20):
        yield b"x" * (1 << 20)
    yield after


OPEN: dict[str, Callable[..., Any]] = {
    ".gz": partial(gzip.open, compresslevel=1),
    ".zst": zstandard.open,
    ".bz2": partial(bz2.open, compresslevel=1),
    ".xz": partial(lzma.open, preset=0),
}


@pytest.mark.parametrize("suffix", OPEN)
def test_a_long_compressed_line_is_rejected_in_little_memory(tmp_path: Path, suffix: str) -> None:
    name = f"a.jsonl{suffix}"
    with OPEN[suffix](tmp_path / name, "wb") as file:
        for chunk in chunks(b'{"text": "first"}\n{"text": "', b'"}\n{"text": "last"}\n'):
            file.write(chunk)
    assert (tmp_path / name).stat().st_size < 4 << 20
    code, _, rejected, documents = ingest(tmp_path, name)
    assert (code, documents) == (0, 2)
    assert [(record["line"], record["reason"]) for record in rejected] == [(2, LIMIT)]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("a.json.gz", b'[{"text": "first"}, {"text": "', b'"}]'),
        ("a.json.zst", b'{"text": "', b'"}'),
        ("a.txt.gz", b"text ", b""),
        ("a.html.gz", b"<html><body><p>", b"</p></body></html>"),
    ],
)
def test_a_compressed_value_of_another_format_is_rejected_in_little_memory(
    tmp_path: Path, name: str, before: bytes, after: bytes
) -> None:
    path = tmp_path / name
    with OPEN[path.suffix](path, "wb") as file:
        for chunk in chunks(before, after):
            file.write(chunk)
    code, _, (rejected,), documents = ingest(tmp_path, name)
    assert (code, documents) == ((0, 1) if name == "a.json.gz" else (1, 0))
    assert str(rejected["reason"]).endswith(LIMIT)


def test_a_response_that_decodes_to_too_much_is_rejected(tmp_path: Path) -> None:
    page = gzip.compress(b"<html><body>" + b"x" * (64 << 20), 1)
    headers = [("Content-Type", "text/html"), ("Content-Encoding", "gzip")]
    with (tmp_path / "a.warc").open("wb") as file:
        writer = WARCWriter(file, gzip=False)
        writer.write_record(
            writer.create_warc_record(
                "https://example.com",
                "response",
                payload=io.BytesIO(page),
                http_headers=StatusAndHeaders("200 OK", headers, "HTTP/1.1"),
            )
        )
    code, _, (rejected,), _ = ingest(tmp_path, "a.warc")
    assert (code, rejected["reason"]) == (1, LIMIT)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_large_value_that_many_rows_share_is_never_copied_for_each(
    tmp_path: Path, name: str
) -> None:
    texts = pa.array(["short", "x" * (16 << 20)])
    shared = pa.DictionaryArray.from_arrays(pa.array([0] + [1] * 2000, pa.int32()), texts)
    table = pa.table({"text": [f"{i}" for i in range(2001)], "page": shared})
    if name == "a.parquet":
        options = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30}
        pq.write_table(table, tmp_path / name, **options)
    else:
        with pa.ipc.new_file(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    code, _, rejected, documents = ingest(tmp_path, name)
    assert (code, documents, len(rejected)) == (0, 1, 2000)
    assert {record["reason"] for record in rejected} == {LIMIT}


@pytest.mark.parametrize("size", [8, 64])
def test_a_long_line_of_csv_is_rejected_or_the_file_refused(tmp_path: Path, size: int) -> None:
    with (tmp_path / "a.csv").open("wb") as file:
        file.write(b"text,n\n" + b"".join(b"row %d,1\n" % i for i in range(30_000)))
        for _ in range(size):
            file.write(b"x" * (1 << 20))
        file.write(b",2\n")
    code, errors, rejected, documents = ingest(tmp_path, "a.csv")
    if size == 8:
        assert (code, documents, len(rejected)) == (0, 30_000, 1)
        assert "Maximum line size" in str(rejected[0]["reason"])
    else:
        assert (code, documents, rejected) == (1, 0, [])
        assert f"a.csv has a line that is {LIMIT}" in errors


def test_a_column_of_parquet_that_decodes_to_too_much_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["x" * BOMB], pa.large_string()), "n": [1]})
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, tmp_path / "a.parquet", **options)
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    code, errors, rejected, documents = ingest(tmp_path, "a.parquet")
    assert (code, documents, rejected) == (1, 0, [])
    assert "a.parquet: the column text of row group 0 decodes from" in errors


def test_a_compressed_table_that_decodes_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_files, "DECODED_BYTES", 8 << 20)
    path = tmp_path / "a.csv.zst"
    path.write_bytes(zstandard.compress(b"text\n" + b"x\n" * (16 << 20)))
    with pytest.raises(IxtError, match=r"a\.csv\.zst has [\d,]+ bytes and decodes to more than"):
        open_inputs([path])
