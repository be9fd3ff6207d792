"""log, tag and errors of the place, as a user sees them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from small_stores import add_documents
from typer.testing import CliRunner

from ixt_data.cli import app
from ixt_data.errors import SnapshotError
from ixt_data.store.store import Store


def ixt(*words: str) -> Any:
    done = CliRunner().invoke(app.build(), [*words, "--output", "json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return orjson.loads(done.stdout)


def test_log_at_a_tag(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        add_documents(store, [f"{i}"])
    store.tag("two", at=2)
    shown = ixt("log", "--store", store.root, "--at", "two")
    assert [commit["version"] for commit in shown["commits"]] == [2, 1]
    monkeypatch.setenv("COLUMNS", "120")
    done = CliRunner().invoke(app.build(), ["log", "--store", store.root, "--limit", "1"])
    assert done.stdout.splitlines()[1].split()[-2:] == ["documents", "1"]


def test_tag_is_removed(store: Store) -> None:
    add_documents(store, ["a"])
    ixt("tag", "one", "--store", store.root)
    assert ixt("tag", "one", "--delete", "--store", store.root)["deleted"]
    assert ixt("tag", "--store", store.root) == {"tags": {}}
    with pytest.raises(SnapshotError, match="no tag 'one'"):
        ixt("tag", "one", "--delete", "--store", store.root)
    assert (
        CliRunner().invoke(app.build(), ["tag", "--delete", "--store", store.root]).exit_code == 2
    )


def test_storage_error_is_one_line(store: Store, tmp_path: Path) -> None:
    add_documents(store, ["a"])
    (Path(store.root) / "_pins").write_text("in the way")
    command = [sys.executable, "-m", "ixt_data", "tag", "one", "--store", store.root]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"{store.root}/_pins" in line


def test_log_lists_the_files_of_a_snapshot(store: Store) -> None:
    add_documents(store, ["a", "b"])
    add_documents(store, ["c"])
    shown = ixt("log", "--store", store.root, "--files", "1")
    rows, shard = shown["files"]
    assert shown["snapshot"] == 1
    assert (rows["table"], rows["partition"], rows["rows"]) == ("documents", "web", 2)
    assert (shard["family"], shard["corpus"], shard["samples"]) == ("text", "web", 2)
    for file in shown["files"]:
        assert Path(file["path"]).stat().st_size == file["bytes"]
    done = CliRunner().invoke(app.build(), ["log", "--store", store.root, "--files", "2"])
    assert len(done.stdout.splitlines()) == 4
    assert all(Path(line).is_file() for line in done.stdout.splitlines())
