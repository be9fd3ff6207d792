"""Saved queries: versioned in the log, listed by a view, run by name."""

import json
import subprocess
import sys

import pytest
from small_stores import add_documents

from ixt_data.analysis.snapshot_diff import diff
from ixt_data.errors import QueryError, StoreError
from ixt_data.log import checkpoint
from ixt_data.store import Store, drop_query, query_history, save_query, saved_query

SQL = "SELECT n_chars FROM documents WHERE n_chars > $least -- long ones"


def test_snapshot_has_each_query_as_it_was_saved_last(store: Store) -> None:
    add_documents(store, ["a", "aa", "aaa"])
    first = save_query(store, "long", SQL, note="which are long?")
    second = save_query(store, "long", "SELECT 1")
    gone = drop_query(store, "long")
    fresh = Store.open(store.root)
    assert fresh.snapshot().queries == {}
    assert saved_query(fresh.snapshot(first.version), "long", fresh.root) == first
    assert (first.sql, first.note, second.version) == (SQL, "which are long?", first.version + 1)
    rows = fresh.sql(first.sql, at=first.version, parameters={"least": 1}).fetchall()
    assert sorted(rows) == [(2,), (3,)]
    assert [change.query and change.query.sql for change in query_history(fresh, "long")] == [
        SQL,
        "SELECT 1",
        None,
    ]
    listed = fresh.sql("SELECT name, sql, note, version FROM queries", at=first.version).fetchall()
    assert listed == [("long", SQL, "which are long?", first.version)]
    (change,) = diff(fresh, first.version, second.version)["queries"]
    assert (change["change"], change["before"], change["after"]) == ("changed", SQL, "SELECT 1")
    assert diff(fresh, second.version, gone)["queries"][0]["change"] == "dropped"


def test_checkpoint_contains_the_queries(store: Store) -> None:
    saved = save_query(store, "one", "SELECT 1")
    state = store.snapshot()
    checkpoint.write(store.storage, state)
    assert checkpoint.read(store.storage, state.version).queries == {"one": saved}


@pytest.mark.parametrize(
    ("name", "sql", "said"),
    [
        ("one", "SELEC 1", "syntax error"),
        ("one", "DROP TABLE documents", "only read-only"),
        ("one", "SELECT 1; SELECT 2", "one statement"),
        ("one", " ", "the query is empty"),
        ("one", "SELECT $1", "parameters without a name"),
        ("one", "SELECT ?", "parameters without a name"),
        ("a b", "SELECT 1", "use 1 to 64"),
    ],
)
def test_query_that_cannot_run_is_not_saved(store: Store, name: str, sql: str, said: str) -> None:
    version = store.log.newest()
    with pytest.raises((QueryError, StoreError), match=said):
        save_query(store, name, sql)
    assert store.log.newest() == version


def test_query_runs_by_its_name(store: Store) -> None:
    add_documents(store, ["a", "aa", "aaa"])

    def ixt(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "ixt_data", *arguments, "--store", store.root]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    ixt("queries", "save", "long", SQL)
    rows = ixt("query", "--saved", "long", "-p", "least=2", "-o", "json")
    assert json.loads(rows) == [{"n_chars": 3}]
    assert "$least has no value" in ixt("query", "--saved", "long", code=1)
    assert "queries: long" in ixt("query", "--saved", "short", code=1)
    assert "give one of" in " ".join(ixt("query", "SELECT 1", "--saved", "long", code=2).split())
