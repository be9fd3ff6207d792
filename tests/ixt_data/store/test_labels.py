"""Labels of people: sparse rows, history, reviewers, and what refuses them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_stores import Length, add_documents

from ixt_data.analysis import Queue, calibrate, queue_documents
from ixt_data.critique_runs import annotate
from ixt_data.errors import StoreError, UnknownDocument
from ixt_data.maintenance import compact, repair, verify
from ixt_data.mix import Mix, plan_mix
from ixt_data.records import Span, document_id, format_id
from ixt_data.store.label_values import Label
from ixt_data.store.labels import label_documents
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store

TEXTS = [f"text number {n}" for n in range(25)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.init(tmp_path / "S")
    add_documents(store, TEXTS)
    annotate(store, "web", Length())
    return store


def name(number: int) -> str:
    return format_id(document_id(TEXTS[number]))


def rows(store: Store, view: str = "critiques") -> list[tuple]:
    return store.sql(
        f"SELECT source_id, score, critique, reviewer FROM {view} JOIN documents USING (doc_id) "
        "WHERE critic = 'human' ORDER BY labeled"
    ).fetchall()


def test_labels_are_sparse_rows_with_history(store: Store) -> None:
    span = Span(0, 4, "wrong", "word", "why?")
    assert (
        store.label(name(3), by="ana", score=0.2, critique="Too short.", spans=[span]).replaced == 0
    )
    assert store.label(name(4), by="ana", score=0.9).replaced == 0
    assert store.label(name(3), by="ben", score=0.4).replaced == 1
    assert rows(store) == [("4", 0.9, "", "ana"), ("3", 0.4, "", "ben")]
    assert len(rows(store, "critiques_all")) == 3
    assert [info.name for info in store.snapshot().critics.values()] == ["length", "human"]
    first = store.document(name(3), at=store.snapshot().version - 2)
    assert next(c for c in first.critiques if c.row["critic"] == "human").spans == [span]
    assert verify(store).problems == []
    compact(store, full=True)
    assert rows(store) == [("4", 0.9, "", "ana"), ("3", 0.4, "", "ben")]


def test_shard_of_labels_has_placeholders(store: Store) -> None:
    store.label(name(3), by="ana", score=0.25, spans=[Span(5, 9, "right"), Span(0, 4, "wrong")])
    store.label(name(12), by="ana", score=0.5)
    family = [one for one in store.snapshot().shards if one.family.startswith("critique/human-")]
    assert [one.samples for one in family] == [10, 10]
    statuses = store.shard(family[0]).column("status")
    assert statuses == ["orphan"] * 3 + ["ok"] + ["orphan"] * 6
    assert store.shard(family[0]).column("spans")[3][0][:3] == [0, 4, "wrong"]


def test_batch_of_labels_is_one_commit_per_shard(store: Store) -> None:
    before = store.snapshot().version
    ids = [str(row[0]) for row in store.sql("SELECT doc_id FROM documents").fetchall()]
    report = label_documents(store, [Label(doc_id, "ana", 0.5) for doc_id in ids])
    assert (report.labels, report.replaced, report.snapshot) == (25, 0, before + 3)
    assert label_documents(store, [Label(ids[0], "ben", 0.6)]).replaced == 1


def test_labels_of_concurrent_people_are_all_kept(store: Store) -> None:
    def work(number: int) -> None:
        Store.open(store.root).label(name(number), by=f"person {number}", score=0.5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(6)))
    assert len(rows(Store.open(store.root))) == 6
    assert verify(Store.open(store.root)).problems == []


def test_document_of_two_corpora_has_one_row(store: Store) -> None:
    add_documents(store, ["text number 3", "another"], "books")
    store.label(str(store.document(name(3)).row["doc_id"]), by="ana", score=0.5)
    assert store.sql("SELECT count(*) FROM critiques WHERE critic = 'human'").fetchall() == [(1,)]
    family = [one for one in store.snapshot().shards if one.family.startswith("critique/human-")]
    assert sorted(one.corpus for one in family) == ["books", "web"]


def test_labels_are_gold(store: Store) -> None:
    for number in range(12):
        store.label(name(number), by="ana", score=number / 12)
    pair = calibrate(store, ["length", "human"]).pairs[0]
    assert pair.all.documents == 12


def test_label_needs_a_document_and_a_judgement(store: Store) -> None:
    with pytest.raises(UnknownDocument):
        store.label("nosuch", by="ana", score=0.5)
    with pytest.raises(StoreError, match=r"score: 1\.5"):
        store.label(name(3), by="ana", score=1.5)
    with pytest.raises(StoreError, match="needs a score"):
        store.label(name(3), by="ana")
    with pytest.raises(StoreError, match="by: ''"):
        store.label(name(3), by="", score=0.5)
    with pytest.raises(StoreError, match=r"spans\[0\]: a span ends at 99, the text of .* has 13"):
        store.label(name(3), by="ana", spans=[Span(0, 99, "wrong")])
    with pytest.raises(StoreError, match="is empty"):
        store.label(name(3), by="ana", spans=[Span(4, 4, "wrong")])
    with pytest.raises(StoreError, match="flags: 'bad' is not a list"):
        store.label(name(3), by="ana", flags="bad")
    with pytest.raises(StoreError, match="score: True is not a number"):
        store.label(name(3), by="ana", score=True)
    with pytest.raises(StoreError, match=r"spans\[0\].verdict: 'WRONG'"):
        store.label(name(3), by="ana", spans=[Span(0, 4, "WRONG")])


def test_label_that_is_not_valid_publishes_nothing_of_a_batch(store: Store) -> None:
    before = store.snapshot().version
    good = [Label(name(number), "ana", 0.5) for number in range(25)]
    unknown = format_id(document_id("no document"))
    for bad in (
        Label(name(24), "ana", critique=["x"]),  # type: ignore[arg-type]
        Label(name(24), "ana", flags=[1]),  # type: ignore[list-item]
        Label(name(24), "ana", spans=[Span(0, 99, "wrong")]),
        Label(unknown, "ana", 0.5, place="done.jsonl:7"),
        Label(name(24)[:8], "ana", 0.5),
    ):
        with pytest.raises(StoreError, match=r"critique|flags|spans|done.jsonl:7: doc_id|doc_id"):
            label_documents(store, [*good, bad])
    assert store.snapshot().version == before


def test_labels_of_one_document_in_a_batch_are_all_history(store: Store) -> None:
    store.label(name(3), by="eva", score=0.9)
    batch = [Label(name(3), "ana", 0.1), Label(name(4), "ana", 0.3), Label(name(3), "ben", 0.2)]
    report = label_documents(store, batch)
    assert (report.labels, report.replaced) == (3, 2)
    latest = sorted((number, score, by) for number, score, _, by in rows(store))
    assert latest == [("3", 0.2, "ben"), ("4", 0.3, "ana")]
    history = [
        (score, by) for number, score, _, by in rows(store, "critiques_all") if number == "3"
    ]
    assert sorted(history) == [(0.1, "ana"), (0.2, "ben"), (0.9, "eva")]
    (family,) = [one for one in store.snapshot().shards if one.family.startswith("critique/human-")]
    assert store.shard(family).column("score")[3] == pytest.approx(0.2)
    compact(store, full=True)
    assert len(rows(store, "critiques_all")) == 4
    assert verify(store).problems == []


def test_labels_precede_a_judge_in_an_order_of_critics(store: Store) -> None:
    store.label(name(3), by="ana", score=0.0)
    store.label(name(4), by="ana", score=0.1)
    low = save_selection(store, "low", "score < 0.5", critic="human,length")
    assert low.documents == 2
    assert store.sql("SELECT count(*) FROM selected.low").fetchall() == [(2,)]
    assert save_selection(store, "all", "score >= 0", critic="human,length").documents == 25
    assert save_selection(store, "judged", "score < 0.5", critic="length,human").documents == 0
    assert store.search("number", where="score < 0.5", critic="human,length").total == 2
    with pytest.raises(StoreError, match="no critiques by 'nosuch'"):
        save_selection(store, "no", "score < 0.5", critic="human,nosuch")
    mix = {"store": store.root, "critic": "human,length", "condition": {"kind": "score"}}
    mix["selections"] = [{"name": "x", "where": "score < 0.5", "weight": 1}]
    plan = plan_mix(Mix.model_validate(mix), 10)
    assert [(one.name, one.documents) for one in plan.selections] == [("x", 2)]


def test_lost_shard_of_labels_is_restored_from_the_rows(store: Store) -> None:
    store.label(name(3), by="ana", score=0.25, critique="Why?", spans=[Span(0, 4, "wrong")])
    (lost,) = [one for one in store.snapshot().shards if one.family.startswith("critique/human-")]
    (Path(store.root) / lost.path).unlink()
    report = verify(store)
    assert "the next label" in report.problems[0].remedy
    repair(store, report)
    store.label(name(4), by="ana", score=0.5)
    assert verify(store).problems == []
    (found,) = [one for one in store.snapshot().shards if one.family.startswith("critique/human-")]
    rows = list(store.shard(found).rows())
    assert (rows[3]["score"], rows[3]["critique"], rows[3]["spans"][0][2]) == (
        0.25,
        "Why?",
        "wrong",
    )
    assert rows[4]["score"] == 0.5


def test_label_does_not_change_the_critic_that_is_meant_by_default(store: Store) -> None:
    before = store.documents("score > 0.5", order_by="score DESC, doc_id").fetchall()
    store.label(name(0), by="ana", score=1.0)
    assert store.documents("score > 0.5", order_by="score DESC, doc_id").fetchall() == before
    assert store.search("characters", where="score > 0.5").total == len(before)
    assert save_selection(store, "good", "score > 0.5").critic == "length"


def test_predicate_over_documents_needs_no_critic(store: Store) -> None:
    annotate(store, "web", Length(name="other"))
    store.label(name(0), by="ana", score=1.0)
    found = store.documents("n_chars > 1", order_by="n_chars DESC, doc_id").arrow()
    assert "score" not in found.column_names
    assert store.search("characters", where="corpus = 'web'").total > 0
    assert queue_documents(store, Queue.random, where="corpus = 'web'")
    for ask in (
        lambda: store.documents("score > 0.5"),
        lambda: store.documents(order_by="score"),
        lambda: store.search("characters", where="score > 0.5"),
        lambda: queue_documents(store, Queue.random, where="score > 0.5"),
    ):
        with pytest.raises(StoreError, match=r"by .*length, other: .* such as critic='length'"):
            ask()
