"""`ixt search` as a user runs it."""

from pathlib import Path

import pytest
from command_line import as_json, ixt
from small_stores import add_documents

from ixt_data.store.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    add_documents(Store.init(folder / "S"), ["a red fox", "a \x1b[31m red dog", "a blue fox"])
    return folder


def test_search_then_index_then_search(folder: Path) -> None:
    done = ixt("search", "red fo*", folder=folder)
    assert "a red fox" in done.stdout
    assert "ixt search --index" in done.stderr
    assert as_json("search", "--index", folder=folder)["shards"] == 1
    found = as_json("search", "red", "--limit", 1, "--where", "n_chars > 3", folder=folder)
    assert (found["total"], len(found["hits"]), found["scanned"]) == (2, 1, 0)
    assert found["hits"][0]["snippet"]["marks"]
    done = ixt("search", "red", "--limit", 1, folder=folder)
    assert "2 matching texts, the first 1 (--limit N shows more), snapshot" in done.stdout
    assert "the first" not in ixt("search", "red", folder=folder).stdout
    done = ixt("search", "dog", "--at", "1", "--in", "text", folder=folder)
    assert "\x1b[31m" not in done.stdout
    assert "no match" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["search"], 2, "WORDS"),
        (["search", "fox", "--index"], 2, "does not search"),
        (["search", "fox", "--rebuild"], 2, "requires --index"),
        (["search", '"fox'], 1, "a quote is open"),
        (["search", "fox", "--where", "nosuch = 1"], 1, "nosuch"),
        (["search", "fox", "--at", "nosuch"], 1, "no tag"),
    ],
)
def test_wrong_searches_say_what_to_do(
    folder: Path, words: list[str], code: int, message: str
) -> None:
    assert message in ixt(*words, folder=folder, code=code).stderr
