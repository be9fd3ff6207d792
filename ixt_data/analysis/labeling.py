"""Which documents a person labels next, and what their labels say of a selection."""

import math
import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ixt_data.errors import QueryError, StoreError
from ixt_data.log import HUMAN, Snapshot
from ixt_data.sql import (
    Catalog,
    choose_critic,
    choose_critic_for,
    critic_order,
    critiques_query,
    join_clause,
    parenthesize,
    sql_literal,
)
from ixt_data.store import Store, saved_selection, search_rows

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
        matches: documents that it keeps without the labels of people.
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
        return (
            f"of the {self.matches:,} documents that {self.selection!r} keeps without labels, "
            f"{self.share:.0%} are good ({self.low:.1%} to {self.high:.1%}; "
            f"{self.good:,} of {self.labels:,} labels)"
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
    with closing(_Scope.of(store, at, where, selection, critics[0] if critics else None)) as scope:
        judges = _judges(scope, queue, critics)
        joins = "".join(
            f" LEFT JOIN (SELECT doc_id, score AS score_{i}, entropy AS entropy_{i} "
            f"FROM ({critiques_query(scope.snapshot, critic)})) AS judge_{i} USING (doc_id)"
            for i, critic in enumerate(judges)
        )
        value, condition = _VALUES[queue]
        scores = ", ".join(f"score_{i}" for i in range(len(judges))) or "1 AS none"
        sql = (
            f"SELECT doc_id::VARCHAR AS doc_id, corpus, source_id, {value} AS value, {scores} "
            f"FROM ({scope.documents}){joins} WHERE {condition} "
            "AND doc_id NOT IN (SELECT unnest($labeled::UUID[])) "
            f"QUALIFY row_number() OVER (PARTITION BY doc_id ORDER BY corpus) = 1 "
            f"ORDER BY value DESC NULLS LAST, {_random(seed)} LIMIT {limit}"
        )
        rows = scope.rows(sql, {"labeled": list(scope.labels)})
    return [
        QueuedDocument(
            row["doc_id"],
            row["corpus"],
            row["source_id"],
            {critic: row[f"score_{i}"] for i, critic in enumerate(judges)},
            row["value"],
        )
        for row in rows
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
    with closing(_Scope.of(store, at, where, selection, critic)) as scope:
        sql = (
            f"WITH chosen AS (SELECT DISTINCT doc_id FROM ({scope.documents})), labels AS "
            "(SELECT unnest($ids::UUID[]) AS doc_id, unnest($scores::DOUBLE[]) AS score), "
            f"ordered AS (SELECT doc_id, score, row_number() OVER (ORDER BY {_random(seed)}) "
            "AS place FROM chosen LEFT JOIN labels USING (doc_id)), first AS "
            "(SELECT coalesce(min(place), (SELECT count(*) + 1 FROM ordered)) AS unlabeled, "
            "min_by(doc_id, place)::VARCHAR AS next FROM ordered WHERE score IS NULL) "
            "SELECT (SELECT count(*) FROM ordered) AS matches, count(*) AS labels, "
            f"count(*) FILTER (score >= {cut}) AS good, (SELECT next FROM first) AS next "
            "FROM ordered, first WHERE place < unlabeled"
        )
        values = {"ids": list(scope.labels), "scores": list(scope.labels.values())}
        (row,) = scope.rows(sql, values)
    matches, labels, good = row["matches"], row["labels"], row["good"]
    if not labels:
        raise StoreError(_explain_no_labels(scope, matches, row["next"]))
    low, high = wilson_interval(good, labels)
    return Precision(
        scope.name, matches, labels, good, good / labels, low, high, cut, scope.snapshot.version
    )


def _explain_no_labels(scope: "_Scope", matches: int, first: str | None) -> str:
    if not matches:
        return f"{scope.name!r} keeps no documents without labels"
    kept = f"{scope.name!r} keeps {matches:,} documents, and the first one of its random queue has "
    if first in scope.labels:
        return f"{kept}a label without a score: ixt label {first[:8]} --score SCORE"
    return f"{kept}no label. List them: ixt labels queue random {scope.option}"


def wilson_interval(good: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share, by Wilson's score (1927)."""
    share, z2 = good / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


_VALUES = {
    Queue.disagreement: (
        "abs(score_0 - score_1)",
        "score_0 IS NOT NULL AND score_1 IS NOT NULL",
    ),
    Queue.uncertain: ("coalesce(entropy_0, 0.5 - abs(score_0 - 0.5))", "score_0 IS NOT NULL"),
    Queue.random: ("NULL::DOUBLE", "true"),
}
"""The value that orders a queue, and the condition of its documents."""


@dataclass(frozen=True)
class _Scope:
    """The documents of a queue, as they are without the labels of people.

    A predicate that reads labels would keep other documents after each label. So its catalog has
    no labels, which holds for other selections that it names, too.

    Attributes:
        full: the snapshot.
        snapshot: the snapshot without labels.
        root: root of the store.
        catalog: its views.
        labels: scores of the labels, by doc_id.
        documents: query of the documents.
        name: name for messages.
        option: options that select the documents.
    """

    full: Snapshot
    snapshot: Snapshot
    root: str
    catalog: Catalog
    labels: dict[str, float | None]
    documents: str
    name: str
    option: str

    @classmethod
    def of(
        cls,
        store: Store,
        at: int | str | None,
        where: str | None,
        selection: str | None,
        critic: str | None,
    ) -> "_Scope":
        full = store.snapshot(at)
        sql = f"SELECT doc_id, score FROM critiques WHERE critic = {sql_literal(HUMAN)}"
        rows = store.sql(sql, at=full.version).arrow().to_pylist()
        labels = {str(row["doc_id"]): row["score"] for row in rows}
        snapshot = full.without_critic(HUMAN)
        name, option, named = "all documents", "", critic is not None
        if selection is not None:
            saved = saved_selection(full, selection, store.root)
            name, option = selection, f"--selection {selection}"
            where, critic = saved.where, saved.critic
        elif where is not None:
            name, option = where, f"--where {shlex.quote(where)}"
            option += f" --critic {critic}" if critic else ""
        if critic is not None:
            choose_critic(full, critic, store.root)
            critic = _without_people(full, critic)
        find = search_rows(store, snapshot)
        catalog = Catalog(store.storage, store.log, snapshot, find_texts=find)
        try:
            clause = "FROM documents"
            if where is not None:
                if selection is None and not named:
                    critic = choose_critic_for(catalog, None, store.root, where)
                clause = f"{join_clause(snapshot, critic)} WHERE {parenthesize(where)}"
            documents = f"SELECT doc_id, corpus, source_id {clause}"
            _check_without_labels(catalog, documents, where, labels)
        except BaseException:
            catalog.close()
            raise
        return cls(full, snapshot, store.root, catalog, labels, documents, name, option)

    def rows(self, sql: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.catalog.arrow(sql, values).to_pylist()
        return rows

    def close(self) -> None:
        self.catalog.close()


def _check_without_labels(
    catalog: Catalog, documents: str, where: str | None, labels: dict[str, float | None]
) -> None:
    """Check that a query is valid without the labels of people.

    Raises:
        QueryError: it is not; the message has the reason.
    """
    try:
        catalog.arrow(f"SELECT * FROM ({documents}) LIMIT 0")
    except QueryError as error:
        if not labels:
            raise
        raise QueryError(
            f"where {where!r} is refused without the labels of people: {error.reason}. With them, "
            "each label would change which documents it keeps, and labels could not estimate how "
            "many of these are good. Select by another critic"
        ) from None


def _without_people(full: Snapshot, critic: str) -> str | None:
    """Return an order of critics without `human`; None if no other one remains."""
    people = {HUMAN, *full.critic_ids(HUMAN)}
    return ",".join(name for name in critic_order(critic) if name not in people) or None


def _judges(scope: _Scope, queue: Queue, critics: Sequence[str]) -> tuple[str, ...]:
    """Return the critics whose scores a queue compares or shows."""
    known = sorted({info.name for info in scope.snapshot.critics.values()})
    chosen = []
    for critic in critics or known:
        choose_critic(scope.full, critic, scope.root)
        judge = _without_people(scope.full, critic)
        if judge is None:
            raise StoreError(
                f"critic {critic}: has no scores in a queue, whose documents have no labels; "
                f"critics: {', '.join(known) or 'none'}"
            )
        chosen.append(judge)
    wanted = {Queue.disagreement: 2, Queue.uncertain: 1}.get(queue)
    if wanted is not None and len(chosen) != wanted:
        named = ", ".join(known) or "none"
        raise StoreError(
            f"the queue {queue.value} needs {wanted} of the critics, given {len(chosen)}: "
            f"name them with --critic; critics: {named}"
        )
    return tuple(chosen)


def _random(seed: int) -> str:
    """Return an order that depends on the document and the seed only."""
    return f"md5(doc_id::VARCHAR || ':{seed}')"
