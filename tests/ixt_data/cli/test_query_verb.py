"""`ixt query`: files, parameters, forms, errors; and its prompt in a real terminal."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_stores import Length, add_documents
from terminal import Terminal

from ixt_data.cli.completion import is_complete
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import QueryError
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store

HEAVY = "SELECT sum(sqrt(a.i * b.i)) AS s FROM range(300000) a(i), range(300000) b(i)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = Store.init(tmp_path_factory.mktemp("query") / "S")
    add_documents(store, ["a" * n for n in range(1, 31)], lang=["en", "de", "fr"] * 10)
    annotate(store, "web", Length())
    save_selection(store, "good", "score >= 0.8")
    store.tag("v1")
    return str(store.root)


def query(root: str, *arguments: object, code: int = 0, stdin: str | None = None) -> str:
    command = [sys.executable, "-m", "ixt_data", "query", "--store", root, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else " ".join(done.stderr.split())


def test_file_with_parameters(root: str, tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    file.write_text(
        "-- By language\nSELECT lang, count(*) AS n FROM documents\n"
        "WHERE n_chars >= $least AND lang = any($langs) GROUP BY 1 ORDER BY 1;\n"
    )
    given = ("-f", file, "-p", "least=10", "--param", 'langs=["en", "de"]')
    assert json.loads(query(root, *given, "-o", "json")) == [
        {"lang": "de", "n": 7},
        {"lang": "en", "n": 7},
    ]
    query(root, *given, "-o", "parquet", "--to", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pydict() == {"lang": ["de", "en"], "n": [7, 7]}
    text = "SELECT typeof($a) a, typeof($b) b, typeof($c) c, typeof($d) d, $d AS a"
    pairs = [f"--param={pair}" for pair in ("a=1", "b=0.5", "c=true", "d=12 o'clock")]
    (row,) = json.loads(query(root, text, *pairs, "-o", "json"))
    assert row["a"] in ("INTEGER", "BIGINT")
    assert (row["b"], row["c"], row["d"]) == ("DOUBLE", "BOOLEAN", "VARCHAR")
    assert row["a_1"] == "12 o'clock"


def test_statements_of_a_file_print_one_table_each(root: str, tmp_path: Path) -> None:
    both = "SELECT 41 AS one; SELECT $x AS two;"
    shown = query(root, "-", "-p", "x=42", stdin=both)
    assert shown.split() == ["one", "41", "two", "42"]
    assert query(root, stdin="SELECT 7 AS x").split() == ["x", "7"]
    said = query(root, "-", "-p", "x=42", "-o", "json", stdin=both, code=1)
    assert "--output json requires one statement; this text has 2" in said


def test_empty_result_has_columns(root: str, tmp_path: Path) -> None:
    nothing = "SELECT lang, n_chars FROM documents WHERE false"
    assert query(root, nothing, "-o", "csv") == "lang,n_chars\n"
    assert json.loads(query(root, nothing, "-o", "json")) == []
    assert query(root, nothing, "-o", "jsonl") == ""
    query(root, nothing, "-o", "parquet", "--to", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").column_names == ["lang", "n_chars"]


ERRORS = {
    "SELECT scor FROM critiques": 'Did you mean "score"',
    "SELECT c.stauts FROM critiques c": 'Did you mean "status" of critiques',
    "SELECT score FROM documents": "'score' is a column of critiques and critiques_all: join it",
    "SELECT * FROM documnts": 'Did you mean "documents"?',
    "SELECT * FROM zebras": "zebras does not exist! Views: documents, critiques, critiques_all,",
    "SELECT 1,\nnope\nFROM documents": "[line 2: nope]",
    "SELECT $x": "$x has no value",
    "SELEC 1": 'syntax error at or near "SELEC"',
}


@pytest.mark.parametrize("sql", ERRORS)
def test_error_names_the_nearest_column(root: str, sql: str) -> None:
    with pytest.raises(QueryError) as caught:
        Store.open(root).catalog().run(sql, {})
    said = str(caught.value)
    assert ERRORS[sql] in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("SELECT 1", "-p", "x"), 2, "'x' is not NAME=VALUE"),
        (("SELECT 1", "-p", "x=1"), 1, "$x is not in the statement; parameters: none"),
        (("SELECT 1; SELECT 2", "-p", "x=1"), 1, "no statement uses $x"),
        (("-f", "absent.sql"), 1, "absent.sql: cannot be read"),
        (("SELECT 1", "-f", "absent.sql"), 2, "give one of SQL, a file of SQL"),
        (("SELECT scor FROM critiques",), 1, 'Did you mean "score"'),
    ],
)
def test_wrong_usage_states_the_reason(root: str, arguments: tuple, code: int, said: str) -> None:
    assert said in query(root, *arguments, code=code).replace("│ ", "").replace(" │", "")


def test_control_characters_are_escaped(root: str) -> None:
    assert query(root, "SELECT chr(27) || '[2J' AS x").split() == ["x", r"\x1b[2J"]


def test_ctrl_c_cancels_a_query(root: str) -> None:
    command = [sys.executable, "-m", "ixt_data", "query", "--store", root, HEAVY]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    time.sleep(4)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said.strip()) == (1, "error: the query was cancelled")
    assert time.monotonic() - began < 10


def test_statement_is_complete_after_a_semicolon() -> None:
    whole = ["SELECT 1;", "SELECT ';' ; ", "SELECT 1; -- that's all\n", 'SELECT "a;b";']
    parts = ["SELECT 1", "SELECT ';", "SELECT 1 -- ;", "SELECT 1 /* ;", 'SELECT "a;', "SELECT $$;"]
    assert [is_complete(text) for text in whole + parts] == [True] * 4 + [False] * 6


@pytest.fixture
def prompt(root: str, tmp_path: Path):
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "PAGER": "cat"}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-m", "ixt_data", "query", "--store", root]
    with Terminal(command, environment) as terminal:
        terminal.wait_for("ixt 5>")
        yield terminal


def enter(prompt: Terminal, keys: str, shown: str, then: str = "ixt 5>") -> None:
    """Enter a line; wait for its output and for the next prompt."""
    prompt.type(keys + "\r")
    prompt.wait_for(shown)
    prompt.wait_for(then)


def test_prompt_runs_statements_and_commands(prompt: Terminal, tmp_path: Path) -> None:
    prompt.type("SELECT max(n_chars) + 12 AS longest,\r")
    prompt.wait_for("...>")
    enter(prompt, "';' AS semicolon FROM documents;", "42")
    # An error is printed and the prompt stays.
    enter(prompt, "SELECT scor FROM critiques;", 'Did you mean "score"')
    enter(prompt, ".tables", "selected.good")
    enter(prompt, ".schema critics", "critic_id")
    enter(prompt, ".at 1", "snapshot 1", "ixt 1>")
    enter(
        prompt,
        "SELECT 'none' AS said FROM documents ANTI JOIN critiques USING (doc_id) LIMIT 1;",
        "\r\nnone",
        "ixt 1>",
    )
    enter(prompt, ".at v9", "no tag 'v9'", "ixt 1>")
    enter(prompt, ".at", "snapshot 5")
    enter(prompt, ".param least=29", "$least = 29")
    enter(prompt, "SELECT $most;", "$most has no value")
    enter(prompt, ".nonsense", "commands: .help, .tables")
    prompt.type(f".mode csv {tmp_path / 'x.csv'}\r")
    file = tmp_path / "q.sql"
    file.write_text("SELECT n_chars FROM documents WHERE n_chars >= $least ORDER BY 1;")
    enter(prompt, f".read {file}", "written to")
    assert (tmp_path / "x.csv").read_text() == "n_chars\n29\n30\n"
    prompt.type(".quit\r")
    assert prompt.end() == 0
    history = (tmp_path / "ixt" / "query_history").read_text()
    assert "+SELECT max(n_chars) + 12 AS longest,\n+';' AS semicolon FROM documents;" in history


def test_prompt_completes_names(prompt: Terminal) -> None:
    prompt.type("SELECT coalesce(n_thi\t")
    prompt.wait_for("nking_tokens")
    prompt.type(", 42) AS x FROM critiques c WHERE c.entr\t")
    prompt.wait_for("opy")
    enter(prompt, " IS NULL LIMIT 1;", "\r\n42")
    prompt.type(".sche\t")
    prompt.wait_for("ma")
    prompt.type(" sele\t")
    prompt.wait_for("ctions")
    enter(prompt, "", "predicate")


def test_prompt_limits_long_results(prompt: Terminal) -> None:
    prompt.type(".limit 25\r")
    enter(prompt, "SELECT n_chars AS n FROM documents ORDER BY 1;", "first 25 rows; .limit 0")


def test_ctrl_c_at_the_prompt_cancels_only_the_query(prompt: Terminal) -> None:
    prompt.type("SELECT half typ\x03")
    prompt.type(f"{HEAVY};\r")
    prompt.wait_for("querying")
    prompt.type("\x03")
    prompt.wait_for("the query was cancelled", 20)
    prompt.wait_for("ixt 5>")
    enter(prompt, "SELECT 40 + 2 AS answer;", "42")
    prompt.type("\x04")
    assert prompt.end() == 0


def test_nested_values_are_printed_as_duckdb_prints_them(root: str) -> None:
    sql = "SELECT {'a': DATE '2020-01-01', 'b': [NULL, 1.50]} AS s, true AS t, '\\xFF'::BLOB AS b"
    assert "{a: 2020-01-01, b: [NULL, 1.50]}  true  \\xFF" in query(root, sql)
    assert "| {a: 2020-01-01, b: [NULL, 1.50]} | true |" in query(root, sql, "-o", "markdown")


def test_options_that_are_not_valid_are_wrong_usage(root: str) -> None:
    assert "--limit" in query(root, "SELECT 1", "--limit", -1, code=2)
    assert "is an address" in query(root, "SELECT 1", "--to", "s3://bucket/x.csv", code=2)


def test_error_in_the_middle_of_a_stream_is_that_of_the_query(root: str) -> None:
    sql = (
        "SELECT CASE WHEN range = 3000000 THEN error('boom') ELSE 'x' END AS x FROM range(4000000)"
    )
    assert query(root, sql, "-o", "csv", code=1) == "error: boom"


def test_file_that_cannot_be_written_is_one_line_and_leaves_nothing(
    root: str, tmp_path: Path
) -> None:
    # Too long for the temporary name, for any user.
    said = query(root, "SELECT 1", "-o", "csv", "--to", tmp_path / ("x" * 255), code=1)
    assert "File name too long" in said
    assert "bug of ixt" not in said
    assert "leaked" not in said
    sql = "SELECT if(range = 3000000, error('boom'), 'x') AS x FROM range(4000000)"
    for output in ("csv", "markdown"):
        assert query(root, sql, "-o", output, "--to", tmp_path / "y", code=1) == "error: boom"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.csv", "n\n1\n"), ("a.jsonl", '{"n":1}\n'), ("a.tsv", "n\n1\n"), ("a.txt", "n\n1\n")],
)
def test_query_writes_the_format_of_the_file_name(root, tmp_path, name, expected):
    query(root, "SELECT 1 AS n", "--to", tmp_path / name)
    assert (tmp_path / name).read_text() == expected


def test_query_refuses_a_name_without_or_of_another_format(root, tmp_path):
    sql = "SELECT 1 AS n"
    said = query(root, sql, "--to", tmp_path / "a", code=2)
    assert "tells no format" in " ".join(said.replace("│", " ").split())
    said = query(root, sql, "-o", "jsonl", "--to", tmp_path / "a.csv", code=2)
    assert "but --output is jsonl" in " ".join(said.replace("│", " ").split())
    assert not (tmp_path / "a.csv").exists()
    assert list(tmp_path.iterdir()) == []


def test_file_is_replaced_only_with_overwrite_and_never_in_a_store(
    root: str, tmp_path: Path
) -> None:
    file, command = tmp_path / "x.csv", ("SELECT 1 AS n", "-o", "csv", "--to")
    query(root, *command, file)
    assert "already exists; choose another path" in query(root, *command, file, code=1)
    query(root, *command, file, "--overwrite")
    assert file.read_text() == "n\n1\n"
    assert "is a folder" in query(root, *command, tmp_path, "--overwrite", code=1)
    for part in ("ixt.json", "_log/x.csv"):
        said = query(root, "SELECT 1 AS n", "--to", Path(root, part), "--overwrite", code=1)
        assert "is part of the store" in said
    query(root, *command, "/dev/null")


def test_rows_in_a_pipe_are_never_folded(root: str) -> None:
    sql = "SELECT repeat('word ', 60) || 'end' AS text, uuid() AS id, repeat('x', 200) AS long"
    header, row = query(root, sql).splitlines()
    assert header.split() == ["text", "id", "long"]
    assert row.endswith("x" * 200)


def test_line_output_has_a_line_per_value(root: str, tmp_path: Path) -> None:
    sql = "SELECT 1 AS n, 'two words' AS text UNION ALL SELECT 2, NULL ORDER BY 1"
    lines = "   n = 1\ntext = two words\n\n   n = 2\ntext = NULL\n"
    assert query(root, sql, "-o", "line") == lines
    query(root, sql, "-o", "line", "--to", tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_text() == lines


@pytest.mark.parametrize(("columns", "is_table"), [(120, True), (50, False)])
def test_ids_on_a_terminal_are_never_folded(root: str, columns: int, is_table: bool) -> None:
    identifier = "628c8783-afca-7058-398a-5c32079f21cc"
    sql = f"SELECT '{identifier}' AS a, '{identifier}' AS b, repeat('word ', 60) || 'END' AS text"
    command = [sys.executable, "-m", "ixt_data", "query", "--store", root, sql]
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with Terminal(command, environment) as terminal:
        shown = terminal.wait_for("END")
    assert shown.count(identifier) == 2
    assert (f"a = {identifier}" in shown) != is_table


def test_two_interrupts_in_a_copy_leave_no_file(root: str, tmp_path: Path) -> None:
    sql = "SELECT range AS i, repeat('x', 100) AS x FROM range(1000000000)"
    command = [sys.executable, "-m", "ixt_data", "query", "--store", root, sql]
    command += ["-o", "csv", "--to", str(tmp_path / "x.csv")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.02)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (1, "error: the query was cancelled")
    assert list(tmp_path.iterdir()) == []


def test_numbers_in_unions_that_are_not_finite_are_null(root: str) -> None:
    sql = "SELECT x::UNION(a DOUBLE, b VARCHAR) AS u FROM (VALUES ('nan'::DOUBLE), (1.5)) t(x)"
    assert json.loads(query(root, sql, "-o", "json")) == [{"u": {"a": None}}, {"u": {"a": 1.5}}]


def test_numbers_in_maps_that_are_not_finite_are_null(root: str) -> None:
    sql = "SELECT map {'a': 'nan'::DOUBLE, 'b': 1.0} AS m, NULL::MAP(VARCHAR, DOUBLE) AS n"
    assert json.loads(query(root, sql, "-o", "json")) == [{"m": {"a": None, "b": 1.0}, "n": None}]
