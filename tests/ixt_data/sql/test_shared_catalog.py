import threading

import pytest
from small_stores import add_documents

from ixt_data.errors import QueryError
from ixt_data.sql.shared_catalog import SharedCatalog
from ixt_data.store.store import Store

secret = [1, 2, 3]


@pytest.fixture
def catalog(store: Store) -> SharedCatalog:
    add_documents(store, [str(i) for i in range(25)])
    return SharedCatalog(store.storage, store.log, store.snapshot())


def test_threads_ask_at_once(catalog: SharedCatalog) -> None:
    found: list[object] = []

    def ask(n: int) -> None:
        sql = "SELECT count(*) AS n FROM documents, range($times)"
        found.append(catalog.records(sql, {"times": n}) == [{"n": 25 * n}])
        found.append(catalog.records("SELECT op FROM snapshots") == [{"op": "ingest"}])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 24


def test_what_is_kept_is_there_until_it_is_dropped(catalog: SharedCatalog) -> None:
    catalog.keep("listing_1", "SELECT doc_id FROM documents LIMIT 7")
    assert catalog.records("SELECT count(*) AS n FROM listing_1") == [{"n": 7}]
    catalog.drop("listing_1")
    with pytest.raises(QueryError, match="listing_1"):
        catalog.records("SELECT * FROM listing_1")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM secret",
        "SELECT * FROM read_text('/etc/hostname')",
        "CREATE TABLE t (a INT)",
        "SET threads = 1",
    ],
)
def test_cursors_reach_no_more_than_the_catalog(catalog: SharedCatalog, sql: str) -> None:
    with pytest.raises(QueryError):
        catalog.records(sql)
    with pytest.raises(QueryError):
        catalog.keep("t", sql)


def test_variables_of_ours_are_out_of_reach(catalog: SharedCatalog) -> None:
    sql = "SELECT current_setting('python_enable_replacements') AS reached"
    assert catalog.records(sql) == [{"reached": False}]
