"""Critiques from files, and every way in which such a file can be wrong."""

import gzip

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ixt_data.critics.base import critic_id
from ixt_data.critics.imported import BATCH_ROWS, ImportCritic
from ixt_data.errors import CriticError
from ixt_data.records import Document, Span, document_id, format_id


def document(text="hello world", source_id=""):
    return Document(document_id(text), text, "src", source_id)


def jsonl(path, *records):
    path.write_bytes(b"\n".join(map(orjson.dumps, records)))
    return path


FULL = {
    "doc_id": format_id(document_id("hello world")),
    "critique": "a greeting",
    "score": 0.75,
    "scores": {"style": 3, "depth": 1.5},
    "thinking": "hm",
    "spans": [[0, 5, "right"], {"start": 6, "end": 11, "verdict": "wrong", "tag": "vague"}],
    "flags": ["short"],
    "mine": "left alone",
}


def test_import_reads_every_column(tmp_path):
    critique = ImportCritic(jsonl(tmp_path / "c.jsonl", FULL)).judge(document())
    assert (critique.status, critique.critique, critique.score) == ("ok", "a greeting", 0.75)
    assert critique.scores == {"style": 3.0, "depth": 1.5}
    assert critique.spans == (Span(0, 5, "right"), Span(6, 11, "wrong", "vague"))
    assert (critique.thinking, critique.flags) == ("hm", ("short",))


@pytest.mark.parametrize(
    ("name", "compress"),
    [("c.jsonl.gz", gzip.compress), ("c.jsonl.zst", zstandard.compress)],
)
def test_import_reads_compressed_files(tmp_path, name, compress):
    (tmp_path / name).write_bytes(compress(orjson.dumps(FULL) + b"\n\n"))
    assert ImportCritic(tmp_path / name).judge(document()).score == 0.75


def test_import_of_parquet_matches_bytes_and_source_id(tmp_path):
    table = pa.table(
        {
            "doc_id": pa.array([document_id("hello world"), None], pa.binary(16)),
            "source_id": [None, "a/b.py"],
            "score": [1.0, float("nan")],
            "critique": ["best", "text only"],
            "scores": pa.array([[("style", 1.0)], None], pa.map_(pa.string(), pa.float64())),
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    critic = ImportCritic(tmp_path / "c.parquet")
    by_id, by_source, missing = critic.run(
        [document(), document("other", "a/b.py"), document("third", "c.py")]
    )
    assert (by_id.score, by_id.scores) == (1.0, {"style": 1.0})
    assert (by_source.score, by_source.critique) == (None, "text only")
    assert missing.status == "missing"
    assert missing.error is not None
    assert "c.py" in missing.error


def test_import_of_duplicates_uses_the_last_and_counts_them(tmp_path, caplog):
    records = [{"source_id": i % 5000, "score": (i // 5000) / 4} for i in range(3 * 5000)]
    critic = ImportCritic(jsonl(tmp_path / "c.jsonl", *records))
    assert critic.duplicates == 10_000
    assert "10000 records were replaced" in caplog.text
    assert len(records) > 2 * BATCH_ROWS
    assert critic.judge(document(source_id="4999")).score == 0.5


def test_import_scales_scores(tmp_path):
    path = jsonl(tmp_path / "c.jsonl", {"source_id": "x", "score": 4})
    with pytest.raises(CriticError, match=r"c\.jsonl line 1: score=4 is not between 0 and 1"):
        ImportCritic(path)
    assert ImportCritic(path, score_min="1", score_max="5").judge(
        document(source_id="x")
    ).score == (0.75)
    with pytest.raises(CriticError, match="score_min='a'"):
        ImportCritic(path, score_min="a")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"score": 1}, "neither a doc_id nor a source_id"),
        ({"doc_id": "xyz", "score": 1}, "doc_id='xyz'"),
        ({"source_id": "a"}, "neither a critique nor a score"),
        ({"source_id": "a", "score": "1"}, "score='1'"),
        ({"source_id": "a", "score": True}, "score=True"),
        ({"source_id": "a", "score": 1, "critique": 3}, "critique=3 is not text"),
        ({"source_id": "a", "score": 1, "scores": {"x": "y"}}, "scores.x='y'"),
        ({"source_id": "a", "score": 1, "scores": 3}, "scores=3"),
        ({"source_id": "a", "score": 1, "spans": [[0]]}, r"span \[0\]"),
        ({"source_id": "a", "score": 1, "spans": [[5, 2, "wrong"]]}, "offsets"),
        ({"source_id": "a", "score": 1, "flags": [1]}, "flags"),
        ([1, 2], "not a JSON object"),
    ],
)
def test_import_of_a_bad_record_names_file_and_line(tmp_path, record, reason):
    path = jsonl(tmp_path / "c.jsonl", {"source_id": "ok", "score": 1}, record)
    with pytest.raises(CriticError, match=rf"c\.jsonl line 2: .*{reason}"):
        ImportCritic(path)


def test_import_of_broken_files_names_the_problem(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(b'{"source_id": "a", "score": 1}\n{"sour')
    with pytest.raises(CriticError, match=r"c\.jsonl line 2"):
        ImportCritic(tmp_path / "c.jsonl")
    (tmp_path / "c.parquet").write_bytes(b"no parquet")
    with pytest.raises(CriticError, match=r"c\.parquet"):
        ImportCritic(tmp_path / "c.parquet")
    with pytest.raises(CriticError, match="does not exist"):
        ImportCritic(tmp_path / "none.jsonl")
    with pytest.raises(CriticError, match="must end in one of"):
        ImportCritic(tmp_path / "c.csv")


def test_import_of_a_span_beyond_the_document_is_invalid(tmp_path):
    path = jsonl(tmp_path / "c.jsonl", {"source_id": "a", "score": 1, "spans": [[0, 99, "wrong"]]})
    critique = ImportCritic(path).judge(document(source_id="a"))
    assert critique.status == "invalid"
    assert critique.score is None


def test_import_of_an_empty_file_has_no_critiques(tmp_path):
    assert ImportCritic(jsonl(tmp_path / "c.jsonl")).judge(document()).status == "missing"


def test_import_id_depends_on_content_not_path(tmp_path):
    first = critic_id(ImportCritic(jsonl(tmp_path / "a.jsonl", FULL)))
    assert critic_id(ImportCritic(jsonl(tmp_path / "b.jsonl", FULL))) == first
    changed = jsonl(tmp_path / "a.jsonl", {**FULL, "score": 0.5})
    assert critic_id(ImportCritic(changed)) != first
