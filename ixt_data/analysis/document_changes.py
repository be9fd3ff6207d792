"""The documents that differ between two snapshots: added, removed, rescored, other values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_data.log import Snapshot
from ixt_data.sql import DOCUMENTS, Catalog, common_schema, quote_name, sql_literal
from ixt_data.store import Store

Change = dict[str, Any]
_VALUE_CHARS = 200
_FIXED = ("doc_id", "corpus", "shard", "row", "n_bytes", "n_chars")
"""Columns of places, and columns that follow from the text, which a doc_id never changes."""
_DIFFERS = "FILTER ({} IS DISTINCT FROM {})"
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")
_COUNTS = """
SELECT corpus, count(*) FILTER (added) AS added, count(*) FILTER (NOT added) AS removed FROM (
  SELECT corpus, true AS added FROM documents ANTI JOIN before.documents USING (corpus, doc_id)
  UNION ALL
  SELECT corpus, false FROM before.documents ANTI JOIN documents USING (corpus, doc_id)
) GROUP BY corpus ORDER BY corpus
"""
_ONLY = """
SELECT corpus, doc_id::VARCHAR AS doc_id, source_id, source, n_chars
FROM {} AS one ANTI JOIN {} AS other USING (corpus, doc_id) ORDER BY corpus, one.doc_id LIMIT {}
"""
_RESCORED = """
SELECT a.critic, a.doc_id::VARCHAR AS doc_id, b.score AS before, a.score AS after
FROM critiques a JOIN before.critiques b USING (doc_id, critic)
WHERE a.score IS DISTINCT FROM b.score
ORDER BY abs(a.score - b.score) DESC NULLS LAST, a.critic, a.doc_id LIMIT {}
"""
_NAMES = """
SELECT doc_id::VARCHAR AS doc_id, any_value(source_id) AS source_id, min(corpus) AS corpus
FROM {} WHERE doc_id IN ({}) GROUP BY doc_id
"""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column whose values are compared; None where a snapshot does not have it."""

    name: str
    before: str | None
    after: str | None

    def values(self) -> tuple[str, str]:
        """Return the SQL of the two values, of types that can be compared."""
        quoted = quote_name(self.name)
        old = f"b.{quoted}" if self.before is not None else "NULL"
        new = f"a.{quoted}" if self.after is not None else "NULL"
        kinds = {self.before, self.after} - {None}
        if len(kinds) > 1 and not kinds <= {*_NUMBERS}:
            return f"{old}::VARCHAR", f"{new}::VARCHAR"
        return old, new


class DocumentChanges:
    """The documents of two snapshots, compared by the files that only one of them has.

    Files never change, so the documents of a file in both snapshots are the same.

    Args:
        store: the store.
        old: the first snapshot.
        new: the second snapshot.
    """

    def __init__(self, store: Store, old: Snapshot, new: Snapshot) -> None:
        states = [_without_files(one, other) for one, other in ((new, old), (old, new))]
        self._catalog = Catalog(store.storage, store.log, states[0], states[1])
        self._after_types, self._before_types = map(_types, states)

    def close(self) -> None:
        """Close the views of the snapshots."""
        self._catalog.close()

    def counts(self) -> list[Change]:
        """Return the numbers of added and removed documents by corpus."""
        rows: list[Change] = self._catalog.arrow(_COUNTS).to_pylist()
        return rows

    def added(self, rows: int) -> list[Change]:
        """Return the first documents that only the second snapshot has."""
        return self._only("documents", "before.documents", rows)

    def removed(self, rows: int) -> list[Change]:
        """Return the first documents that only the first snapshot has."""
        return self._only("before.documents", "documents", rows)

    def values(self, columns: Sequence[str], rows: int) -> Iterator[Change]:
        """Yield the columns of which documents in both snapshots have other values.

        Args:
            columns: the columns that both snapshots have.
            rows: maximum number of documents of each column.
        """
        old, new = self._before_types, self._after_types
        compared = [
            _Column(name, old.get(name), new.get(name))
            for name in columns
            if name not in _FIXED and (name in old or name in new)
        ]
        if not compared:
            return
        differences = [_DIFFERS.format(*column.values()) for column in compared]
        counts = self._common([f"count(*) {differs}" for differs in differences])
        changed = [number for number, n in enumerate(counts) if n]
        selected = []
        for number in changed:
            before, after = map(_shortened, compared[number].values())
            row = (
                "{'corpus': a.corpus, 'doc_id': a.doc_id::VARCHAR, 'source_id': a.source_id, "
                f"'before': {before}, 'after': {after}}}"
            )
            selected.append(f"arg_min({row}, a.doc_id, {max(1, rows)}) {differences[number]}")
        found = self._common(selected) if selected and rows else [[]] * len(changed)
        for number, documents in zip(changed, found, strict=True):
            yield {
                "column": compared[number].name,
                "total": counts[number],
                "documents": documents,
            }

    def _common(self, aggregates: Sequence[str]) -> list[Any]:
        """Return aggregates over the documents of both snapshots, `a` the second."""
        selected = ", ".join(f"{one} AS v_{n}" for n, one in enumerate(aggregates))
        (row,) = self._catalog.arrow(
            f"SELECT {selected} FROM documents AS a "
            "JOIN before.documents AS b USING (corpus, doc_id)"
        ).to_pylist()
        return list(row.values())

    def _only(self, one: str, other: str, rows: int) -> list[Change]:
        found: list[Change] = self._catalog.arrow(_ONLY.format(one, other, rows)).to_pylist()
        return found


def rescored_documents(catalog: Catalog, rows: int) -> list[Change]:
    """Return the documents whose scores changed most.

    Args:
        catalog: views of the second snapshot, with those of the first in the schema `before`.
        rows: maximum number of documents.
    """
    found = catalog.arrow(_RESCORED.format(rows)).to_pylist()
    if not found:
        return []
    ids = ", ".join(f"{sql_literal(row['doc_id'])}::UUID" for row in found)
    named: dict[str, Change] = {}
    for view in ("before.documents", "documents"):
        named |= {row["doc_id"]: row for row in catalog.arrow(_NAMES.format(view, ids)).to_pylist()}
    return [
        {"source_id": None, "corpus": None, **named.get(row["doc_id"], {}), **row} for row in found
    ]


def _without_files(snapshot: Snapshot, other: Snapshot) -> Snapshot:
    """Return a snapshot without the files of documents that another one also has."""
    left = snapshot.copy()
    for path, file in snapshot.rows.items():
        if file.table == "documents" and path in other.rows:
            left.rows.discard(path)
    return left


def _types(snapshot: Snapshot) -> dict[str, str]:
    """Return the type of each column of documents."""
    files = [file for file in snapshot.rows.values() if file.table == "documents"]
    return common_schema(files, DOCUMENTS)


def _shortened(value: str) -> str:
    return f"left(({value})::VARCHAR, {_VALUE_CHARS})"
