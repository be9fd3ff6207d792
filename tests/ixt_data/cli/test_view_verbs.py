"""tables and schema, as a user sees them."""

from typing import Any

import orjson
import pytest
from small_stores import add_documents
from typer.testing import CliRunner

from ixt_data.cli import app
from ixt_data.errors import QueryError
from ixt_data.store import Store, save_selection


def ixt(*words: str) -> Any:
    done = CliRunner().invoke(app.build(), [*words, "--output", "json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return orjson.loads(done.stdout)


def test_tables_lists_views_and_selections(store: Store) -> None:
    add_documents(store, ["a"])
    save_selection(store, "long-ones", "n_chars > 5")
    views = {view["view"]: view for view in ixt("tables", "--store", store.root)["views"]}
    assert views["documents"]["columns"] == 9
    assert views['selected."long-ones"']["row"] == "a document where n_chars > 5"


def test_schema_lists_columns_with_types(store: Store) -> None:
    add_documents(store, ["a"], likes=[1])
    save_selection(store, "short", "n_chars < 5")
    columns = ixt("schema", "documents", "--store", store.root)["views"]["documents"]
    assert columns["doc_id"] == "UUID"
    assert columns["likes"] == "BIGINT"
    assert (
        ixt("schema", "selected.short", "--store", store.root)["views"]["selected.short"] == columns
    )
    assert len(ixt("schema", "--store", store.root)["views"]) > 5
    with pytest.raises(QueryError, match=r"no view 'nothing'; views: documents, .*selected\.NAME"):
        ixt("schema", "nothing", "--store", store.root)
