"""An adopted folder that has moved."""

from pathlib import Path

import pytest
from small_stores import Length
from streaming import MDSWriter

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CorruptError, StoreError
from ixt_data.ingestion import adopt, move_adopted
from ixt_data.maintenance.verification import verify
from ixt_data.store.store import Store


@pytest.fixture
def moved(store: Store, tmp_path: Path) -> Path:
    """The new place of a folder of 30 documents in several shards, which have critiques."""
    with MDSWriter(out=str(tmp_path / "old"), columns={"text": "str"}, size_limit=300) as writer:
        for i in range(30):
            writer.write({"text": f"adopted {i}"})
    adopt(store, "web", tmp_path / "old")
    annotate(store, "web", Length())
    (tmp_path / "old").rename(tmp_path / "new")
    return tmp_path / "new"


def test_moved_folder_is_read_in_its_new_place(store: Store, moved: Path) -> None:
    before = store.snapshot()
    shards = before.text_shards(["web"])
    with pytest.raises(CorruptError, match=r"missing.*--moved-from OLD"):
        store.shard(shards[0])
    ids = store.sql("SELECT doc_id, source_id, shard FROM documents ORDER BY ALL").fetchall()
    version, n_shards = move_adopted(store, "web", moved.with_name("old"), moved)
    assert (version, n_shards) == (before.version + 1, len(shards))
    after = Store.open(store.root)
    assert [shard.path for shard in after.snapshot().shards] == [s.path for s in before.shards]
    texts = [text for s in after.snapshot().text_shards() for text in after.shard(s).column("text")]
    assert texts == [f"adopted {i}" for i in range(30)]
    rows = after.sql("SELECT doc_id, source_id, shard FROM documents ORDER BY ALL").fetchall()
    assert rows == ids
    assert after.shard(after.snapshot().text_shards()[0]).column("source")[0] == "old"
    assert verify(after).problems == []
    report = annotate(after, "web", Length())
    assert (report.units, report.skipped) == (0, len(shards))


def test_folder_moves_again(store: Store, moved: Path) -> None:
    move_adopted(store, "web", moved.with_name("old"), moved)
    third = moved.rename(moved.with_name("third"))
    move_adopted(store, "web", moved, third)
    assert store.document("old:shard.00000.mds:3").text == "adopted 3"


def test_changed_or_unknown_folder_is_refused(store: Store, moved: Path) -> None:
    with pytest.raises(StoreError, match=r"no adopted folder /nowhere; its folders: .*/old"):
        move_adopted(store, "web", "/nowhere", moved)
    path = moved / "shard.00001.mds"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    version = store.snapshot().version
    with pytest.raises(CorruptError, match=r"new/shard\.00001\.mds"):
        move_adopted(store, "web", moved.with_name("old"), moved)
    assert store.snapshot().version == version
