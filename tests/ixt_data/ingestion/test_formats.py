"""Each format that people have, plain and compressed, gives the same documents."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import zstandard

from ixt_data.errors import ConfigError, IxtError
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.records import Document

ROWS = [
    {"id": "a", "text": "Water boils at 100 degrees,\nat sea level.", "n": 1},
    {"id": "b", "text": 'A "quoted" word; and | more.', "n": 2},
    {"id": "c", "text": "Ünïcode", "n": None},
]
TABLE = pa.Table.from_pylist(ROWS)


def write_arrow(path: Path) -> None:
    with pa.ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


def write_stream(path: Path) -> None:
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


WRITERS = {
    "a.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ROWS)),
    "array.json": lambda path: path.write_text(json.dumps(ROWS)),
    "pretty.json": lambda path: path.write_text("\ufeff" + json.dumps(ROWS, indent=2)),
    "lines.json": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ROWS)),
    "a.csv": lambda path: pyarrow.csv.write_csv(TABLE, path),
    "a.tsv": lambda path: pyarrow.csv.write_csv(
        TABLE, path, pyarrow.csv.WriteOptions(delimiter="\t")
    ),
    "semicolons.csv": lambda path: pyarrow.csv.write_csv(
        TABLE, path, pyarrow.csv.WriteOptions(delimiter=";")
    ),
    "a.parquet": lambda path: pq.write_table(TABLE, path),
    "a.feather": lambda path: pyarrow.feather.write_feather(TABLE, path),
    "a.arrow": write_arrow,
    "stream.arrow": write_stream,
}
COMPRESSIONS = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def read(*paths, **options):
    records = [record for source in open_inputs(paths, **options) for record in source]
    documents = [record for record in records if isinstance(record, Document)]
    return documents, [record for record in records if isinstance(record, RejectedRecord)]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("name", WRITERS)
def test_format_gives_the_same_documents(name, suffix, tmp_path):
    plain = tmp_path / name
    WRITERS[name](plain)
    path = tmp_path / "stored" / f"{name}{suffix}"
    path.parent.mkdir()
    path.write_bytes(COMPRESSIONS[suffix](plain.read_bytes()))
    documents, rejected = read(path)
    assert rejected == []
    assert [d.text for d in documents] == [row["text"] for row in ROWS]
    assert [(d.source, d.source_id) for d in documents] == [(path.name, i) for i in "abc"]
    assert [d.metadata["n"] for d in documents] == [1, 2, None]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "stream.arrow"])
def test_content_wins_over_the_name(name, tmp_path):
    path = tmp_path / "wrong.jsonl"
    WRITERS[name](path)
    assert len(read(path)[0]) == 3


def test_text_file_is_a_document_and_json_without_its_name_is_refused(tmp_path):
    notes = tmp_path / "NOTES"
    notes.write_text("A note.")
    assert [d.text for d in read(notes)[0]] == ["A note."]
    records = tmp_path / "records.txt"
    records.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(ConfigError, match=r"contains JSON.*--format jsonl.*--format text"):
        open_inputs([records])
    assert [d.text for d in read(records, format="jsonl")[0]] == ["a", "b"]
    assert [d.text for d in read(records, format="text")[0]] == [records.read_text()]


def test_columns_of_text_and_id_in_csv_have_no_other_type(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,source,text,n\n1.50,7,123,1.50\n2.00,8,true,2\n")
    documents, _ = read(path)
    assert [(d.source_id, d.source, d.text) for d in documents] == [
        ("1.50", "7", "123"),
        ("2.00", "8", "true"),
    ]
    assert [d.metadata for d in documents] == [{"n": 1.5}, {"n": 2.0}]


def test_delimiter_option_wins_over_the_name(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text,n\na,1\n")
    assert [d.text for d in read(path, delimiter=",")[0]] == ["a"]


def test_unknown_format_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"format 'xml': use one of arrow, csv, html, json"):
        open_inputs([], format="xml")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv"])
def test_table_without_a_named_column_lists_its_columns(name, tmp_path):
    WRITERS[name](tmp_path / name)
    with pytest.raises(ConfigError, match=r"no column 'url'. --source-field can be: id, text"):
        open_inputs([tmp_path / name], source_field="url")
    with pytest.raises(ConfigError, match="--records is for JSON"):
        open_inputs([tmp_path / name], records="data")


def test_damaged_table_is_named(tmp_path):
    for name in ("a.parquet", "a.arrow"):
        (tmp_path / name).write_bytes(b"PAR1 and ARROW1 are elsewhere")
        with pytest.raises(IxtError, match=f"{name} is not a readable"):
            open_inputs([tmp_path / name])
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(b"PAR1 x" * 99)[:-9])
    with pytest.raises(IxtError, match="truncated gzip data"):
        open_inputs([tmp_path / "a.parquet.gz"])


def test_feather_of_version_1_is_refused(tmp_path):
    (tmp_path / "a.feather").write_bytes(b"FEA1" + bytes(100))
    with pytest.raises(IxtError, match="Feather file of version 1; write it as version 2"):
        open_inputs([tmp_path / "a.feather"])


def test_source_field_becomes_the_source(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "site": "x.org", "source": 5}\n{"text": "b"}\n')
    (document,), (rejected,) = read(path, source_field="site")
    assert (document.source, document.metadata) == ("x.org", {"source": 5})
    assert rejected.reason == "no field 'site' (fields: text)"


def test_truncated_arrow_stream_keeps_the_batches_before(tmp_path):
    path = tmp_path / "a.arrow"
    table = pa.table({"text": [f"document {i}" for i in range(1000)]})
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    path.write_bytes(path.read_bytes()[:-2000])
    documents, rejected = read(path)
    assert len(documents) % 100 == 0
    assert 0 < len(documents) < 1000
    assert [r.line for r in rejected] == [len(documents) + 1]
    assert rejected[0].reason.startswith("corrupt Arrow data")
