import errno
import hashlib
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import orjson
import pytest

from ixt_data.errors import (
    CommitStateUnknown,
    CorruptError,
    SnapshotError,
    StoreError,
    TransactionAborted,
    UnitAlreadyPublished,
)
from ixt_data.log import checkpoint, commit_log
from ixt_data.log.commit_log import Log
from ixt_data.log.snapshot import Entry, RowsFile, Snapshot
from ixt_data.storage.local import LocalStorage


def rows(name: str) -> RowsFile:
    return RowsFile(name, "documents", "web", 1, 1, "", {"doc_id": "UUID"})


def test_an_entry_comes_back() -> None:
    entry = Entry(3, "t" * 32, "ingest", rows_add=[rows("a")], summary={"documents": 1})
    assert commit_log.decode(commit_log.encode(entry), "x") == entry


def test_states_by_version(tmp_path: Path) -> None:
    history = Log(LocalStorage(tmp_path))
    for i in range(5):
        entry = Entry(0, f"{i}", "ingest", rows_add=[rows(f"file-{i}")])
        assert history.commit(entry, history.newest()) == i + 1
    assert [*Log(LocalStorage(tmp_path)).snapshot(3).rows] == ["file-0", "file-1", "file-2"]
    assert history.snapshot(0).rows == {}
    with pytest.raises(SnapshotError, match="newest is 5"):
        history.snapshot(6)


def test_who_was_away_for_long_catches_up(tmp_path: Path) -> None:
    ours, theirs = Log(LocalStorage(tmp_path)), Log(LocalStorage(tmp_path))
    base = ours.newest()
    for i in range(130):
        theirs.commit(Entry(0, f"{i}", "critique"), i)
    reported: list[str] = []
    assert ours.commit(Entry(0, "x", "critique"), base, lambda e: reported.append(e.txn)) == 131
    assert reported == [f"{i}" for i in range(130)]
    assert [entry.txn for entry in ours.entries(1, 131)] == [*reported, "x"]
    (tmp_path / commit_log.key(7)).unlink()
    with pytest.raises(FileNotFoundError, match=r"no such version.*0007\.json"):
        [*Log(LocalStorage(tmp_path)).entries(1, 20)]


@pytest.mark.parametrize("position", [0, 30, -10])
def test_a_flipped_bit_is_named(tmp_path: Path, position: int) -> None:
    history = Log(LocalStorage(tmp_path))
    history.commit(Entry(0, "a", "init"), 0)
    path = tmp_path / commit_log.key(1)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"_log/00000000000000000001\.json"):
        Log(LocalStorage(tmp_path)).snapshot()


def test_conflicts_are_decided_by_what_landed(tmp_path: Path) -> None:
    ours, theirs = Log(LocalStorage(tmp_path)), Log(LocalStorage(tmp_path))
    base = ours.newest()
    theirs.commit(Entry(0, "x", "critique", unit="u"), theirs.newest())
    assert ours.commit(Entry(0, "x", "critique", unit="u"), base) == 1  # our own, it had landed
    with pytest.raises(UnitAlreadyPublished):
        ours.commit(Entry(0, "y", "critique", unit="u"), base)
    theirs.commit(Entry(0, "g", "gc", aborted_transactions=["z"]), theirs.newest())
    with pytest.raises(TransactionAborted):
        ours.commit(Entry(0, "z", "critique", unit="v"), base)
    assert ours.newest() == 2


def test_log_missing_entry_is_named_and_stops_readers(tmp_path: Path) -> None:
    history = Log(LocalStorage(tmp_path))
    for i in range(5):
        history.commit(Entry(0, f"{i}", "ingest"), i)
    entry = (tmp_path / commit_log.key(3)).read_bytes()
    (tmp_path / commit_log.key(3)).unlink()
    # Without a look beyond it 2 would be the newest, and 3 be written a second time.
    with pytest.raises(CorruptError, match=r"0003\.json: missing, but _log/0+4\.json exists"):
        Log(LocalStorage(tmp_path)).newest()
    (tmp_path / commit_log.key(3)).write_bytes(entry)
    assert Log(LocalStorage(tmp_path)).newest() == 5
    (tmp_path / commit_log.LAST).write_text('{"version": 7}')
    with pytest.raises(CorruptError, match=r"0007\.json: missing, but _log/_last names it"):
        Log(LocalStorage(tmp_path)).newest()
    for nonsense in ("", "[]", '{"version": "x"}', '{"version": -3}'):
        (tmp_path / commit_log.LAST).write_text(nonsense)
        assert Log(LocalStorage(tmp_path)).newest() == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, r"_log/0+2\.json: has format 3"),
        ({"merkle_root": "x"}, "version 2 was committed by another version of ixt.* merkle_root"),
        ({"rows_add": [{"path": "x", "codec": "y"}]}, r"_log/0+2\.json: .*codec"),
    ],
)
def test_log_refuses_entries_of_a_newer_version(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    history = Log(LocalStorage(tmp_path))
    history.commit(Entry(0, "a", "ingest"), 0)
    line = orjson.dumps(Entry(2, "b", "ingest").to_json() | change)
    digest = hashlib.sha256(line).hexdigest().encode()
    (tmp_path / commit_log.key(2)).write_bytes(line + b"\n" + digest + b"\n")
    with pytest.raises(StoreError, match=f"{message}.*Upgrade ixt"):
        Log(LocalStorage(tmp_path)).snapshot()


def _commit_many(root: Path, worker: int, n: int) -> None:
    history = Log(LocalStorage(root))
    for i in range(n):
        history.commit(Entry(0, f"{worker}-{i}", "critique"), history.newest())


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_commit_many, args=(tmp_path, w, 25)) for w in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    history = Log(LocalStorage(tmp_path))
    assert history.newest() == 75
    assert len({history.read(version).txn for version in range(1, 76)}) == 75
    assert [p.name for p in (tmp_path / "_log").iterdir() if p.name.endswith(".tmp")] == []


def test_checkpoints_hold_the_same_state(tmp_path: Path) -> None:
    history = Log(LocalStorage(tmp_path))
    for i in range(120):
        remove = [f"file-{i - 3}"] if i > 2 else []
        entry = Entry(0, f"{i}", "critique", unit=f"unit-{i}", rows_remove=remove)
        entry.rows_add.append(rows(f"file-{i}"))
        history.commit(entry, history.newest())
    fresh = Log(LocalStorage(tmp_path)).snapshot()
    assert [*fresh.rows] == ["file-117", "file-118", "file-119"]
    assert fresh == history.snapshot()
    replayed = Log(LocalStorage(tmp_path))
    for path in (tmp_path / "_checkpoint").rglob("state.json"):
        path.unlink()
    assert replayed.snapshot() == fresh
    assert replayed.snapshot(99).units.keys() == {f"unit-{i}" for i in range(99)}


def test_checkpoints_of_entries_hold_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "RECORDS_PER_ENTRY", 1)
    history, states = Log(LocalStorage(tmp_path)), dict[int, Snapshot]()
    reader = Log(LocalStorage(tmp_path))
    for i in range(1, 361):
        entry = Entry(0, f"{i}", "critique", unit=f"unit-{i}", rows_remove=[f"file-{i - 9}"])
        entry.rows_add.append(rows(f"file-{i}"))
        history.commit(entry, history.newest())
        if i % 60 == 0:
            states[i] = history.snapshot().copy()
            assert reader.snapshot() == states[i]
    kinds = {int(p.parent.name): p.name for p in (tmp_path / "_checkpoint").rglob("entries-*")}
    assert kinds == {
        100: "entries-50.jsonl.zst",
        **dict.fromkeys((200, 250, 300), "entries-150.jsonl.zst"),
    }
    for version, state in states.items():
        assert Log(LocalStorage(tmp_path)).snapshot(version) == state


def test_checkpoint_damage_is_named_with_remedy(tmp_path: Path) -> None:
    history = Log(LocalStorage(tmp_path))
    for i in range(50):
        history.commit(Entry(0, f"{i}", "critique"), history.newest())
    files = next((tmp_path / "_checkpoint").rglob("files.parquet"))
    files.write_bytes(files.read_bytes()[:-1])
    history.commit(Entry(0, "51", "critique"), history.newest())
    with pytest.raises(
        CorruptError,
        match=r"files\.parquet: truncated or changed. Rebuild the checkpoint from the log",
    ):
        Log(LocalStorage(tmp_path)).snapshot()


class FailingStorage(LocalStorage):
    """A storage in which chosen methods fail for keys with a prefix, after they did their work."""

    failing: frozenset[str] = frozenset()
    prefix = "_"

    def create(self, key: str, data: bytes) -> bool:
        created = super().create(key, data)
        self.fail("create", key)
        return created

    def read(self, key: str) -> bytes:
        self.fail("read", key)
        return super().read(key)

    def replace(self, key: str, data: bytes) -> None:
        self.fail("replace", key)
        super().replace(key, data)

    def publish(self, files: Any) -> None:
        self.fail("publish", *files)
        super().publish(files)

    def fail(self, method: str, *keys: str) -> None:
        if method in self.failing and any(key.startswith(self.prefix) for key in keys):
            raise OSError(errno.EIO, f"{method} failed")


@pytest.mark.parametrize(
    ("method", "prefix"),
    [("publish", "_checkpoint/"), ("create", "_checkpoint/"), ("replace", commit_log.LAST)],
)
def test_commit_returns_its_version_when_its_checkpoint_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str, prefix: str
) -> None:
    storage = FailingStorage(tmp_path)
    history = Log(storage)
    storage.failing, storage.prefix = frozenset({method}), prefix
    with caplog.at_level(logging.WARNING):
        for i in range(51):
            assert history.commit(Entry(0, f"{i}", "ingest"), i) == i + 1
    assert "version 50 is committed, but its checkpoint was not written" in caplog.text
    assert Log(LocalStorage(tmp_path)).newest() == 51


def test_commit_with_a_lost_response_is_read_back(tmp_path: Path) -> None:
    storage = FailingStorage(tmp_path)
    storage.failing = frozenset({"create"})
    assert Log(storage).commit(Entry(0, "a", "ingest"), 0) == 1
    assert Log(storage).commit(Entry(0, "b", "ingest"), 0) == 2


def test_commit_without_any_response_has_an_unknown_state(tmp_path: Path) -> None:
    storage = FailingStorage(tmp_path)
    history = Log(storage)
    history.commit(Entry(0, "a", "ingest"), 0)
    storage.failing = frozenset({"create", "read"})
    storage.prefix = commit_log.key(2)
    with pytest.raises(CommitStateUnknown, match=r"not known.*version 2 with transaction b.*log"):
        history.commit(Entry(0, "b", "ingest"), 1)
    assert Log(LocalStorage(tmp_path)).read(2).txn == "b"
