"""Queues of documents to label, and the precision that labels show."""

from pathlib import Path

import pytest
from small_stores import Length, add_documents

from ixt_data.analysis import Queue, estimate_precision, queue_documents, wilson_interval
from ixt_data.critique_runs import annotate
from ixt_data.errors import QueryError, StoreError
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store

TEXTS = ["x" * n for n in range(1, 10)] + [f"long text {n}" for n in range(10)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.init(tmp_path / "S")
    add_documents(store, TEXTS, per_shard=50)
    annotate(store, "web", Length())
    annotate(store, "web", Length(2, "double"))
    return store


def test_disagreement_comes_first(store: Store) -> None:
    found = queue_documents(store, Queue.disagreement, limit=3)
    assert [one.source_id for one in found][:1] == ["4"]
    assert found[0].scores == {"double": 1.0, "length": 0.5}
    store.label("4", by="ana", score=0.7)
    assert queue_documents(store, Queue.disagreement, limit=1)[0].source_id != "4"
    with pytest.raises(StoreError, match="needs 2 of the critics"):
        queue_documents(store, Queue.disagreement, critics=["length"])


def test_uncertain_scores_come_first(store: Store) -> None:
    found = queue_documents(store, Queue.uncertain, critics=["length"], limit=3)
    assert found[0].source_id == "4"
    with pytest.raises(StoreError, match="critics: double, length"):
        queue_documents(store, Queue.uncertain)


def test_random_queue_is_a_fixed_order(store: Store) -> None:
    first = queue_documents(store, Queue.random, limit=50)
    assert first == queue_documents(store, Queue.random, limit=50)
    assert len({one.doc_id for one in first}) == len(TEXTS)
    assert first != queue_documents(store, Queue.random, limit=50, seed=1)
    some = queue_documents(store, Queue.random, where="score = 1", critics=["length"], limit=50)
    assert [one.doc_id for one in some] == [
        one.doc_id for one in first if one.doc_id in {other.doc_id for other in some}
    ]


def test_precision_counts_only_the_start_of_the_random_queue(store: Store) -> None:
    save_selection(store, "good", "score >= 0.5", critic="length")
    with pytest.raises(StoreError, match="ixt labels queue random --selection good"):
        estimate_precision(store, selection="good")
    queued = queue_documents(store, Queue.random, selection="good", limit=50)
    assert len(queued) == 15
    for number, one in enumerate(queued[:8]):
        store.label(one.doc_id, by="ana", score=0.9 if number % 4 else 0.1)
    # Labels out of order do not count.
    store.label(queued[10].doc_id, by="ana", score=0.0)
    found = estimate_precision(store, selection="good")
    assert (found.matches, found.labels, found.good) == (15, 8, 6)
    assert found.low < 0.75 < found.high
    assert "the 15 documents that 'good' keeps without labels, 75% are good (" in str(found)
    assert "±" not in str(found)
    by_predicate = estimate_precision(store, where="score >= 0.5", critic="length")
    assert (by_predicate.labels, by_predicate.good) == (8, 6)
    assert estimate_precision(store, selection="good", cut=0.95).good == 0
    for one in queued:
        store.label(one.doc_id, by="ana", score=1.0)
    assert estimate_precision(store, selection="good").labels == 15


def test_labels_do_not_change_what_a_queue_and_an_estimate_are_of(store: Store) -> None:
    store.label("0", by="ana", score=1.0)
    save_selection(store, "good", "score >= 0.5", critic="human,length")
    save_selection(store, "nested", "doc_id IN (SELECT doc_id FROM selected.good)")
    queued = queue_documents(store, Queue.random, selection="good", limit=50)
    by_predicate = queue_documents(
        store, Queue.random, where="score >= 0.5", critics=["human,length"], limit=50
    )
    assert [one.doc_id for one in by_predicate] == [one.doc_id for one in queued]
    assert len(queued) == 15
    for number, one in enumerate(queued[:8]):
        # A bad document leaves the selection, and remains in the estimate.
        store.label(one.doc_id, by="ana", score=0.9 if number % 4 else 0.1)
    for scope in ("good", "nested"):
        found = estimate_precision(store, selection=scope)
        assert (found.matches, found.labels, found.good) == (15, 8, 6)
        rest = queue_documents(store, Queue.random, selection=scope, limit=50)
        assert [one.doc_id for one in rest] == [one.doc_id for one in queued[8:]]
    found = estimate_precision(store, where="score >= 0.5", critic="human,length")
    assert (found.matches, found.labels, found.good) == (15, 8, 6)


def test_predicate_over_labels_alone_is_refused(store: Store) -> None:
    store.label("0", by="ana", score=1.0)
    save_selection(store, "liked", "score >= 0.5", critic="human")
    for scope in ({"selection": "liked"}, {"where": "reviewer = 'ana'"}):
        with pytest.raises(QueryError, match=r"refused without the labels of people: .* not found"):
            estimate_precision(store, critic="human", **scope)
        with pytest.raises(QueryError, match="Select by another critic"):
            queue_documents(store, Queue.random, critics=["human"], **scope)
    with pytest.raises(StoreError, match="human: has no scores in a queue"):
        queue_documents(store, Queue.uncertain, critics=["human"])
    # It reads only documents.
    save_selection(store, "long", "n_chars > 8", critic="human")
    assert len(queue_documents(store, Queue.random, selection="long", limit=50)) == 11


def test_predicate_is_one_expression(store: Store) -> None:
    for ask in (
        lambda: queue_documents(store, Queue.random, where="false) OR (true", critics=["length"]),
        lambda: queue_documents(store, Queue.random, where="false) OR (true"),
        lambda: estimate_precision(store, where="false) OR (true", critic="length"),
        lambda: store.search("characters", where="false) OR (true", critic="length"),
    ):
        with pytest.raises(QueryError, match="is refused"):
            ask()


def test_label_without_a_score_is_named_where_it_ends_the_estimate(store: Store) -> None:
    first = queue_documents(store, Queue.random, limit=1)[0].doc_id
    store.label(first, by="ana", critique="Odd.")
    with pytest.raises(StoreError, match=f"without a score: ixt label {first[:8]} --score"):
        estimate_precision(store, where="true")


def test_wilson_interval() -> None:
    # Newcombe 1998, table I: 81 of 263, and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
