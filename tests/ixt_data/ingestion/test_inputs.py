import gzip
import os
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ixt_data.errors import ConfigError, IxtError, StoreError
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.records import Document, document_id
from ixt_data.storage import open_storage
from ixt_data.storage.byte_streams import ByteStream, LongLine, split_lines


def read(*paths, **options):
    records = [record for source in open_inputs(paths, **options) for record in source]
    documents = [record for record in records if isinstance(record, Document)]
    rejected = [record for record in records if isinstance(record, RejectedRecord)]
    return documents, rejected


def lines(*records):
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def compressed(path, data):
    if path.suffix == ".gz":
        return gzip.compress(data)
    return zstandard.ZstdCompressor().compress(data) if path.suffix == ".zst" else data


ALL_JSON = ["a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz", "a.jsonl.zst", "a.json.gz"]


@pytest.mark.parametrize("name", ALL_JSON)
def test_json_lines_plain_and_compressed(tmp_path, name):
    path = tmp_path / name
    records = [{"text": f"text {i}", "id": i, "lang": "en"} for i in range(1000)]
    path.write_bytes(compressed(path, lines(*records)))
    (source,) = open_inputs([path])
    documents = list(source)
    assert [d.text for d in documents] == [r["text"] for r in records]
    assert documents[7] == Document(document_id("text 7"), "text 7", name, "7", {"lang": "en"})
    assert source.consumed == source.size == path.stat().st_size


def test_several_gzip_members_and_zstd_frames(tmp_path):
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        path = tmp_path / name
        parts = [compressed(path, lines({"text": f"part {i}"})) for i in range(3)]
        skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
        path.write_bytes((b"\0\0" if path.suffix == ".gz" else skippable).join(parts))
        documents, rejected = read(path)
        assert [d.text for d in documents] == ["part 0", "part 1", "part 2"]
        assert not rejected


def test_what_is_wrong_with_a_line(tmp_path):
    bad = {
        b"{": "not JSON: unexpected end of data at column 2",
        b"[1]": "not a JSON object but an array",
        b"null": "not a JSON object but null",
        b'{"body": "x", "id": 1}': "no field 'text' (fields: body, id)",
        b"{}": "no field 'text'",
        b'{"text": 5}': "field 'text' is not a string but a number",
        b'{"text": null}': "field 'text' is not a string but null",
        b'{"text": "\xff"}': "not UTF-8",
        b'{"text": "\\ud800"}': "not UTF-8: a lone surrogate",
        b'{"text": "", "id": 1}': "empty text",
        b'{"text": " \\n\\u2003"}': "empty text",
        b"": "empty line",
        b" \t": "empty line",
        b"[" * 5000: "nested more than 128 levels deep",
    }
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in bad) + b'{"text": "good"}\n')
    documents, rejected = read(path)
    assert [(d.text, d.source_id) for d in documents] == [("good", f"a.jsonl:{len(bad) + 1}")]
    assert [r.line for r in rejected] == list(range(1, len(bad) + 1))
    for found, reason in zip(rejected, bad.values(), strict=True):
        assert found.reason.startswith(reason)
        assert found.file == str(path)
    assert rejected[0].excerpt == "{"
    assert rejected[7].excerpt == '{"text": "\ufffd"}'
    assert len(rejected[-1].excerpt) == 200


@pytest.mark.parametrize(
    ("data", "texts", "bad"),
    [
        (b'{"text":"a"}\n{"text":"b"}', "ab", []),
        (b'\xef\xbb\xbf{"text":"a"}\r\n{"text":"b"}\r\n', "ab", []),
        (b'{"text":"a"}\n\n', "a", []),
        (b'{"text":"a"}\r\n\r\n', "a", []),
        (b'{"text":"a"}\n\n\n', "a", [2]),
        (b'\n{"text":"a"}\n', "a", [1]),
        (b'{"text":"a"}\n  ', "a", [2]),
        (b"", "", []),
        (b"\n", "", []),
    ],
)
def test_line_ends(tmp_path, data, texts, bad):
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    documents, rejected = read(path)
    assert "".join(d.text for d in documents) == texts
    assert [(r.line, r.reason) for r in rejected] == [(line, "empty line") for line in bad]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_truncated_keeps_what_was_decoded(tmp_path, name):
    path = tmp_path / name
    records = [{"text": os.urandom(300).hex()} for _ in range(2000)]
    data = compressed(path, lines(*records))
    path.write_bytes(data[: len(data) // 2])
    documents, rejected = read(path)
    assert 0 < len(documents) < 2000
    assert [d.text for d in documents] == [r["text"] for r in records[: len(documents)]]
    (last,) = rejected
    assert last.line in (len(documents), len(documents) + 1)
    assert last.reason.startswith("truncated")


def test_a_whole_last_line_of_a_truncated_file_is_kept(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text":"a"}\n{"text":"b"}')[:-8])
    documents, rejected = read(path)
    assert [d.text for d in documents] == ["a", "b"]
    assert [(r.line, r.reason) for r in rejected] == [(2, "truncated gzip data")]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_corrupt_is_a_rejection(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(compressed(path, lines({"text": "a"})) + b"garbage at the end")
    documents, rejected = read(path)
    assert [d.text for d in documents] == ["a"]
    assert [r.line for r in rejected] == [2]
    assert rejected[0].reason.startswith("corrupt")


def test_long_lines_are_skipped_not_held():
    chunks = [b"a\n" + b"b" * 3000, *[b"b" * 3000] * 4, b"b\nc\n" + b"d" * 5001 + b"\ne"]
    found = list(split_lines(chunks, limit=5000))
    assert [line[:1] for line in found] == [b"a", b"b", b"c", b"d", b"e"]
    assert [isinstance(line, LongLine) for line in found] == [False, True, False, True, False]
    assert max(map(len, found)) <= 1024


def test_a_line_of_the_limit_is_a_line():
    assert list(split_lines([b"x" * 10, b"\n", b"y" * 10], limit=10)) == [b"x" * 10, b"y" * 10]
    (line,) = split_lines([b"x" * 10, b"x"], limit=10)
    assert isinstance(line, LongLine)


def test_a_gzip_bomb_comes_in_bounded_chunks(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(bytes(64 << 20)))
    sizes = [len(chunk) for chunk in ByteStream(path)]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 1 << 20


def test_fields(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        lines(
            {"body": "one", "url": "u1", "source": "wiki", "id": 3, "tags": ["x"]},
            {"body": "two", "url": None, "source": {"name": "x"}, "id": 4},
            {"body": "three", "url": 7, "source": None},
            {"body": "four", "ulr": "u4"},
        )
    )
    documents, rejected = read(path, text_field="body", id_field="url")
    assert [(one.line, one.reason) for one in rejected] == [
        (4, "no field 'url' (fields: body, ulr)")
    ]
    assert [(d.source, d.source_id) for d in documents] == [
        ("wiki", "u1"),
        ("a.jsonl", "a.jsonl:2"),
        ("a.jsonl", "7"),
    ]
    assert documents[0].metadata == {"id": 3, "tags": ["x"]}
    assert documents[1].metadata == {"id": 4, "source": {"name": "x"}}
    with pytest.raises(ConfigError, match="two are 'url'"):
        open_inputs([path], text_field="url", id_field="url")


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_parquet(tmp_path):
    stamps = pa.array([1, 2, None, 4], pa.timestamp("ms", "UTC"))
    path = parquet(
        tmp_path / "a.parquet", text=["a", None, "", "d"], id=[1, 2, 3, None], at=stamps, n=[1] * 4
    )
    (source,) = open_inputs([path])
    first, null, empty, last = source
    assert (first.text, first.source, first.source_id) == ("a", "a.parquet", "1")
    assert first.metadata == {"at": stamps.cast(pa.timestamp("us", "UTC"))[0], "n": 1}
    assert null == RejectedRecord(str(path), 2, "field 'text' is not a string but null")
    assert (empty.line, empty.reason) == (3, "empty text")
    assert last.source_id == "a.parquet:4"
    assert source.consumed == source.size == path.stat().st_size


def test_parquet_strings_that_are_not_utf8(tmp_path):
    raw = pa.array([b"good", b"\xff", b"fine"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    path = parquet(tmp_path / "a.parquet", text=broken)
    binary = parquet(tmp_path / "b.parquet", text=raw)
    for documents, rejected in (read(path), read(binary)):
        assert [d.text for d in documents] == ["good", "fine"]
        assert [(r.line, r.reason) for r in rejected] == [(2, "not UTF-8")]


def test_parquet_with_another_text_column(tmp_path):
    path = parquet(tmp_path / "a.parquet", body=["a"], lang=["en"])
    with pytest.raises(ConfigError, match=r"no column 'text'. --text-field can be: body, lang"):
        open_inputs([path])
    with pytest.raises(ConfigError, match=r"no column 'url'. --id-field can be"):
        open_inputs([path], text_field="body", id_field="url")


def test_corrupt_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr("ixt_data.ingestion.table_files.BATCH_ROWS", 8)
    path = parquet(tmp_path / "a.parquet", text=[os.urandom(50).hex() for _ in range(100)])
    data = bytearray(path.read_bytes())
    half = len(data) // 3
    data[half : half + 400] = b"\xff" * 400
    path.write_bytes(data)
    documents, rejected = read(path)
    assert 0 < len(documents) < 100
    assert rejected[-1].line == len(documents) + 1
    assert rejected[-1].reason.startswith("corrupt Parquet data")
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(IxtError, match="not a readable Parquet file"):
        open_inputs([path])


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "code"
    files = {
        "b.py": b"print(1)\r\n",
        "a/z.md": "\ufeffdéjà vu".encode(),
        "a.txt": b"text",
        "a/empty.py": b" \n",
        "bin.so": b"\x7fELF\xff\xfe",
        "utf16.txt": "ab".encode("utf-16-le"),
        "latin.txt": b"one\ntw\xe9\n",
        "data.jsonl": b'{"text": "x"}\n',
        ".git/config": b"hidden",
        ".hidden": b"hidden",
        "a/__pycache__/z.pyc": b"skipped",
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_folder(folder):
    (source,) = open_inputs([folder])
    records = list(source)
    documents = [r for r in records if isinstance(r, Document)]
    assert [(d.source, d.source_id, d.text) for d in documents] == [
        ("code", "a/z.md", "déjà vu"),
        ("code", "a.txt", "text"),
        ("code", "b.py", "print(1)\r\n"),
    ]
    assert documents[0].metadata == {"path": "a/z.md"}
    rejected = {Path(r.file).name: r for r in records if isinstance(r, RejectedRecord)}
    assert {name: r.reason for name, r in rejected.items()} == {
        "empty.py": "empty text",
        "bin.so": "not UTF-8",
        "utf16.txt": "not text: contains zero bytes",
        "latin.txt": "not UTF-8",
        "data.jsonl": "a file of records inside a folder of texts: pass it as a separate input",
    }
    assert rejected["latin.txt"].line == 2
    assert source.consumed == source.size


def test_folder_links(folder):
    outside = folder.parent / "secret.txt"
    outside.write_text("secret")
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "again.py").symlink_to("b.py")
    (folder / "leaves.txt").symlink_to(outside)
    (folder / "up").symlink_to("..")
    (folder / "nothing").symlink_to("/nonexistent/file")
    documents, rejected = read(folder)
    assert [d.source_id for d in documents] == ["a/z.md", "a.txt", "b.py"]
    links = [Path(r.file).name for r in rejected if r.reason.startswith("symbolic link")]
    assert links == ["leaves.txt", "nothing", "up"]
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert [d.source_id for d in read(link)[0]] == ["a/z.md", "a.txt", "b.py"]


def test_names_that_are_not_utf8(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.py"
    Path(os.fsdecode(path)).write_text("text")
    ((document,), _) = read(tmp_path)
    assert document.source_id == "\ufffd.py"


def test_a_pipe_in_a_folder_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert [r.reason for r in read(tmp_path)[1]] == ["not a regular file"]


def test_a_single_text_file(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("Call me Ishmael.")
    ((document,), rejected) = read(path)
    assert (document.source, document.source_id) == ("book.txt", "book.txt")
    assert document.metadata == {"path": "book.txt"}
    assert not rejected


def test_inputs_that_cannot_be_read(tmp_path):
    with pytest.raises(IxtError, match=r"none\.jsonl does not exist"):
        open_inputs([tmp_path / "none.jsonl"])
    with pytest.raises(IxtError, match=r"no file matches this pattern"):
        open_inputs([tmp_path / "*.jsonl"])
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(IxtError, match=r"broken is a link to a path that does not exist"):
        open_inputs([tmp_path / "broken"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(IxtError, match=r"folder is a folder without a file"):
        open_inputs([tmp_path / "folder"])
    for name, head in {"a.pdf": b"%PDF-1.4", "a.rtf": b"{\\rtf1", "a": b"x\0\xff"}.items():
        (tmp_path / name).write_bytes(head)
        with pytest.raises(ConfigError, match="of no known format; --format can be: arrow, csv"):
            open_inputs([tmp_path / name])


def test_a_file_that_vanishes_meanwhile(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    (source,) = open_inputs([tmp_path])
    records = iter(source)
    assert next(records).text == "a"
    (tmp_path / "b.txt").unlink()
    (gone,) = records
    assert gone.reason == "cannot be read: No such file or directory"
    path = tmp_path / "c.jsonl"
    path.write_text("{}")
    (source,) = open_inputs([path])
    path.unlink()
    with pytest.raises(IxtError, match="cannot be read"):
        list(source)


@pytest.mark.parametrize("name", ["in.parquet", "in.csv", "in.jsonl", "in.txt"])
def test_path_that_is_not_utf8_is_read(tmp_path, name):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    if name == "in.parquet":
        pq.write_table(pa.table({"text": ["a"]}), tmp_path / name)
        (tmp_path / name).rename(folder / name)
    else:
        lines = {"in.csv": "text\na\n", "in.jsonl": '{"text": "a"}\n', "in.txt": "a"}
        (folder / name).write_text(lines[name])
    documents, rejected = read(folder / name)
    assert [document.text for document in documents] == ["a"]
    assert rejected == []
    with pytest.raises(StoreError, match="not UTF-8"):
        open_storage(folder / "S")
