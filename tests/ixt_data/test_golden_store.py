"""Stores that former versions wrote: today's code opens, queries, verifies and continues them."""

import json
from pathlib import Path

import pytest
from golden import TEXTS, Paid, unpack

from ixt_data.critique_runs import annotate
from ixt_data.errors import StoreError
from ixt_data.log import FORMAT, Snapshot, checkpoint
from ixt_data.maintenance import verify
from ixt_data.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unpack("store-2", tmp_path)


def test_golden_store_of_the_present_format_exists() -> None:
    assert FORMAT == 2, "run tests/golden/make_golden.py, and keep the tests of former formats"


def test_golden_store_opens_and_answers(folder: Path) -> None:
    store = Store.open(folder)
    state = store.snapshot()
    assert (state.version, store.tags(), list(state.corpora)) == (52, {"golden": 4}, ["web"])
    assert state.selections["long"].where == "n_chars > 20"
    rows = store.sql("SELECT critic, status, count(*), sum(scores['length']) FROM critiques "
                     "GROUP BY ALL ORDER BY critic").fetchall()  # fmt: skip
    length = float(sum(map(len, TEXTS)))
    assert rows == [
        ("length", "ok", 12, length),
        ("paid", "ok", 4, float(sum(map(len, TEXTS[:4])))),
    ]
    sql = "SELECT lang, count(*) FROM documents GROUP BY ALL ORDER BY 1"
    assert store.sql(sql, at="golden").fetchall() == [("de", 6), ("en", 6)]
    texts = [text for shard in state.text_shards() for text in store.shard(shard).column("text")]
    assert texts == TEXTS
    report = verify(store)
    assert (report.problems, report.repaired) == ([], [])


def test_golden_checkpoint_is_the_replay_of_its_log(folder: Path) -> None:
    store = Store.open(folder)
    replay = Snapshot()
    for entry in store.log.entries(1, 50):
        replay.apply(entry)
    assert checkpoint.read(store.storage, 50) == replay


def test_golden_journal_is_continued(folder: Path) -> None:
    store, critic = Store.open(folder), Paid()
    report = annotate(store, "web", critic)
    assert critic.given == TEXTS[6:]
    assert (report.units, report.skipped) == (2, 1)
    assert store.sql("SELECT count(*) FROM critiques WHERE critic = 'paid'").fetchall() == [(12,)]


def test_store_of_a_newer_format_is_refused_with_one_line(folder: Path) -> None:
    marker = folder / "ixt.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": FORMAT + 1}))
    with pytest.raises(StoreError, match=f"format {FORMAT + 1}") as caught:
        Store.open(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_journal_of_a_newer_format_is_kept_aside(folder: Path) -> None:
    (journal,) = folder.glob("_journal/*/*.jsonl")
    newer = journal.read_text().replace('{"format":1,', '{"format":2,', 1)
    journal.write_text(newer)
    critic = Paid()
    annotate(Store.open(folder), "web", critic)
    assert critic.given == TEXTS[4:]
    (kept,) = folder.glob("_journal/*/*.unreadable")
    assert kept.read_text() == newer
