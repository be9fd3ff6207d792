"""Units in a pipeline: one stream of documents, commits in a thread, errors that lose nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from small_stores import add_documents

from ixt_data.critique_runs import annotate, unit_worker
from ixt_data.errors import CommitError, CriticError
from ixt_data.records import Critique, Document, document_id, format_id
from ixt_data.store import Store

SHARDS, PER_SHARD = 5, 4
N = SHARDS * PER_SHARD


class Pipelined:
    """A pipelined critic that takes `window` documents ahead and yields the last one first."""

    name = "pipelined"
    pipelined = True

    def __init__(self, window: int = 6, **faults: Any) -> None:
        self.window, self.faults = window, faults
        self.streams = 0
        self.late, self.again = int(faults.get("late", 0)), list[Critique]()
        self.usage: Counter[str] = Counter()

    def config(self) -> dict[str, Any]:
        return {}

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        self.streams += 1
        source, ahead = iter(documents), list[Document]()
        while True:
            while len(ahead) < self.window and (one := next(source, None)) is not None:
                ahead.append(one)
            if not ahead:
                yield from self.again
                return
            document = ahead.pop()
            if document.text == self.faults.get("omit"):
                continue
            if document.text == self.faults.get("fail"):
                raise CriticError("the judge is gone")
            self.usage["tokens_in"] += 10
            yield Critique(document.doc_id, critique=document.text, score=0.5)
            if document.text == self.faults.get("twice"):
                self.again.append(Critique(document.doc_id, critique="again", score=0.5))
            if self.again:
                self.late -= 1
                if self.late < 0:
                    yield self.again.pop()


@pytest.fixture
def store(tmp_path: Any) -> Store:
    store = Store.init(tmp_path / "S")
    add_documents(store, [f"text {i}" for i in range(N)], per_shard=PER_SHARD)
    return store


def critiques(store: Store) -> dict[str, str]:
    sql = "SELECT critique, status FROM critiques_all"
    return dict(store.sql(sql).fetchall())


def lease_files(store: Store) -> list[str]:
    return [file.key for file in store.storage.list("_leases")]


def test_units_are_one_stream_and_each_is_published(store: Store) -> None:
    critic, seen = Pipelined(), list[int]()
    report = annotate(store, "web", critic, lambda done, critique: seen.append(done))
    assert critic.streams == 1
    assert (report.units, report.documents, dict(report.statuses)) == (SHARDS, N, {"ok": N})
    assert critiques(store) == {f"text {i}": "ok" for i in range(N)}
    assert seen == list(range(1, N + 1))
    assert lease_files(store) == []
    sql = "SELECT units, documents, tokens_in FROM critique_runs"
    assert store.sql(sql).fetchall() == [(SHARDS, N, 10 * N)]


def test_second_run_reuses_everything(store: Store) -> None:
    annotate(store, "web", Pipelined())
    critic = Pipelined()
    report = annotate(store, "web", critic)
    assert (report.units, report.skipped) == (0, SHARDS)
    assert critic.usage.total() == 0


def test_omitted_critique_is_a_row_with_a_status(store: Store) -> None:
    report = annotate(store, "web", Pipelined(omit="text 7"))
    assert dict(report.statuses) == {"ok": N - 1, "no_answer": 1}


@pytest.mark.parametrize("window", [1, 6, 100])
@pytest.mark.parametrize("late", [0, 1, N // 2, N])
def test_second_critique_of_a_document_is_an_error(store: Store, window: int, late: int) -> None:
    critic = Pipelined(window, twice="text 3", late=late)
    doc_id = format_id(document_id("text 3"))
    with pytest.raises(CriticError, match=f"{doc_id}, which it was not given, or a second one"):
        annotate(store, "web", critic)
    units = len(store.snapshot().units)
    assert units == len(critiques(store)) / PER_SHARD
    assert lease_files(store) == []
    assert annotate(store, "web", Pipelined()).units == SHARDS - units
    assert critiques(store) == {f"text {i}": "ok" for i in range(N)}


@pytest.mark.parametrize("window", [1, 6, 100])
def test_error_in_the_middle_keeps_finished_units(store: Store, window: int) -> None:
    with pytest.raises(CriticError, match="the judge is gone"):
        annotate(store, "web", Pipelined(window, fail="text 9"))
    units = len(store.snapshot().units)
    assert units == len(critiques(store)) / PER_SHARD
    assert lease_files(store) == []
    report = annotate(store, "web", Pipelined())
    assert report.units == SHARDS - units
    assert critiques(store) == {f"text {i}": "ok" for i in range(N)}


def test_failed_commit_ends_the_run_and_frees_its_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, calls = unit_worker.publish, list[str]()

    def fail_second(*arguments: Any, **options: Any) -> Any:
        calls.append("publish")
        if len(calls) == 2:
            raise CommitError("the disk is full")
        return publish(*arguments, **options)

    monkeypatch.setattr(unit_worker, "publish", fail_second)
    with pytest.raises(CommitError, match="the disk is full"):
        annotate(store, "web", Pipelined())
    assert lease_files(store) == []
    monkeypatch.setattr(unit_worker, "publish", publish)
    annotate(store, "web", Pipelined())
    assert critiques(store) == {f"text {i}": "ok" for i in range(N)}


def test_critic_without_pipeline_gets_one_unit_per_stream(store: Store) -> None:
    critic = Pipelined()
    critic.pipelined = False
    assert annotate(store, "web", critic).units == SHARDS
    assert critic.streams == SHARDS
