"""People's labels: sparse critiques of the critic `human`, with their reviewers and their history.

A label is a row of `critiques` like a judge's, and a sample of a critique shard that is aligned
with the text shard; samples without a label are placeholders without a row. A later label of a
document replaces the former one, whose row stays in `critiques_all` with its reviewer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import orjson

from ixt_data.errors import StoreError, UnitAlreadyPublished, UnknownDocument
from ixt_data.log import HUMAN, CriticInfo, ShardInfo, Snapshot
from ixt_data.mds import CRITIQUE_COLUMNS, Shard
from ixt_data.records import OK, VERDICTS, Critique, Span, content_id
from ixt_data.sql import find_document
from ixt_data.store.critique_rows import (
    ORPHAN,
    critique_sample,
    critique_table,
    shard_number,
    unit_name,
)
from ixt_data.store.transaction import Transaction

if TYPE_CHECKING:
    import pyarrow as pa

    from ixt_data.sql import Catalog

LABEL_COLUMNS = {"reviewer": "VARCHAR", "labeled": "TIMESTAMPTZ", "label_spans": "JSON"}
"""Columns of a label's row in addition to those of every critique."""
MAX_REVIEWER_CHARS = 100
MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Label:
    """One person's judgement of a document.

    Attributes:
        doc_id: the document, as text.
        by: name of the person.
        score: 0 to 1; None for a critique without a score.
        critique: free text.
        spans: stretches of the text that are `right` or `wrong`.
        flags: short labels.
    """

    doc_id: str
    by: str
    score: float | None = None
    critique: str = ""
    spans: tuple[Span, ...] = ()
    flags: tuple[str, ...] = ()

    def check(self) -> None:
        """Check the values that do not depend on the document.

        Raises:
            StoreError: a value is missing or not valid; the message names it.
        """
        if not self.by.strip() or len(self.by) > MAX_REVIEWER_CHARS or not self.by.isprintable():
            raise StoreError(
                f"by: {self.by!r} is not a name of 1 to {MAX_REVIEWER_CHARS} characters"
            )
        if self.score is not None and not 0 <= self.score <= 1:
            raise StoreError(f"score: {self.score} is not between 0 and 1")
        if self.score is None and not (self.critique or self.spans or self.flags):
            raise StoreError("a label needs a score, a critique, a span or a flag")
        for span in self.spans:
            if not 0 <= span.start < span.end:
                raise StoreError(f"span {span.start}:{span.end}: is empty or negative")
            if span.verdict not in VERDICTS:
                valid = " or ".join(VERDICTS)
                raise StoreError(
                    f"span {span.start}:{span.end}: the verdict {span.verdict!r} is not {valid}"
                )
        try:
            UUID(self.doc_id)
        except ValueError:
            raise StoreError(f"doc_id: {self.doc_id!r} is not a doc_id of 32 digits") from None


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
    """Add labels, with one commit per text shard.

    Args:
        store: the store.
        labels: at most one per document.

    Raises:
        StoreError: a label is not valid, a span exceeds its text, or two labels are of one
            document.
        UnknownDocument: a document does not exist.
        UnitAlreadyPublished: other people labeled documents of the same shard in every attempt.
    """
    by_id: dict[str, Label] = {}
    for label in labels:
        label.check()
        doc_id = str(UUID(label.doc_id))
        if doc_id in by_id:
            raise StoreError(f"two labels of {doc_id}: give one")
        by_id[doc_id] = replace(label, doc_id=doc_id)
    snapshot = store.snapshot()
    places = _places(store, snapshot, list(by_id))
    for doc_id in by_id:
        if doc_id not in places:
            raise UnknownDocument(f"no document {doc_id} in snapshot {snapshot.version}")
    # A document of several corpora has its label in the shard of each, and one row.
    by_shard: dict[str, list[Label]] = {}
    for doc_id, shards in places.items():
        for shard in shards:
            by_shard.setdefault(shard, []).append(by_id[doc_id])
    _check_spans(store, snapshot, by_shard)
    done: set[str] = set()
    replaced, version = 0, snapshot.version
    for path, members in by_shard.items():
        version, n = _publish(store, path, members, done)
        done |= {label.doc_id for label in members}
        replaced += n
    return LabelReport(len(by_id), replaced, version)


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


def _check_spans(store: LabeledStore, snapshot: Snapshot, by_shard: dict[str, list[Label]]) -> None:
    for path, labels in by_shard.items():
        ends = {
            UUID(label.doc_id).bytes: max(span.end for span in label.spans)
            for label in labels
            if label.spans
        }
        if not ends:
            continue
        data = store.shard(snapshot.shards_by_path[path])
        for doc_id, text in zip(data.column("doc_id"), data.column("text"), strict=True):
            if doc_id in ends and ends[doc_id] > len(text):
                raise StoreError(
                    f"{UUID(bytes=doc_id)}: a span ends at {ends[doc_id]:,}, "
                    f"the text has {len(text):,} characters"
                )


def _publish(
    store: LabeledStore, path: str, labels: Sequence[Label], done: set[str]
) -> tuple[int, int]:
    """Commit the labels of documents of one text shard; return version and replaced labels."""
    for attempts in range(MAX_ATTEMPTS, 0, -1):
        try:
            return _publish_once(store, path, labels, done)
        except UnitAlreadyPublished:
            # Another person labeled a document of this shard at the same time.
            if attempts == 1:
                raise
    raise AssertionError


def _publish_once(
    store: LabeledStore, path: str, labels: Sequence[Label], done: set[str]
) -> tuple[int, int]:
    critic, now = human_critic(), datetime.now(UTC)
    base = store.snapshot()
    shard = base.shards_by_path[path]
    with store.begin("label", unit=unit_name(critic.id, shard), base=base.version) as txn:
        former = base.aligned(path, f"critique/{critic.id}")
        txn.add_critic(critic)
        by_id = {UUID(label.doc_id).bytes: label for label in labels}
        family = txn.family(
            f"critique/{critic.id}", shard.corpus, CRITIQUE_COLUMNS, first=shard_number(shard)
        )
        new: dict[bytes, tuple[int, Critique]] = {}
        for number, sample in enumerate(_former_samples(store, base, shard, former)):
            doc_id = sample["doc_id"]
            if doc_id in by_id:
                critique = _critique(by_id[doc_id], doc_id)
                sample = critique_sample(critique)
                new.setdefault(doc_id, (number, critique))
            family.write(sample)
        written = family.cut(aligned_with=path)
        if former is not None:
            txn.remove_shards([former.path])
        generations = _generations(store, base, [label.doc_id for label in labels])
        groups: dict[int, list[tuple[int, Critique]]] = {}
        for doc_id, row in new.items():
            if str(UUID(bytes=doc_id)) not in done:
                generation = generations.get(str(UUID(bytes=doc_id)), -1) + 1
                groups.setdefault(generation, []).append(row)
        for generation, rows in sorted(groups.items()):
            table = _without_place(critique_table(written, critic, rows))
            reviewers = [by_id[critique.doc_id].by for _, critique in rows]
            txn.add_rows(
                "critiques", critic.id, _with_reviewers(table, rows, reviewers, now), generation
            )
        n = sum(map(len, groups.values()))
        version = txn.commit(labels=n, by=sorted({label.by for label in labels}))
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


def _critique(label: Label, doc_id: bytes) -> Critique:
    spans = tuple(sorted(label.spans, key=lambda span: (span.start, span.end)))
    return Critique(doc_id, OK, label.critique, label.score, spans=spans, flags=tuple(label.flags))


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
