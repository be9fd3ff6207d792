"""SQL's `search(words)`."""

from pathlib import Path

import pytest
from small_stores import add_documents

from ixt_data.analysis import build_indexes
from ixt_data.errors import QueryError
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store

TEXTS = ["a red fox", "a red dog and a red cat", "a blue fox"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("sql") / "S")
    add_documents(store, TEXTS)
    build_indexes(store)
    return store


def test_search_is_a_table_function(store: Store) -> None:
    sql = "SELECT source_id, rank FROM search('red') JOIN documents USING (doc_id) ORDER BY rank"
    assert [row[0] for row in store.sql(sql).fetchall()] == ["1", "0"]
    both = "SELECT count(*) FROM search('fox') a JOIN SEARCH('red') b USING (doc_id)"
    assert store.sql(both).fetchall() == [(1,)]
    where = "SELECT count(*) FROM documents WHERE doc_id NOT IN (SELECT doc_id FROM search($w))"
    assert store.sql(where, parameters={"w": "fox"}).fetchall() == [(1,)]
    assert store.sql("SELECT count(*) FROM search(?)", parameters=["fox"]).fetchall() == [(2,)]
    columns = [row[0] for row in store.sql("DESCRIBE SELECT * FROM search('fox')").fetchall()]
    assert columns == ["doc_id", "field", "critic", "rank", "relevance"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM documents d, search(d.source)",
        "SELECT * FROM search(1)",
        "SELECT * FROM search('a', 'b')",
        "SELECT * FROM search('++')",
        "SELECT * FROM search('f' || 'ox')",
    ],
)
def test_search_takes_one_known_text(store: Store, sql: str) -> None:
    with pytest.raises(QueryError, match=r"search|letter or digit"):
        store.sql(sql)


def test_search_in_a_saved_selection(store: Store) -> None:
    where = "doc_id IN (SELECT doc_id FROM search('fox'))"
    save_selection(store, "foxes", where)
    assert store.sql("SELECT count(*) FROM selected.foxes").fetchall() == [(2,)]


def test_statement_that_names_search_without_a_call(store: Store) -> None:
    assert store.sql("SELECT 'search (x)' AS search").fetchall() == [("search (x)",)]


def test_search_of_a_folder_of_another_store_is_not_visible(tmp_path: Path, store: Store) -> None:
    other = Store.init(tmp_path / "S")
    add_documents(other, ["nothing"])
    assert other.sql("SELECT count(*) FROM search('fox')").fetchall() == [(0,)]
