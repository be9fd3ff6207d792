"""The store's verbs as a user runs them: one process each."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import as_json, ixt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store S: 990 documents of two sources, critiqued and tagged."""
    folder = tmp_path_factory.mktemp("cli")
    lines = [
        json.dumps({"text": f"Document {i} says something. " * (i % 9), "lang": "en", "id": i})
        for i in range(1000)
    ]
    lines[::100] = ["{", "[]", '{"id": 1}', '{"text": 3}', '{"text": " "}'] * 2
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    ixt("init", folder=folder)
    return folder


def test_verbs_run_end_to_end(folder: Path) -> None:
    report = as_json("ingest", "--corpus", "web", "a.jsonl", folder=folder)
    rejected = [
        json.loads(line)
        for line in (folder / "S" / report["quarantine_file"]).read_text().splitlines()
    ]
    assert report["quarantined"] == len(rejected)
    assert [r["line"] for r in rejected[:1]] == [1]
    assert all(r["reason"] and r["file"].endswith("a.jsonl") for r in rejected)
    assert report["documents"] + report["duplicates"] + report["quarantined"] == 1000
    documents = report["documents"]
    report = as_json("critique", "--corpus", "web", "--critic", "rules", folder=folder)
    assert (report["documents"], report["ok"], report["failed"]) == (documents, documents, 0)
    assert as_json("tag", "web-v1", folder=folder) == {"tag": "web-v1", "snapshot": 2}
    assert as_json("tag", folder=folder) == {"tags": {"web-v1": 2}}
    sql = (
        "SELECT source, count(*) n, avg(score) s FROM documents JOIN critiques USING (doc_id) "
        "GROUP BY 1 ORDER BY 2 DESC"
    )
    (row,) = as_json("query", sql, folder=folder)
    assert (row["source"], row["n"]) == ("a.jsonl", documents)
    assert 0 <= row["s"] <= 1
    assert as_json("verify", folder=folder)["ok"]
    assert [c["op"] for c in as_json("log", folder=folder)["commits"]] == ["critique", "ingest"]
    assert as_json("diff", 1, "web-v1", folder=folder)["critiques"][0]["added"] == documents
    assert as_json("compact", folder=folder)["merges"] == []
    assert as_json("gc", "--dry-run", folder=folder)["files"] == 0


def test_query_writes_csv_parquet_and_text(folder: Path, tmp_path: Path) -> None:
    sql = "SELECT doc_id, lang, n_chars FROM documents ORDER BY n_chars, doc_id LIMIT 3"
    header, *lines = ixt("query", sql, "-o", "csv", folder=folder).stdout.splitlines()
    assert (header, len(lines)) == ("doc_id,lang,n_chars", 3)
    ixt("query", sql, "-o", "parquet", "--to", tmp_path / "x.parquet", folder=folder)
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "x.parquet")["lang"].to_pylist() == ["en"] * 3
    assert "lang" in ixt("query", sql, folder=folder).stdout
    assert as_json("query", "SELECT count(*) n FROM critiques", "--at", 1, folder=folder) == [
        {"n": 0}
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("query", "SELECT nope FROM documents"), 1, "nope"),
        (("query", "DROP VIEW documents"), 1, "only read-only statements"),
        (("query", "SELECT 1", "--at", "v9"), 1, "no tag 'v9'"),
        (("query", "SELECT 1", "--store", "nowhere"), 1, "ixt init --store nowhere"),
        (("init",), 1, "already is a store"),
        (("critique", "--corpus", "wbe", "--critic", "rules"), 1, "corpora: web"),
        (("critique", "--corpus", "web", "--critic", "no.such:Critic"), 1, "no.such"),
        (("ingest", "--corpus", "web", "missing.jsonl"), 1, "does not exist"),
        (("ingest", "--corpus", "../web", "a.jsonl"), 1, "corpus '../web'"),
        (("ingest", "a.jsonl"), 2, "--corpus"),
        (("tag", "web-v1", "--at", "1"), 1, "tags do not move"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)
def test_error_is_one_line_with_the_next_command(
    folder: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = ixt(*arguments, folder=folder, code=code)
    assert "Traceback" not in done.stderr
    assert said in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_strict_ingest_exits_1_and_keeps_good_records(folder: Path, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"text": "good and new"}\nbad\n')
    done = ixt(
        "ingest", "--corpus", "b", tmp_path / "b.jsonl.gz", "--strict", folder=folder, code=1
    )
    assert "1 record rejected" in done.stderr
    rows = as_json("query", "SELECT source FROM documents WHERE corpus = 'b'", folder=folder)
    assert rows == [{"source": "b.jsonl.gz"}]


@pytest.mark.parametrize("size", ["0", "-1", "2049", "5000", "nan"])
def test_shard_size_out_of_bounds_is_refused(size: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    ixt("init", folder=tmp_path)
    refused = ixt(
        *("ingest", "--corpus", "web", f"--shard-mb={size}", "a.jsonl"), folder=tmp_path, code=1
    )
    assert f"shard size {size} MiB: use more than 0 and at most 2048" in refused.stderr
    assert not (tmp_path / "S" / "shards").exists()


def test_select_saves_lists_shows_and_drops(folder: Path, tmp_path: Path) -> None:
    saved = as_json("select", "save", "long", "n_chars > 100", "--note", "why", folder=folder)
    assert saved["documents"] > 0
    assert saved["critic"] is None
    listed = as_json("select", "list", folder=folder)["selections"]
    assert [(one["name"], one["note"]) for one in listed] == [("long", "why")]
    shown = as_json("select", "show", "long", folder=folder)
    assert shown["documents_now"] == saved["documents"]
    exported = as_json("export", tmp_path / "x.parquet", "--selection", "long", folder=folder)
    assert exported["documents"] == saved["documents"]
    gone = as_json("select", "drop", "long", folder=folder)["snapshot"]
    past = as_json("select", "list", "--at", gone - 1, folder=folder)
    assert past["selections"] == listed
    history = as_json("select", "show", "long", "--history", folder=folder)["history"]
    assert [change["version"] for change in history] == [gone - 1, gone]
    assert "ixt select save" in ixt("select", "list", folder=folder).stdout


def test_ingest_reads_standard_input_and_patterns(tmp_path: Path) -> None:
    ixt("init", folder=tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"text,n\nfrom {name},1\n")
    report = as_json("ingest", "--corpus", "web", "*.csv", folder=tmp_path)
    assert report["documents"] == 2
    command = [sys.executable, "-m", "ixt_data", "ingest", "--corpus", "piped", "-"]
    piped = subprocess.run(
        [*command, "--output", "json"],
        input=gzip.compress(b'{"text": "from a pipe", "id": 7}\n'),
        capture_output=True,
        cwd=tmp_path,
        check=True,
        env=os.environ | {"IXT_STORE": str(tmp_path / "S")},
    )
    assert json.loads(piped.stdout)["documents"] == 1
    sql = "SELECT source, source_id FROM documents WHERE corpus = 'piped'"
    assert as_json("query", sql, folder=tmp_path) == [{"source": "stdin", "source_id": "7"}]
