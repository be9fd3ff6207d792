"""Long ingests whose commit fails, and ingests of the same inputs at the same time."""

from pathlib import Path

import orjson
import pytest

from ixt_data.errors import CommitError
from ixt_data.ingestion import ingest
from ixt_data.ingestion.corpus import IngestReport
from ixt_data.ingestion.text_shards import TextShards
from ixt_data.maintenance.verification import verify
from ixt_data.storage.local import LocalStorage
from ixt_data.store.store import Store

DOCUMENTS = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    lines = (orjson.dumps({"text": f"{i} " + "word " * 100, "n": i}) for i in range(DOCUMENTS))
    path.write_bytes(b"\n".join(lines))
    return path


def run(store: Store, path: Path) -> IngestReport:
    return ingest(store, "web", [path], shard_bytes=5000, workers=1)


class UncreatableStorage(LocalStorage):
    """A storage that creates no version, and fails to delete from the n-th key on."""

    def __init__(self, root: str, deletes: int) -> None:
        super().__init__(root)
        self.deletes = deletes

    def create(self, key: str, data: bytes) -> bool:
        return False if key.startswith("_log/") else super().create(key, data)

    def delete(self, *keys: str) -> None:
        # Shards before rows, so that some faults lose shards alone.
        for key in sorted(keys, reverse=True):
            if self.deletes == 0:
                raise OSError(5, "Input/output error")
            self.deletes -= 1
            super().delete(key)


@pytest.mark.parametrize("deletes", [0, 5, 1000])
def test_an_ingest_whose_commit_fails_is_continued_by_the_same_command(
    deletes: int, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixt_data.log.commit_log.MAX_REFUSALS", 1)
    store = Store.init(tmp_path / "store")
    with pytest.raises(CommitError, match="neither created nor read"):
        run(Store(UncreatableStorage(store.root, deletes)), path)
    report = run(store, path)
    assert report.documents == DOCUMENTS
    assert verify(store).problems == []
    assert store.sql("SELECT count(DISTINCT doc_id) FROM documents").fetchall() == [(DOCUMENTS,)]


@pytest.mark.parametrize("lost", ["shards/**/shard.00001.mds.zstd", "meta/**/*-1.parquet"])
@pytest.mark.parametrize("is_truncated", [False, True])
def test_an_ingest_whose_published_file_is_lost_starts_again(
    lost: str, is_truncated: bool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr("ixt_data.log.commit_log.MAX_REFUSALS", 1)
        with pytest.raises(CommitError):
            run(Store(UncreatableStorage(store.root, 0)), path)
    [file] = Path(store.root).glob(lost)
    file.write_bytes(file.read_bytes()[:-1]) if is_truncated else file.unlink()
    assert run(store, path).documents == DOCUMENTS
    assert verify(store).problems == []


def test_an_ingest_that_drops_documents_at_a_failing_commit_is_continued(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(tmp_path / "store")
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[2:25]))
    with monkeypatch.context() as patch:
        patch.setattr("ixt_data.log.commit_log.MAX_REFUSALS", 1)
        failing = Store(UncreatableStorage(store.root, 1000))
        finish = TextShards.finish

        def commit_other_first(shards: TextShards) -> None:
            if shards._txn.storage is failing.storage:
                run(store, other)
            finish(shards)

        patch.setattr(TextShards, "finish", commit_other_first)
        with pytest.raises(CommitError, match="neither created nor read"):
            run(failing, path)
    report = run(store, path)
    assert (report.documents, report.duplicates) == (DOCUMENTS - 23, 23)
    assert verify(store).problems == []
    assert store.sql("SELECT count(*), count(DISTINCT doc_id) FROM documents").fetchall() == [
        (DOCUMENTS, DOCUMENTS)
    ]


def test_an_ingest_whose_documents_are_committed_meanwhile_commits_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, slow = Store.init(tmp_path / "store"), Store.open(tmp_path / "store")
    finish = TextShards.finish

    def commit_other_first(shards: TextShards) -> None:
        if shards._txn.storage is slow.storage:
            ingest(store, "web", [path], workers=1)
        finish(shards)

    monkeypatch.setattr(TextShards, "finish", commit_other_first)
    report = run(slow, path)
    assert (report.documents, report.duplicates, report.shards, report.bytes) == (
        0,
        DOCUMENTS,
        0,
        0,
    )
    assert report.snapshot == store.snapshot().version == 1
    assert "nothing was committed: version 1" in report.remarks[0]
    verified = verify(store)
    assert (verified.problems, verified.orphans) == ([], [])
    assert not [*store.storage.list("_ingests")]
