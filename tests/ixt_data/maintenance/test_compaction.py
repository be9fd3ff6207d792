"""Compaction of rows: content, races, and the choice of files."""

from typing import Any

import pytest
from small_stores import Length, add_commits

from ixt_data.critique_runs.annotation import annotate
from ixt_data.log.snapshot import RowsFile
from ixt_data.maintenance.compaction import choose_small_files, compact
from ixt_data.store.store import Store, Transaction


def test_compaction_preserves_rows_in_one_file(store: Store) -> None:
    add_commits(store, 9)
    before = store.sql("SELECT * FROM documents ORDER BY doc_id").arrow().to_pylist()
    (merge,) = compact(store)
    assert (merge.files, merge.rows, merge.snapshot) == (9, 27, 10)
    assert len(store.snapshot().rows) == 1
    assert (
        store.sql("SELECT * FROM documents").arrow().to_pylist() == before
    )  # it is sorted by document
    assert compact(store) == []
    assert store.sql("SELECT count(*) AS n FROM documents", at=9).arrow()["n"].to_pylist() == [27]


def test_concurrent_compactions_commit_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_commits(store, 9)
    annotate(store, "web", Length())
    other, begin = Store.open(store.root), store.begin

    def late(*args: Any, **options: Any) -> Transaction:
        monkeypatch.setattr(store, "begin", begin)
        assert len(compact(other)) == 2
        return begin(*args, **options)

    # Both chose the same files, and the other one was done before this one began to write.
    monkeypatch.setattr(store, "begin", late)
    assert compact(store) == []
    for table in ("documents", "critiques"):
        assert store.sql(f"SELECT count(*) AS n FROM {table}").arrow()["n"].to_pylist() == [27]


def test_large_base_is_not_merged() -> None:
    sizes = [100_000, 10, 12, 9]
    partition = [RowsFile(f"{size}", "documents", "web", 1, size, "", {}) for size in sizes]
    assert [file.bytes for file in choose_small_files(partition)] == [9, 10, 12]
