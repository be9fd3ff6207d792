"""Which documents a person labels next, and what their labels say of a selection."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ixt_data.errors import StoreError
from ixt_data.log import Snapshot
from ixt_data.sql import choose_critic, critiques_query, join_clause, sql_literal
from ixt_data.store import HUMAN, Store, saved_selection

Z_95 = 1.959964
"""Quantile of the normal distribution for intervals of 95%."""


class Queue(StrEnum):
    """Orders of documents to label."""

    disagreement = "disagreement"
    uncertain = "uncertain"
    random = "random"


@dataclass(frozen=True, slots=True)
class QueuedDocument:
    """One document to label.

    Attributes:
        doc_id: the document, as text.
        corpus, source_id: of the document.
        scores: score by critic.
        value: difference of the scores, entropy, or None in a random queue.
    """

    doc_id: str
    corpus: str
    source_id: str
    scores: dict[str, float | None]
    value: float | None


@dataclass(frozen=True, slots=True)
class Precision:
    """The share of good documents in a selection, estimated from people's labels.

    Attributes:
        selection: name of the selection, or its predicate.
        matches: documents that it keeps.
        labels: labels of the random queue that count.
        good: how many of them are good.
        share: estimate.
        low, high: interval of 95% (Wilson).
        cut: score from which a document is good.
        snapshot: version that was read.
    """

    selection: str
    matches: int
    labels: int
    good: int
    share: float
    low: float
    high: float
    cut: float
    snapshot: int

    def __str__(self) -> str:
        """Return the estimate as a sentence."""
        half = (self.high - self.low) / 2
        return (
            f"of what {self.selection!r} keeps, {self.share:.0%} ± {half:.0%} is good "
            f"({self.low:.1%} to {self.high:.1%}; {self.good:,} of {self.labels:,} labels, "
            f"{self.matches:,} documents)"
        )


def queue_documents(
    store: Store,
    queue: Queue,
    *,
    critics: Sequence[str] = (),
    where: str | None = None,
    selection: str | None = None,
    limit: int = 20,
    seed: int = 0,
    at: int | str | None = None,
) -> list[QueuedDocument]:
    """Return documents without a label by a person, the most useful ones first.

    Args:
        store: the store.
        queue: `disagreement`: largest difference of two critics; `uncertain`: highest entropy of
            a critic's score, else the score nearest to 0.5; `random`: a fixed random order.
        critics: two critics for `disagreement`, one for the others; by default the only ones.
        where: predicate as in a mix, with the first critic's columns.
        selection: name of a saved selection, instead of `where`.
        limit: number of documents.
        seed: number of the random order.
        at: version or tag, the newest version by default.

    Raises:
        StoreError: the critics do not exist, or their number is wrong.
        QueryError: the predicate is not valid.
    """
    snapshot = store.snapshot(at)
    scope = _Scope.of(store, snapshot, where, selection, critics[0] if critics else None)
    judges = _judges(store, snapshot, queue, critics)
    joins = "".join(
        f" LEFT JOIN (SELECT doc_id, score AS score_{i}, entropy AS entropy_{i} "
        f"FROM ({critiques_query(snapshot, critic)})) AS judge_{i} USING (doc_id)"
        for i, critic in enumerate(judges)
    )
    if queue is Queue.disagreement:
        value, condition = "abs(score_0 - score_1)", "score_0 IS NOT NULL AND score_1 IS NOT NULL"
    elif queue is Queue.uncertain:
        value, condition = "coalesce(entropy_0, 0.5 - abs(score_0 - 0.5))", "score_0 IS NOT NULL"
    else:
        value, condition = "NULL::DOUBLE", "true"
    scores = ", ".join(f"score_{i}" for i in range(len(judges))) or "1 AS none"
    sql = (
        f"SELECT doc_id::VARCHAR AS doc_id, corpus, source_id, {value} AS value, {scores} "
        f"FROM ({scope.documents}){joins} WHERE {condition} AND doc_id NOT IN "
        f"(SELECT doc_id FROM critiques WHERE critic = {sql_literal(HUMAN)}) "
        f"QUALIFY row_number() OVER (PARTITION BY doc_id ORDER BY corpus) = 1 "
        f"ORDER BY value DESC NULLS LAST, {_random(seed)} LIMIT {limit}"
    )
    return [
        QueuedDocument(
            row["doc_id"],
            row["corpus"],
            row["source_id"],
            {critic: row[f"score_{i}"] for i, critic in enumerate(judges)},
            row["value"],
        )
        for row in _rows(store, snapshot, sql)
    ]


def estimate_precision(
    store: Store,
    *,
    selection: str | None = None,
    where: str | None = None,
    critic: str | None = None,
    cut: float = 0.5,
    seed: int = 0,
    at: int | str | None = None,
) -> Precision:
    """Estimate how much of a selection is good, from the labels of its random queue.

    The random order of a selection does not depend on scores. The labels that count are those of
    the first documents in this order, up to the first one without a label. So labels of other
    queues, which are not a random sample, do not bias the estimate.

    Args:
        store: the store.
        selection: name of a saved selection.
        where: a predicate instead, with the columns of `critic`.
        critic: critic of the predicate.
        cut: score of a label from which a document is good.
        seed: number of the random order, as for the queue.
        at: version or tag, the newest version by default.

    Raises:
        StoreError: the selection does not exist, or the first documents have no label.
    """
    snapshot = store.snapshot(at)
    scope = _Scope.of(store, snapshot, where, selection, critic)
    sql = (
        f"WITH chosen AS (SELECT DISTINCT doc_id FROM ({scope.documents})), labels AS "
        f"(SELECT doc_id, score FROM critiques WHERE critic = {sql_literal(HUMAN)} "
        "AND score IS NOT NULL), ordered AS "
        f"(SELECT score, row_number() OVER (ORDER BY {_random(seed)}) AS place "
        "FROM chosen LEFT JOIN labels USING (doc_id)), first AS "
        "(SELECT coalesce(min(place), (SELECT count(*) + 1 FROM ordered)) AS unlabeled "
        "FROM ordered WHERE score IS NULL) "
        "SELECT (SELECT count(*) FROM ordered) AS matches, count(*) AS labels, "
        f"count(*) FILTER (score >= {cut}) AS good FROM ordered, first WHERE place < unlabeled"
    )
    (row,) = _rows(store, snapshot, sql)
    matches, labels, good = row["matches"], row["labels"], row["good"]
    if not labels:
        raise StoreError(
            f"{scope.name!r} keeps {matches:,} documents, and the first one of its random queue "
            f"has no label. List them: ixt labels queue random {scope.option}"
        )
    low, high = wilson_interval(good, labels)
    return Precision(
        scope.name, matches, labels, good, good / labels, low, high, cut, snapshot.version
    )


def wilson_interval(good: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share, by Wilson's score (1927)."""
    share, z2 = good / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class _Scope:
    """The documents of a queue: a query, a name for messages, and the option that selects them."""

    documents: str
    name: str
    option: str

    @classmethod
    def of(
        cls,
        store: Store,
        snapshot: Snapshot,
        where: str | None,
        selection: str | None,
        critic: str | None,
    ) -> "_Scope":
        name, option, predicate = "all documents", "", where
        if selection is not None:
            saved = saved_selection(snapshot, selection, store.root)
            name, option = selection, f"--selection {selection}"
            predicate, critic = saved.where, saved.critic
        elif where is not None:
            name, option = where, f"--where {where!r}"
            critic = choose_critic(snapshot, critic, store.root)
        columns = "documents.doc_id, corpus, source_id"
        if predicate is None:
            return cls(f"SELECT {columns} FROM documents", name, option)
        scope = f"{join_clause(snapshot, critic)} WHERE (\n{predicate}\n)"
        return cls(f"SELECT doc_id, corpus, source_id {scope}", name, option)


def _judges(
    store: Store, snapshot: Snapshot, queue: Queue, critics: Sequence[str]
) -> tuple[str, ...]:
    """Return the critics whose scores a queue compares or shows."""
    known = sorted({info.name for info in snapshot.critics.values()} - {HUMAN})
    chosen = tuple(critics) or tuple(known)
    for critic in chosen:
        choose_critic(snapshot, critic, store.root)
    wanted = {Queue.disagreement: 2, Queue.uncertain: 1}.get(queue)
    if wanted is not None and len(chosen) != wanted:
        named = ", ".join(known) or "none"
        raise StoreError(
            f"the queue {queue.value} needs {wanted} of the critics, given {len(chosen)}: "
            f"name them with --critic; critics: {named}"
        )
    return chosen


def _random(seed: int) -> str:
    """Return an order that depends on the document and the seed only."""
    return f"md5(doc_id::VARCHAR || ':{seed}')"


def _rows(store: Store, snapshot: Snapshot, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = store.sql(sql, at=snapshot.version).arrow().to_pylist()
    return rows
