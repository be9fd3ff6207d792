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
