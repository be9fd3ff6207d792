from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ixt_data.critics.imported import ImportCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import ConfigError, IxtError, StoreError
from ixt_data.ingestion import ingest
from ixt_data.records import document_id
from ixt_data.store.store import Store


@pytest.fixture
def store(tmp_path):
    return Store.init(tmp_path / "store")


def write(path, records):
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return path


def quarantined(store, report):
    path = Path(store.root, report.quarantine_file)
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_ten_bad_lines_of_a_thousand(store, tmp_path):
    path = tmp_path / "a.jsonl"
    bad = [b"{", b"5", b"{}", b'{"text": 1}', b'{"text": ""}'] * 2
    good = [orjson.dumps({"text": f"text {i}", "id": i}) for i in range(990)]
    for number, line in enumerate(bad):
        good.insert(100 * number, line)
    path.write_bytes(b"\n".join(good) + b"\n")
    report = ingest(store, "web", [path])
    assert (report.documents, report.duplicates, report.quarantined) == (990, 0, 10)
    rows = quarantined(store, report)
    assert [row["line"] for row in rows] == [100 * i + 1 for i in range(10)]
    assert rows[0] == {
        "file": str(path),
        "line": 1,
        "reason": "not JSON: unexpected end of data at column 2",
        "excerpt": "{",
    }
    assert store.snapshot().corpora["web"].documents == 990


def test_rows_and_shards_say_the_same(store, tmp_path):
    records = [
        {"text": f"dé {i} " + "x" * 200, "id": f"d{i}", "stars": i / 2, "Score": i, "tags": [i]}
        for i in range(100)
    ]
    calls = []
    path = write(tmp_path / "a.jsonl", records)
    report = ingest(
        store, "web", [path], stage="sft", shard_bytes=8000, progress=lambda *now: calls.append(now)
    )
    assert report.shards == len(store.snapshot().text_shards()) > 1
    assert report.bytes == sum(len(record["text"].encode()) for record in records)
    assert report.snapshot == store.snapshot().version == 1
    assert calls[-1] == (path.stat().st_size, 100)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    rows = store.sql("SELECT * FROM documents").arrow().to_pylist()
    assert len(rows) == 100
    shards = {
        info.path: list(store.shard(info).rows()) for info in store.snapshot().text_shards(["web"])
    }
    for row in rows:
        sample = shards[row["shard"]][row["row"]]
        record = records[int(row["source_id"][1:])]
        assert sample["text"] == record["text"]
        assert sample["doc_id"] == document_id(record["text"])
        assert (row["n_chars"], row["n_bytes"]) == (len(record["text"]), len(sample["text"]) + 1)
        assert (row["stars"], row["user_Score"]) == (record["stars"], record["Score"])
        assert row["tags"] == [record["Score"]]
        assert (row["corpus"], row["stage"], row["source"]) == ("web", "sft", "a.jsonl")
    ids = store.sql("SELECT doc_id FROM documents ORDER BY source_id LIMIT 1").arrow()["doc_id"]
    assert ids[0].as_py().bytes == document_id(records[0]["text"])


def test_duplicates_are_kept_once(store, tmp_path):
    first = write(tmp_path / "a.jsonl", [{"text": t} for t in "abca"])
    second = write(tmp_path / "b.jsonl", [{"text": t} for t in "bcdd"])
    report = ingest(store, "web", [first, second])
    assert (report.documents, report.duplicates) == (4, 4)
    again = ingest(store, "web", [second])
    assert (again.documents, again.duplicates, again.shards, again.snapshot) == (0, 4, 0, 1)
    assert again.quarantine_file is None
    other = ingest(store, "books", [second])
    assert (other.documents, other.snapshot) == (3, 2)


def test_files_of_one_name_have_distinct_ids(store, tmp_path):
    for folder in ("x/a", "y/a", "b"):
        (tmp_path / folder).mkdir(parents=True)
        write(tmp_path / folder / "data.jsonl", [{"text": f"{folder} 1"}, {"text": f"{folder} 2"}])
    write(tmp_path / "other.jsonl", [{"text": "other"}])
    ingest(store, "web", [*sorted(tmp_path.rglob("*.jsonl"))])
    rows = store.sql("SELECT source, source_id FROM documents").fetchall()
    assert {source for source, _ in rows} == {
        *("x/a/data.jsonl", "y/a/data.jsonl", "b/data.jsonl", "other.jsonl")
    }
    assert len({source_id for _, source_id in rows}) == 7


def test_imported_critiques_never_land_on_a_document_with_a_shared_id(store, tmp_path):
    for folder, texts in {"a": ["one", "two"], "b": ["three"]}.items():
        (tmp_path / folder).mkdir()
        path = write(tmp_path / folder / "data.jsonl", [{"text": text} for text in texts])
        report = ingest(store, "web", [path])
    assert report.remarks == [
        "the source id 'data.jsonl:1' is of several documents of web; "
        "`--critic import` finds these by doc_id only"
    ]
    lines = [{"source_id": f"data.jsonl:{i}", "score": 1.0, "critique": f"for {i}"} for i in (1, 2)]
    annotate(store, "web", ImportCritic(write(tmp_path / "critiques.jsonl", lines)))
    rows = store.sql(
        "SELECT source_id, status, critique FROM documents JOIN critiques USING (doc_id) ORDER BY 1"
    ).fetchall()
    assert rows == [
        ("data.jsonl:1", "invalid", ""),
        ("data.jsonl:1", "invalid", ""),
        ("data.jsonl:2", "ok", "for 2"),
    ]


def test_nothing_but_bad_lines(store, tmp_path):
    report = ingest(store, "web", [write(tmp_path / "a.jsonl", [{"text": 1}] * 3)])
    assert (report.documents, report.quarantined, report.shards, report.snapshot) == (0, 3, 0, 0)
    assert len(quarantined(store, report)) == 3
    assert store.snapshot().version == 0
    assert not Path(store.root, "shards").exists()


def test_no_record_with_the_text_field_names_the_candidates(store, tmp_path):
    records = [{"title": "A", "body": "The text is here.", "n": 1}, {"title": "B", "body": "x"}]
    path = write(tmp_path / "a.jsonl", records)
    with pytest.raises(ConfigError, match=r"'text'.*--text-field can be: body, title$"):
        ingest(store, "web", [path])
    assert store.snapshot().version == 0
    assert not Path(store.root, "quarantine").exists()
    assert ingest(store, "web", [path], text_field="body").documents == 2


def test_text_field_is_checked_before_a_large_input_is_read(store, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"body": "a text", "n": 1}\n' * 800_000)
    calls = []
    with pytest.raises(ConfigError, match=r"field 'content'; .* --text-field can be: body"):
        ingest(store, "web", [path], text_field="content", progress=lambda *n: calls.append(n))
    assert len(calls) == 1
    assert store.log.newest() == 0


def test_all_kinds_at_once(store, tmp_path):
    jsonl = write(tmp_path / "a.jsonl", [{"text": "one", "n": 1}])
    table = pa.table({"text": ["two"], "n": [0.5], "made": pa.array([0], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "b.parquet")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "c.py").write_text("three")
    report = ingest(store, "web", [jsonl, tmp_path / "b.parquet", tmp_path / "src"])
    assert report.documents == 3
    rows = store.sql("SELECT source, source_id, n, made, path FROM documents").arrow().to_pylist()
    assert [row["source"] for row in rows] == ["a.jsonl", "b.parquet", "src"]
    assert [row["n"] for row in rows] == [1.0, 0.5, None]
    assert [row["path"] for row in rows] == [None, None, "c.py"]
    assert rows[1]["made"].year == 1970


def test_wrong_use_writes_nothing(store, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": "x"}])
    with pytest.raises(IxtError, match="does not exist"):
        ingest(store, "web", [path, tmp_path / "none"])
    with pytest.raises(ConfigError, match="pretrain, midtrain, sft"):
        ingest(store, "web", [path], stage="posttrain")
    with pytest.raises(StoreError, match="corpus 'a/b'"):
        ingest(store, "a/b", [path])
    assert store.snapshot().version == 0
    assert not Path(store.root, "quarantine").exists()


def test_another_ingest_of_the_corpus_lands_meanwhile(store, tmp_path):
    ours = write(tmp_path / "a.jsonl", [{"text": f"text {i}", "id": i} for i in range(100)])
    theirs = write(tmp_path / "b.jsonl", [{"text": f"text {i}", "id": i} for i in range(50, 130)])
    elsewhere = write(tmp_path / "c.jsonl", [{"text": "text 1"}])
    landed = []

    def meanwhile(_bytes, _documents):
        if not landed:
            landed.append(ingest(Store.open(store.root), "web", [theirs]))
            ingest(Store.open(store.root), "books", [elsewhere])

    report = ingest(store, "web", [ours], shard_bytes=2000, progress=meanwhile)
    assert (landed[0].documents, report.documents, report.duplicates) == (80, 50, 50)
    assert report.bytes == sum(len(f"text {i}") for i in range(50))
    found = store.sql(
        "SELECT count(*) n, count(DISTINCT doc_id) ids FROM documents WHERE corpus = 'web'"
    ).arrow()
    assert found.to_pylist() == [{"n": 130, "ids": 130}]
    assert store.snapshot().corpora["web"].documents == 130
    rows = (
        store.sql(
            "SELECT source_id, shard, row FROM documents "
            "WHERE corpus = 'web' AND source = 'a.jsonl'"
        )
        .arrow()
        .to_pylist()
    )
    shards = {
        info.path: store.shard(info).column("text") for info in store.snapshot().text_shards()
    }
    assert {shards[r["shard"]][r["row"]] for r in rows} == {f"text {i}" for i in range(50)}


def test_names_agree_between_ingests(store, tmp_path):
    ingest(store, "web", [write(tmp_path / "a.jsonl", [{"text": "a", "Url": "1"}])])
    ingest(store, "books", [write(tmp_path / "b.jsonl", [{"text": "b", "url": "2"}])])
    rows = store.sql("SELECT url FROM documents ORDER BY url").arrow().to_pylist()
    assert [list(row.values()) for row in rows] == [["1"], ["2"]]


def test_many_columns_types_through_sql(store, tmp_path):
    records = [{"text": f"{i}", "x": i, "y": True} for i in range(20)]
    records += [{"text": f"b{i}", "x": "word", "y": None} for i in range(20)]
    report = ingest(store, "web", [write(tmp_path / "a.jsonl", records)], shard_bytes=500)
    assert report.shards > 1
    found = store.sql("SELECT count(*) FILTER (x = 'word') w, count(y) y FROM documents").arrow()
    assert found.to_pylist() == [{"w": 20, "y": 20}]


def test_memory_does_not_grow_with_one_shard_of_small_documents(store, tmp_path, monkeypatch):
    monkeypatch.setattr("ixt_data.ingestion.text_shards.SHARD_DOCUMENTS", 100)
    path = write(tmp_path / "a.jsonl", [{"text": str(i)} for i in range(1000)])
    assert ingest(store, "web", [path]).shards == 10
    big = [{"text": f"t{i}", "html": "x" * 1000, "tokens": [1] * 1000} for i in range(100)]
    other = ingest(store, "b", [write(tmp_path / "b.jsonl", big)], shard_bytes=30_000)
    assert other.shards > 1


@pytest.mark.parametrize(("progress", "is_shown"), [(True, True), (False, False), (None, False)])
def test_ingest_progress_flag_decides_whether_a_bar_is_shown(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    progress: bool | None,
    is_shown: bool,
) -> None:
    # A terminal shows a bar at once; without one a line follows only after a minute.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    (tmp_path / "a.txt").write_text("A quick brown fox.")
    ingest(store, "web", [tmp_path / "a.txt"], progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("ingest web" in err) is is_shown


def test_ingest_progress_function_gets_bytes_and_documents(store: Store, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    (tmp_path / "a.txt").write_text("A quick brown fox.")
    ingest(store, "web", [tmp_path / "a.txt"], progress=lambda *counts: calls.append(counts))
    assert calls[-1] == (18, 1)


def test_ingest_input_that_is_one_path_is_a_list_of_one(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A quick brown fox.")
    assert ingest(store, "web", str(tmp_path / "a.txt")).documents == 1
