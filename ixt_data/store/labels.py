"""People's labels: sparse critiques of the critic `human`, with their reviewers and their history.

A label is a row of `critiques` like a judge's, and a sample of a critique shard that is aligned
with the text shard; samples without a label are placeholders without a row. A later label of a
document replaces the former one, whose row stays in `critiques_all` with its reviewer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import orjson

from ixt_data.errors import UnitAlreadyPublished, UnknownDocument
from ixt_data.log import HUMAN, CriticInfo, ShardInfo, Snapshot
from ixt_data.mds import CRITIQUE_COLUMNS, Shard
from ixt_data.records import OK, Critique, Span, content_id
from ixt_data.sql import find_document
from ixt_data.store.critique_rows import (
    ORPHAN,
    critique_sample,
    critique_table,
    shard_number,
    unit_name,
)
from ixt_data.store.label_values import Label
from ixt_data.store.transaction import Transaction

if TYPE_CHECKING:
    import pyarrow as pa

    from ixt_data.sql import Catalog

LABEL_COLUMNS = {"reviewer": "VARCHAR", "labeled": "TIMESTAMPTZ", "label_spans": "JSON"}
"""Columns of a label's row in addition to those of every critique."""
MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class LabelReport:
    """Result of `label_documents`.

    Attributes:
        labels: number of labels.
        replaced: how many of them replace an earlier label of the same document.
        snapshot: version that has them.
    """

    labels: int
    replaced: int
    snapshot: int


class LabeledStore(Protocol):
    """The part of a store that labels need; see `Store`."""

    root: str

    def snapshot(self, at: int | str | None = None) -> Snapshot:
        """Return the state."""

    def catalog(self, at: int | str | None = None) -> "Catalog":
        """Open the SQL views of a snapshot."""

    def shard(self, info: ShardInfo) -> Shard:
        """Read one shard."""

    def begin(self, op: str, unit: str | None = None, *, base: int | None = None) -> Transaction:
        """Start a transaction."""


def human_critic() -> CriticInfo:
    """Return the critic of all labels."""
    config: dict[str, Any] = {"critic": HUMAN, "kind": "labels"}
    return CriticInfo(f"{HUMAN}-{content_id(config)}", HUMAN, config)


def find_labeled(store: LabeledStore, name: str) -> str:
    """Return the doc_id of a document, by its doc_id, the start of it, or its source_id.

    Raises:
        UnknownDocument: no document has this name.
        StoreError: several documents have it; the message lists them.
    """
    version = store.snapshot().version
    return find_document(lambda sql, values: _query(store, version, sql, dict(values)), name)


def label_documents(store: LabeledStore, labels: Iterable[Label]) -> LabelReport:
    """Add labels, with one commit per text shard, after all of them have been checked.

    Args:
        store: the store.
        labels: any number per document. The last one counts, the history has all.

    Raises:
        StoreError: a label is not valid, or a span exceeds its text.
        UnknownDocument: a document does not exist.
        UnitAlreadyPublished: other people labeled documents of the same shard in every attempt.
    """
    by_id: dict[str, list[Label]] = {}
    for label in labels:
        label.check()
        by_id.setdefault(str(label.document), []).append(label)
    snapshot = store.snapshot()
    places = _places(store, snapshot, list(by_id))
    for doc_id, members in by_id.items():
        if doc_id not in places:
            what = f"doc_id: no document {doc_id} in snapshot {snapshot.version}"
            raise members[0].error(what, UnknownDocument)
    # A document of several corpora has its labels in the shard of each, and one row per label.
    by_shard: dict[str, dict[bytes, list[Label]]] = {}
    for doc_id, shards in places.items():
        for shard in shards:
            by_shard.setdefault(shard, {})[UUID(doc_id).bytes] = by_id[doc_id]
    for path, by_document in by_shard.items():
        _check_spans(store, snapshot.shards_by_path[path], by_document)
    done: set[bytes] = set()
    replaced, version = 0, snapshot.version
    for path, by_document in by_shard.items():
        version, n = _publish(store, path, by_document, done)
        done |= by_document.keys()
        replaced += n
    return LabelReport(sum(map(len, by_id.values())), replaced, version)


def _places(
    store: LabeledStore, snapshot: Snapshot, doc_ids: Sequence[str]
) -> dict[str, list[str]]:
    """Return the text shards of documents, by doc_id."""
    sql = (
        "SELECT doc_id::VARCHAR AS doc_id, shard FROM documents "
        "WHERE doc_id IN (SELECT unnest($ids::UUID[])) ORDER BY corpus"
    )
    places: dict[str, list[str]] = {}
    for row in _query(store, snapshot.version, sql, {"ids": list(doc_ids)}):
        places.setdefault(row["doc_id"], []).append(row["shard"])
    return places


def _check_spans(
    store: LabeledStore, shard: ShardInfo, by_document: dict[bytes, list[Label]]
) -> None:
    if not any(label.spans for labels in by_document.values() for label in labels):
        return
    data = store.shard(shard)
    for doc_id, text in zip(data.column("doc_id"), data.column("text"), strict=True):
        for label in by_document.get(doc_id, ()):
            for number, span in enumerate(label.spans):
                if span.end > len(text):
                    raise label.error(
                        f"spans[{number}]: a span ends at {span.end:,}, "
                        f"the text of {label.doc_id} has {len(text):,} characters"
                    )


def _publish(
    store: LabeledStore, path: str, by_document: dict[bytes, list[Label]], done: set[bytes]
) -> tuple[int, int]:
    """Commit the labels of documents of one text shard; return version and replaced labels."""
    for attempts in range(MAX_ATTEMPTS, 0, -1):
        try:
            return _publish_once(store, path, by_document, done)
        except UnitAlreadyPublished:
            # Another person labeled a document of this shard at the same time.
            if attempts == 1:
                raise
    raise AssertionError


def _publish_once(
    store: LabeledStore, path: str, by_document: dict[bytes, list[Label]], done: set[bytes]
) -> tuple[int, int]:
    critic, now = human_critic(), datetime.now(UTC)
    base = store.snapshot()
    shard = base.shards_by_path[path]
    with store.begin("label", unit=unit_name(critic.id, shard), base=base.version) as txn:
        former = base.aligned(path, f"critique/{critic.id}")
        txn.add_critic(critic)
        family = txn.family(
            f"critique/{critic.id}", shard.corpus, CRITIQUE_COLUMNS, first=shard_number(shard)
        )
        numbers: dict[bytes, int] = {}
        for number, sample in enumerate(_former_samples(store, base, shard, former)):
            doc_id = sample["doc_id"]
            if doc_id in by_document:
                sample = critique_sample(_critique(by_document[doc_id][-1]))
                numbers.setdefault(doc_id, number)
            family.write(sample)
        written = family.cut(aligned_with=path)
        if former is not None:
            txn.remove_shards([former.path])
        generations = _generations(store, base, [str(UUID(bytes=one)) for one in by_document])
        groups: dict[int, list[tuple[int, Label]]] = {}
        for doc_id, number in numbers.items():
            if doc_id not in done:
                first = generations.get(str(UUID(bytes=doc_id)), -1) + 1
                for generation, label in enumerate(by_document[doc_id], first):
                    groups.setdefault(generation, []).append((number, label))
        for generation, members in sorted(groups.items()):
            rows = [(number, _critique(label)) for number, label in members]
            table = _without_place(critique_table(written, critic, rows))
            reviewers = [label.by for _, label in members]
            txn.add_rows(
                "critiques", critic.id, _with_reviewers(table, rows, reviewers, now), generation
            )
        n = sum(map(len, groups.values()))
        people = sorted({label.by for labels in by_document.values() for label in labels})
        version = txn.commit(labels=n, by=people)
        return version, n - len(groups.get(0, ()))


def _former_samples(
    store: LabeledStore, base: Snapshot, shard: ShardInfo, former: ShardInfo | None
) -> Iterable[dict[str, Any]]:
    """Yield the samples of the labels so far, placeholders where there is none.

    Without a shard they come from the rows: `ixt verify --repair` has removed it, or the documents
    were labeled in another corpus.
    """
    if former is not None:
        yield from store.shard(former).rows()
        return
    sql = (
        "SELECT doc_id::VARCHAR AS doc_id, score, critique, label_spans FROM critiques "
        "WHERE critic = $critic AND doc_id IN (SELECT doc_id FROM documents WHERE shard = $shard)"
    )
    labeled: dict[bytes, Critique] = {}
    if human_critic().id in base.critics:
        for row in _query(store, base.version, sql, {"critic": HUMAN, "shard": shard.path}):
            doc_id = UUID(row["doc_id"]).bytes
            spans = tuple(Span(*span) for span in orjson.loads(row["label_spans"]))
            labeled[doc_id] = Critique(doc_id, OK, row["critique"], row["score"], spans=spans)
    for doc_id in store.shard(shard).column("doc_id"):
        yield critique_sample(labeled.get(doc_id) or Critique(doc_id, ORPHAN))


def _critique(label: Label) -> Critique:
    spans = tuple(sorted(label.spans, key=lambda span: (span.start, span.end)))
    score = None if label.score is None else float(label.score)
    flags = tuple(label.flags)
    return Critique(label.document.bytes, OK, label.critique, score, spans=spans, flags=flags)


def _without_place(table: "pa.Table") -> "pa.Table":
    """Return the rows without shard and row: the next label replaces the shard."""
    import pyarrow as pa

    for name in ("shard", "row"):
        number = table.schema.get_field_index(name)
        nulls = pa.nulls(table.num_rows, table.schema.field(number).type)
        table = table.set_column(number, name, nulls)
    return table


def _with_reviewers(
    table: "pa.Table",
    rows: Sequence[tuple[int, Critique]],
    reviewers: Sequence[str],
    now: datetime,
) -> "pa.Table":
    import pyarrow as pa

    spans = [
        orjson.dumps([span.to_json() for span in critique.spans]).decode() for _, critique in rows
    ]
    table = table.append_column("reviewer", pa.array(reviewers, pa.string()))
    when = pa.array([now] * len(rows), pa.timestamp("us", "UTC"))
    table = table.append_column("labeled", when)
    return table.append_column("label_spans", pa.array(spans, pa.string()))


def _generations(store: LabeledStore, base: Snapshot, doc_ids: list[str]) -> dict[str, int]:
    """Return the latest generation of the labels of documents, by doc_id."""
    sql = (
        "SELECT doc_id::VARCHAR AS doc_id, max(generation) AS generation FROM critiques_all "
        "WHERE critic = $critic AND doc_id IN (SELECT unnest($ids::UUID[])) GROUP BY ALL"
    )
    rows = _query(store, base.version, sql, {"critic": HUMAN, "ids": doc_ids})
    return {row["doc_id"]: row["generation"] for row in rows}


def _query(
    store: LabeledStore, version: int, sql: str, values: dict[str, Any]
) -> list[dict[str, Any]]:
    catalog = store.catalog(version)
    try:
        rows: list[dict[str, Any]] = catalog.arrow(sql, values).to_pylist()
        return rows
    finally:
        catalog.close()
