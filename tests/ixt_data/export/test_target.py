import subprocess
import sys
from pathlib import Path

import pytest

from ixt_data.errors import StoreError
from ixt_data.export import MatchedDocuments, export_delta, export_jsonl, export_mds
from ixt_data.store.store import Store


@pytest.mark.parametrize("place", ["shards/x", "meta/documents", "_log", "_pins/a", ""])
def test_export_into_store_folder_is_refused(full: Store, place: str) -> None:
    before = sorted(Path(full.root).rglob("*"))
    target = Path(full.root, place)
    with pytest.raises(StoreError, match="is part of the store"):
        export_delta(full, target, overwrite=True)
    with pytest.raises(StoreError, match="is part of the store"):
        export_mds(MatchedDocuments(full), target, overwrite=True)
    assert sorted(Path(full.root).rglob("*")) == before


def test_export_existing_target_is_refused_without_overwrite(full: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_mds(MatchedDocuments(full), out)
    with pytest.raises(StoreError, match="add --overwrite"):
        export_delta(full, out)
    assert (out / "index.json").exists()
    export_delta(full, out, overwrite=True)
    assert not (out / "index.json").exists()
    assert (out / "documents/_delta_log").is_dir()
    # A folder of someone else is never replaced.
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").write_text("dear")
    with pytest.raises(StoreError, match="was not created by"):
        export_delta(full, tmp_path / "home", overwrite=True)
    (tmp_path / "rows.jsonl").write_text("mine")
    with pytest.raises(StoreError, match="add --overwrite"):
        export_jsonl(MatchedDocuments(full), tmp_path / "rows.jsonl")
    export_jsonl(MatchedDocuments(full), tmp_path / "rows.jsonl", overwrite=True)
    assert len((tmp_path / "rows.jsonl").read_bytes().splitlines()) == 48


def test_failed_export_leaves_the_old_one(full: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_mds(MatchedDocuments(full), out)
    before = sorted((path, path.read_bytes()) for path in out.iterdir())
    for path in Path(full.root, "shards/text").rglob("*.zstd"):
        path.unlink()
    with pytest.raises(StoreError, match="missing"):
        export_mds(MatchedDocuments(full), out, overwrite=True)
    assert sorted((path, path.read_bytes()) for path in out.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert full.pins.all() == {}


def test_overwrite_deletes_only_what_an_export_wrote(full: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_delta(full, out)
    (out / "notes.txt").write_text("mine")
    (out / "documents/mine").mkdir()
    (out / "documents/mine/letter").write_text("dear")
    export_mds(MatchedDocuments(full), out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in (out / "documents").rglob("*")] == ["mine", "letter"]
    assert not (out / "critiques_all").exists()
    # A file of the user is never replaced by a new one of the same name.
    for path in out.glob("*.zstd"):
        path.unlink()
    (out / "documents/mine/letter").rename(out / "documents/_delta_log")
    with pytest.raises(StoreError, match="no export wrote this file"):
        export_delta(full, out, overwrite=True)
    assert (out / "documents/_delta_log").read_text() == "dear"


def test_an_existing_folder_is_filled_not_replaced(full: Store, tmp_path: Path) -> None:
    """A folder that is a mount cannot be renamed."""
    out = tmp_path / "mounted"
    out.mkdir()
    folder = out.stat().st_ino
    for overwrite in (False, True):
        export_mds(MatchedDocuments(full), out, overwrite=overwrite)
        assert out.stat().st_ino == folder
        assert (out / "index.json").exists()
        assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


KILLED = """
import os, sys
from ixt_data.export import MatchedDocuments, export_mds, export_jsonl
from ixt_data.store.store import Store
store = Store.open(sys.argv[1])
export = export_mds if sys.argv[2].endswith("mds") else export_jsonl
export(MatchedDocuments(store), sys.argv[2], progress=lambda *_: os.kill(os.getpid(), 9))
"""


@pytest.mark.parametrize("name", ["new.mds", "empty.mds", "new.jsonl"])
def test_a_rerun_replaces_what_a_killed_export_left(full: Store, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    if name.startswith("empty"):
        out.mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED, full.root, str(out)])
    assert done.returncode == -9
    litter = [path for path in tmp_path.rglob(".*") if "ixt-export" in path.name]
    assert len(litter) == 1
    export = export_mds if name.endswith("mds") else export_jsonl
    assert export(MatchedDocuments(full), out).documents == 48
    assert [path for path in tmp_path.rglob(".*") if "ixt-export" in path.name] == []
