"""Critique runs of one worker: alignment, reuse, failures, progress."""

import doctest
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from small_stores import Length, add_documents

from ixt_data.critique_runs import annotation
from ixt_data.critique_runs.annotation import annotate
from ixt_data.critique_runs.units import publish
from ixt_data.errors import CriticError, StoreError, UnitAlreadyPublished
from ixt_data.log.snapshot import CriticInfo
from ixt_data.records import Critique, Document
from ixt_data.store.store import Store

TEXTS = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]


def test_annotate_aligns_families_and_completes_rows(store: Store) -> None:
    add_documents(store, TEXTS, per_shard=4)
    report = annotate(store, "web", Length())
    assert (report.documents, report.units, dict(report.statuses)) == (6, 2, {"ok": 6})
    snapshot = store.snapshot()
    for text in snapshot.text_shards():
        critique = snapshot.aligned(text.path, f"critique/{report.critic}")
        assert critique is not None
        assert store.shard(critique).column("doc_id") == store.shard(text).column("doc_id")
        assert critique.path.rsplit("/")[-1] == text.path.rsplit("/")[-1]
        assert snapshot.newest_critique(text.path, "length") == critique
    # Only the shard with a document that was thought about has a thinking shard.
    assert [shard.aligned_with for shard in snapshot.family(f"thinking/{report.critic}")] == [
        snapshot.text_shards()[1].path
    ]
    rows = (
        store.sql(
            "SELECT n_chars, score, critique, scores['length'] AS length, flags, n_spans "
            "FROM documents JOIN critiques USING (doc_id) ORDER BY n_chars"
        )
        .arrow()
        .to_pylist()
    )
    assert rows[1] == {
        "n_chars": 2,
        "score": 0.2,
        "critique": "2 characters",
        "length": 2.0,
        "flags": ["short"],
        "n_spans": 1,
    }


def test_annotate_again_critiques_only_new_documents(store: Store) -> None:
    add_documents(store, TEXTS)
    annotate(store, "web", Length())
    again = annotate(store, "web", Length())
    assert (again.documents, again.skipped, again.snapshot) == (0, 1, 2)
    add_documents(store, ["new"])
    assert annotate(store, "web", Length()).documents == 1


def test_changed_critic_has_a_new_partition_and_the_latest_counts(store: Store) -> None:
    add_documents(store, TEXTS)
    old, new = (annotate(store, "web", Length(version)) for version in (1, 2))
    assert old.critic != new.critic
    assert store.sql("SELECT count(*) AS n FROM critiques_all").arrow()["n"].to_pylist() == [12]
    latest = store.sql("SELECT critic_id, score FROM critiques ORDER BY score").arrow().to_pydict()
    assert latest["score"] == [0.2, 0.4, 0.6, 0.8, 1, 1]
    assert set(latest["critic_id"]) == {new.critic}
    assert store.sql("SELECT max(score) AS m FROM critiques", at=2).arrow()["m"].to_pylist() == [
        0.6
    ]
    assert [row["critic"] for row in store.sql("SELECT * FROM critics").arrow().to_pylist()] == [
        "length",
        "length",
    ]


def test_document_in_two_corpora_has_one_latest_critique(store: Store) -> None:
    add_documents(store, TEXTS, "web")
    add_documents(store, ["a", "new"], "books")
    annotate(store, "web", Length())
    annotate(store, "books", Length())
    counts = store.sql("SELECT count(*) AS n, count(DISTINCT doc_id) AS d FROM critiques").arrow()
    assert counts.to_pylist() == [{"n": 7, "d": 7}]


def test_document_that_raises_gets_a_row(store: Store) -> None:
    add_documents(store, ["fine", "raise", "exit"])
    report = annotate(store, "web", Length())
    assert dict(report.statuses) == {"ok": 1, "error": 2}
    rows = store.sql("SELECT error, score FROM critiques WHERE status = 'error' ORDER BY error")
    assert rows.fetchall() == [("SystemExit: 3", None), ("ValueError: too hard", None)]


class Backwards(Length):
    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        for document in reversed(list(documents)):
            if document.text != "ccc":
                yield self.judge(document)


def test_critiques_out_of_order_and_missing_are_aligned(store: Store) -> None:
    add_documents(store, TEXTS)
    report = annotate(store, "web", Backwards())
    assert dict(report.statuses) == {"ok": 5, "no_answer": 1}
    shard = store.snapshot().family(f"critique/{report.critic}")[0]
    assert store.shard(shard).column("status") == ["ok", "ok", "no_answer", "ok", "ok", "ok"]


def test_score_out_of_range_stops_the_run(store: Store) -> None:
    add_documents(store, TEXTS)
    with pytest.raises(CriticError, match="a score must be between 0 and 1"):
        annotate(store, "web", Length(version=-1))
    assert store.snapshot().version == 1


def test_two_workers_publish_a_unit_once(store: Store) -> None:
    add_documents(store, TEXTS)
    other = Store.open(store.root)
    annotate(other, "web", Length())
    shard = store.snapshot().text_shards()[0]
    critic = Length()
    info = CriticInfo(annotate(store, "web", critic).critic, "length", critic.config())
    with pytest.raises(UnitAlreadyPublished):
        publish(store, shard, info, [])
    assert store.snapshot().version == 2


def test_unknown_corpus_error_names_the_corpora(store: Store) -> None:
    add_documents(store, TEXTS)
    with pytest.raises(StoreError, match="corpora: web"):
        annotate(store, "wbe", Length())


def test_annotate_with_progress_true_shows_a_bar_on_stderr(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    add_documents(store, TEXTS)
    report = annotate(store, "web", Length(), progress=True)
    output = capsys.readouterr()
    assert report.documents == 6
    assert "critiquing" in output.err
    assert "6/6" in output.err
    assert output.out == ""


@pytest.mark.parametrize("progress", [None, False])
def test_annotate_without_progress_shows_nothing(
    progress: bool | None,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    add_documents(store, TEXTS)
    assert annotate(store, "web", Length(), progress=progress).documents == 6
    assert capsys.readouterr() == ("", "")


def test_annotate_with_a_progress_function_calls_it_per_document(store: Store) -> None:
    add_documents(store, TEXTS)
    calls: list[tuple[int, str]] = []
    annotate(store, "web", Length(), lambda done, critique: calls.append((done, critique.status)))
    assert calls == [(n, "ok") for n in range(1, 7)]


def test_examples_of_annotate_run() -> None:
    results = doctest.testmod(annotation)
    assert (results.failed, results.attempted > 5) == (0, True)


class Custom(Length):
    """A pipelined critic that runs `critiques` over the documents."""

    pipelined = True

    def __init__(self, critiques: Callable[[Iterable[Document]], Any]) -> None:
        super().__init__()
        self.critiques = critiques

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        result: Iterator[Critique] = self.critiques(documents)
        return result


def scored(document: Document) -> Critique:
    return Critique(document.doc_id, critique="fine", score=0.5)


@pytest.mark.parametrize("is_pipelined", [True, False])
def test_critic_that_ends_early_leaves_no_unit_open(store: Store, is_pipelined: bool) -> None:
    add_documents(store, TEXTS, per_shard=3)
    critic = Custom(lambda documents: map(scored, islice(documents, 2)))
    critic.pipelined = is_pipelined
    report = annotate(store, "web", critic)
    assert (report.documents, report.units) == (6, 2)
    assert report.statuses["ok"] + report.statuses["no_answer"] == 6


def raise_after_one(documents: Iterable[Document]) -> Iterator[Critique]:
    yield scored(next(iter(documents)))
    raise ValueError("no more ink")


def exit_after_one(documents: Iterable[Document]) -> Iterator[Critique]:
    yield scored(next(iter(documents)))
    sys.exit(0)


@pytest.mark.parametrize(
    ("critiques", "message"),
    [
        (exit_after_one, "critic length raised SystemExit: 0"),
        (raise_after_one, "critic length raised ValueError: no more ink"),
        (lambda documents: None, "critic length raised TypeError"),
        (lambda documents: (None for _ in documents), "gave an object of type NoneType"),
        (lambda documents: iter(()), "without a request for a document"),
        (
            lambda documents: (replace(scored(d), doc_id=bytes(16)) for d in documents),
            "which it was not given, or a second one",
        ),
    ],
)
def test_critic_that_violates_its_protocol_is_named(
    store: Store, critiques: Callable[[Iterable[Document]], Any], message: str
) -> None:
    add_documents(store, TEXTS)
    with pytest.raises(CriticError, match=message):
        annotate(store, "web", Custom(critiques))
