"""The host, its environment and the path of a store change no result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_stores import add_documents

from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.rows import export_parquet
from ixt_data.maintenance.compaction import compact
from ixt_data.store.store import Store

FOLDERS = ["source=web/corpus=x/n_chars=1/row=0/S", "a[1]/b?c/*/S", "it's/{a,b}/S", "**/S"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_path_gives_no_values_and_matches_no_other_path(tmp_path: Path, folder: str) -> None:
    # A store that the pattern `a[1]/b?c/*/S` would match.
    add_documents(Store.init(tmp_path / "a1/bxc/d/S"), ["the other store"])
    store = Store.init(tmp_path / folder)
    add_documents(store, ["one", "three"], likes=[3, 4])
    add_documents(store, ["fifteen"], likes=[5])
    sql = "SELECT corpus, source, n_chars, row, likes FROM documents ORDER BY likes"
    rows = [("web", "test", 3, 0, 3), ("web", "test", 5, 1, 4), ("web", "test", 7, 0, 5)]
    assert store.sql(sql).fetchall() == rows
    export_parquet(MatchedDocuments(store), tmp_path / "out.parquet")
    assert sorted(pq.ParquetFile(tmp_path / "out.parquet").read()["text"].to_pylist()) == [
        *("fifteen", "one", "three")
    ]
    compact(store)
    assert store.sql(sql).fetchall() == rows


ASK = """
import json, sys
import ixt_data
store = ixt_data.open_store(sys.argv[1])
rows = store.sql(
    "SELECT n_chars, ('2024-01-01 00:30'::TIMESTAMP)::TIMESTAMPTZ::VARCHAR, "
    "date_part('year', '2024-01-01 00:30+00'::TIMESTAMPTZ), "
    "current_setting('TimeZone'), current_setting('Calendar') FROM documents"
).fetchall()
print(json.dumps(rows))
"""


def test_the_environment_changes_no_result(tmp_path: Path) -> None:
    add_documents(Store.init(tmp_path / "S"), ["one"])
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.duckdbrc").write_text("SET TimeZone = 'Asia/Tokyo';\n")
    given = {"TZ": "Asia/Tokyo", "LC_ALL": "th_TH.UTF-8", "HOME": str(tmp_path / "home")}
    answers = [
        subprocess.run(
            [sys.executable, "-c", ASK, str(tmp_path / "S")],
            env={**os.environ, **more},
            cwd=tmp_path,
            capture_output=True,
            check=True,
        ).stdout
        for more in ({}, given)
    ]
    assert answers[0] == answers[1]
    assert json.loads(answers[0]) == [[3, "2024-01-01 00:30:00+00", 2024, "UTC", "gregorian"]]
