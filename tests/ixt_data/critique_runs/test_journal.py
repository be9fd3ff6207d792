import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from small_stores import Length, add_documents

from ixt_data.critique_runs.annotation import annotate
from ixt_data.critique_runs.journal import (
    Journal,
    decode,
    encode,
    journal_folder,
    units_in_progress,
)
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.records import Critique, Document, Span, document_id
from ixt_data.store.critique_rows import unit_name
from ixt_data.store.store import Store

TEXTS = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
WHOLE = Critique(
    document_id("a"),
    critique="fine",
    score=0.5,
    scores={"a": 1.0},
    spans=(Span(0, 1, "right", "t", "c"),),
    flags=("x",),
    thinking="hm",
    n_thinking_tokens=3,
    expected=0.4,
    entropy=0.1,
)


class Slow(Length):
    """A journaled critic that fails on some texts, and stops after some critiques as if killed."""

    journaled = True

    def __init__(self, fails: Iterable[str] = (), stop_after: int | None = None) -> None:
        super().__init__(name="slow")
        self.fails, self.stop_after = set(fails), stop_after
        self.asked: list[str] = []

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        for document in documents:
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(document.text)
            if document.text in self.fails:
                yield Critique(document.doc_id, "invalid", error="no", attempts=3)
            else:
                yield self.judge(document)


def journals(store: Store) -> list[Path]:
    return list(journal_folder(store).rglob("*.jsonl"))


def test_journal_line_round_trips() -> None:
    for critique in (WHOLE, Critique(document_id("b"), "invalid", error="no", attempts=3)):
        assert decode(encode(critique)) == critique


def test_journal_truncated_line_is_overwritten(tmp_path: Path) -> None:
    with Journal(tmp_path, "c", "u") as journal:
        journal.append(WHOLE)
        path = journal.path
    whole = path.read_bytes()
    for cut in range(1, 60):
        path.write_bytes(whole + encode(WHOLE)[:-cut])
        with Journal(tmp_path, "c", "u") as journal:
            assert list(journal.critiques.values()) == [WHOLE]
        assert path.read_bytes() == whole
    with Journal(tmp_path, "c", "u", replaced_txn="another") as other:
        assert other.path != path
        assert other.critiques == {}


def unreadable(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*.unreadable")]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"not json",
        b'{"doc_id": 3}',
        bytes(40),
        b'{"doc_id": "00", "score": "0.5"}',
        b'{"doc_id": "00", "status": 7}',
    ],
)
def test_journal_unreadable_line_is_kept_with_all_others(tmp_path: Path, line: bytes) -> None:
    other = Critique(document_id("b"), score=0.1)
    with Journal(tmp_path, "c", "u") as journal:
        journal.append(WHOLE)
        path = journal.path
    path.write_bytes(path.read_bytes() + line + b"\n" + encode(other) + b"\n")
    before = path.read_bytes()
    with Journal(tmp_path, "c", "u") as journal:
        assert list(journal.critiques.values()) == [WHOLE, other]
        assert path.read_bytes() == before
        journal.remove()
    assert not path.exists()
    assert unreadable(tmp_path) == [before]


def test_journal_ignores_unknown_fields(tmp_path: Path) -> None:
    with Journal(tmp_path, "c", "u") as journal:
        journal.append(WHOLE)
        path = journal.path
    newer = encode(WHOLE).replace(b'"score":0.5', b'"score":0.5,"confidence":0.9')
    newer = newer.replace(b'"verdict":', b'"color":"red","verdict":')
    assert newer != encode(WHOLE)
    path.write_bytes(path.read_bytes() + newer + b"\n")
    with Journal(tmp_path, "c", "u") as journal:
        assert list(journal.critiques.values()) == [WHOLE]
        journal.remove()
    assert unreadable(tmp_path) == []


def test_journal_with_another_header_is_kept(tmp_path: Path) -> None:
    with Journal(tmp_path, "c", "u") as journal:
        journal.append(WHOLE)
        path = journal.path
    newer = path.read_bytes().replace(b'"format":1', b'"format":2')
    path.write_bytes(newer)
    with Journal(tmp_path, "c", "u") as journal:
        assert journal.critiques == {}
        journal.append(WHOLE)
    assert unreadable(tmp_path) == [newer]
    with Journal(tmp_path, "c", "u") as journal:
        assert list(journal.critiques.values()) == [WHOLE]


def test_units_in_progress_reads_only_what_was_appended(tmp_path: Path) -> None:
    def counts() -> list[tuple[str, int, int]]:
        return [(unit.unit, unit.critiques, unit.ok) for unit in units_in_progress(tmp_path)]

    failed = Critique(document_id("b"), "invalid", error="no")
    with Journal(tmp_path, "c", "u") as journal:
        assert counts() == [("u", 0, 0)]
        journal.append(WHOLE)
        journal.append(failed)
        assert counts() == counts() == [("u", 2, 1)]
        journal.append(WHOLE)
        with journal.path.open("ab") as file:
            file.write(b'{"status":"ok"')
        assert counts() == [("u", 3, 2)]
        journal.remove()
    assert counts() == []
    with Journal(tmp_path, "c", "u") as journal:
        assert counts() == [("u", 0, 0)]


def test_journal_of_a_hung_worker_is_copied(tmp_path: Path) -> None:
    other = Critique(document_id("b"), score=0.1)
    with Journal(tmp_path, "c", "u") as frozen:
        frozen.append(WHOLE)
        with Journal(tmp_path, "c", "u") as journal:
            assert list(journal.critiques.values()) == [WHOLE]
            journal.append(other)
            frozen.append(other)
            frozen.remove()
    with Journal(tmp_path, "c", "u") as journal:
        assert list(journal.critiques.values()) == [WHOLE, other]
        journal.remove()
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_interrupted_run_resumes_from_the_journal(store: Store) -> None:
    add_documents(store, TEXTS, per_shard=4)
    with pytest.raises(KeyboardInterrupt):
        annotate(store, "web", Slow(stop_after=3))
    assert store.snapshot().version == 1
    assert len(journals(store)) == 1
    again = Slow()
    report = annotate(store, "web", again)
    assert again.asked == TEXTS[3:]
    assert (report.documents, report.reused, report.units) == (6, 3, 2)
    assert journals(store) == []
    scores = store.sql("SELECT score FROM critiques ORDER BY score").arrow()["score"].to_pylist()
    assert scores == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_identical_documents_are_judged_once(store: Store) -> None:
    add_documents(store, TEXTS, "web")
    add_documents(store, ["eeeee", "new", "eeeee", "a"], "books")
    annotate(store, "web", Slow())
    critic = Slow()
    report = annotate(store, "books", critic)
    assert critic.asked == ["new"]
    assert report.reused == 2
    shard = store.snapshot().text_shards({"books"})[0]
    snapshot = store.snapshot()
    critiques = snapshot.aligned(shard.path, f"critique/{report.critic}")
    thinking = snapshot.aligned(shard.path, f"thinking/{report.critic}")
    assert critiques is not None
    assert thinking is not None
    assert store.shard(critiques).column("spans")[0] == [[0, 5, "right", "", ""]]
    assert store.shard(thinking).column("thinking") == ["hm", "", "hm", ""]
    counts = store.sql("SELECT count(*) AS n, count(DISTINCT doc_id) AS d FROM critiques").arrow()
    assert counts.to_pylist() == [{"n": 7, "d": 7}]


def test_retry_failed_judges_only_failures(store: Store) -> None:
    add_documents(store, TEXTS, per_shard=2)
    first = Slow(fails=["bb", "ccc"])
    report = annotate(store, "web", first)
    assert dict(report.statuses) == {"ok": 4, "invalid": 2}
    assert annotate(store, "web", Slow()).documents == 0
    version = store.snapshot().version
    again = Slow(fails=["ccc"])
    report = annotate(store, "web", again, retry_failed=True)
    assert again.asked == ["bb", "ccc"]
    assert (report.units, report.reused, report.skipped) == (2, 2, 1)
    assert dict(report.statuses) == {"ok": 3, "invalid": 1}
    rows = store.sql("SELECT status, n_spans, shard FROM critiques").arrow().to_pylist()
    assert sorted(row["status"] for row in rows) == ["invalid", *["ok"] * 5]
    snapshot = store.snapshot()
    assert {row["shard"] for row in rows} <= set(snapshot.shards_by_path)
    assert len(snapshot.family(f"critique/{report.critic}")) == 3
    old = store.sql("SELECT status FROM critiques WHERE status <> 'ok'", at=version).arrow()
    assert len(old) == 2
    last = Slow()
    annotate(store, "web", last, retry_failed=True)
    assert last.asked == ["ccc"]
    assert (
        store.sql("SELECT count(*) AS n FROM critiques WHERE status = 'ok'").arrow()["n"][0].as_py()
        == 6
    )
    assert annotate(store, "web", Slow(), retry_failed=True).documents == 0


def test_interrupted_retry_resumes(store: Store) -> None:
    add_documents(store, TEXTS)
    annotate(store, "web", Slow(fails=TEXTS[:3]))
    with pytest.raises(KeyboardInterrupt):
        annotate(store, "web", Slow(stop_after=2), retry_failed=True)
    again = Slow()
    report = annotate(store, "web", again, retry_failed=True)
    assert again.asked == ["ccc"]
    assert dict(report.statuses) == {"ok": 6}


def test_garbage_collection_keeps_journals_of_pending_units(store: Store) -> None:
    add_documents(store, TEXTS, per_shard=3)
    second = store.snapshot().text_shards()[1]
    with pytest.raises(KeyboardInterrupt):
        annotate(store, "web", Slow(stop_after=2))
    (kept,) = journals(store)
    critic, unit = kept.parent.name, unit_name(kept.parent.name, second)
    # As left by a worker that lost its unit, or crashed before its first write.
    folder = journal_folder(store)
    with Journal(folder, critic, unit) as lost, Journal(folder, critic, "torn") as torn:
        lost.append(WHOLE)
    torn.path.write_bytes(b"")
    open_units = {kept, lost.path, torn.path}
    assert collect_garbage(store).journals == {}
    assert (
        set(collect_garbage(store, keep_journals=timedelta(0), dry_run=True).journals) == open_units
    )
    with Journal(folder, critic, unit):
        found = collect_garbage(store, keep_journals=timedelta(0), dry_run=True).journals
        assert set(found) == open_units - {lost.path}
    assert set(journals(store)) == open_units

    again = Slow()
    annotate(store, "web", again)
    assert again.asked == TEXTS[2:]
    with Journal(folder, critic, unit) as late:
        late.append(WHOLE)
    report = collect_garbage(store)
    assert (set(report.journals), report.bytes > 0) == ({late.path}, True)
    assert journals(store) == [torn.path]


def test_critique_run_has_a_row_in_the_view(store: Store) -> None:
    add_documents(store, TEXTS, per_shard=2)
    critic = Slow(fails=["bb"])
    critic.usage = {"requests": 7, "tokens_in": 10}  # type: ignore[attr-defined]
    report = annotate(store, "web", critic)
    annotate(store, "web", Length())
    slow, length = store.sql("SELECT * FROM critique_runs ORDER BY version").arrow().to_pylist()
    assert (slow["run"], slow["critic"], slow["corpus"]) == (report.run, "slow", "web")
    assert (slow["units"], slow["documents"], slow["ok"]) == (3, 6, 5)
    assert json.loads(slow["statuses"]) == {"ok": 5, "invalid": 1}
    assert slow["started"] <= slow["ended"]
    assert (length["critic"], length["requests"], slow["version"]) == ("length", None, 4)
    assert store.sql("SELECT * FROM critique_runs", at=1).arrow().num_rows == 0
