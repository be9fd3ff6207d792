"""Complaints of critics: groups of critiques by flags, tags of spans, or words.

Flags and tags are counted. The critiques of a critic that sets neither are grouped by their words:
TF-IDF and non-negative matrix factorisation (scikit-learn); the heaviest terms name each group.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ixt_data.errors import MissingExtra, StoreError
from ixt_data.log import Snapshot
from ixt_data.records import OK, ProgressCallback
from ixt_data.sql import choose_critic, critiques_query, sql_literal
from ixt_data.store import Store

By = Literal["flags", "tags", "words"]
DEFAULT_GROUPS = 8
DEFAULT_SAMPLE = 20_000
MAX_EXAMPLES = 3
_TERMS = 4
_FEATURES = 20_000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Complaint:
    """Critiques with the same complaint.

    Attributes:
        by: property that defines the group.
        name: the flag, the tag, or the terms of the group.
        documents: number of documents; of the sample for words.
        share: share of the documents that were read.
        lift: the share divided by the share among all sources; None for words.
        mean_score: mean score; None without scores.
        examples: doc_ids with the lowest scores, or with the best fit for words.
    """

    by: By
    name: str
    documents: int
    share: float
    lift: float | None
    mean_score: float | None
    examples: list[str]


@dataclass(frozen=True, slots=True)
class Complaints:
    """The complaints of a critic about some documents.

    Attributes:
        critic: critic of the critiques.
        source: source of the documents; None for all.
        corpora: corpora of the documents; empty for all.
        documents: number of documents with a critique.
        sampled: number of critiques grouped by words.
        groups: groups of each kind, the largest first.
        snapshot: version that was read.
    """

    critic: str
    source: str | None
    corpora: tuple[str, ...]
    documents: int
    sampled: int
    groups: tuple[Complaint, ...]
    snapshot: int


def group_complaints(
    store: Store,
    *,
    source: str | None = None,
    critic: str | None = None,
    corpora: Sequence[str] = (),
    at: int | str | None = None,
    below: float | None = None,
    by: By | None = None,
    groups: int = DEFAULT_GROUPS,
    sample: int = DEFAULT_SAMPLE,
    progress: ProgressCallback = lambda done, total: None,
) -> Complaints:
    """Group the critiques of documents by complaint.

    Args:
        store: store of the documents.
        source: source of the documents; all by default.
        critic: name or id of the critic; by default the only critic.
        corpora: corpora of the documents; all by default.
        at: version or tag; the latest by default.
        below: score that documents must be below; no limit by default.
        by: property to group by; by default flags and tags, and words without both.
        groups: number of groups by words.
        sample: maximum number of critiques to group by words, chosen by doc_id.
        progress: function that receives the shards read so far and in total, for tags.

    Raises:
        StoreError: a critic, corpus or source does not exist, or nothing can be grouped.
        MissingExtra: scikit-learn is not installed, and grouping by words needs it.
    """
    snapshot = store.snapshot(at)
    chosen = choose_critic(snapshot, critic, store.root)
    if chosen is None:
        raise StoreError(f"no critiques in {store.root}. Add some: ixt critique --corpus NAME")
    catalog = store.catalog(snapshot.version)
    try:
        scope = _Scope(catalog, snapshot, chosen, source, corpora, below, store.root)
        complaints: list[Complaint] = []
        if by in (None, "flags"):
            complaints += scope.flags()
        if by in (None, "tags"):
            complaints += scope.tags(_tags(store, snapshot, chosen, scope.shards(), progress))
        sampled = 0
        if by == "words" or (by is None and not complaints):
            rows = scope.texts(sample)
            sampled = len(rows)
            complaints += group_by_words(rows, groups)
    finally:
        catalog.close()
    return Complaints(
        chosen,
        source,
        tuple(corpora),
        scope.documents,
        sampled,
        tuple(complaints),
        snapshot.version,
    )


class _Scope:
    """The selected documents with the critiques of one critic."""

    def __init__(
        self,
        catalog: Any,
        snapshot: Snapshot,
        critic: str,
        source: str | None,
        corpora: Sequence[str],
        below: float | None,
        root: str,
    ) -> None:
        snapshot.check_corpora(corpora, root)
        self._catalog = catalog
        inside = [f"corpus IN ({', '.join(map(sql_literal, corpora))})"] if corpora else ["true"]
        everything = (
            "SELECT source, doc_id, any_value(score) AS score, any_value(flags) AS flags, "
            "any_value(critique) AS critique, any_value(n_spans) AS n_spans, "
            "any_value(shard) AS text_shard "
            f"FROM documents JOIN ({critiques_query(snapshot, critic)}) USING (doc_id) "
            f"WHERE {inside[0]} AND status = '{OK}' GROUP BY source, doc_id"
        )
        mine = [f"source = {sql_literal(source)}"] if source is not None else []
        mine += [f"score < {below}"] if below is not None else []
        self._every = f"({everything})"
        self._mine = f"(SELECT * FROM {self._every} WHERE {' AND '.join(mine) or 'true'})"
        self.documents = self._count(self._mine)
        self._all = self._count(self._every)
        if not self.documents:
            sources = catalog.arrow(
                f"SELECT DISTINCT source FROM {self._every} ORDER BY 1 LIMIT 20"
            )
            known = ", ".join(sources["source"].to_pylist()) or "none"
            raise StoreError(
                f"no document of source {source!r} with a critique by {critic} in {root}; sources "
                f"with critiques: {known}"
            )

    def _count(self, rows: str) -> int:
        return int(
            self._catalog.arrow(f"SELECT count(DISTINCT doc_id) AS n FROM {rows}")["n"][0].as_py()
        )

    def flags(self) -> Iterator[Complaint]:
        """Return groups by flag."""
        named = "SELECT *, unnest(flags) AS name FROM"
        return self._groups("flags", f"{named} {self._mine}", f"{named} {self._every}")

    def tags(self, tags: Mapping[str, set[bytes]]) -> Iterator[Complaint]:
        """Return groups by tag, from the doc_ids of each tag."""
        if not tags:
            return iter(())
        pairs = [(name, doc_id) for name, ids in tags.items() for doc_id in ids]
        names = [name for name, _ in pairs]
        ids = [doc_id.hex() for _, doc_id in pairs]
        tagged = "(SELECT unnest($1::VARCHAR[]) AS name, unnest($2::VARCHAR[])::UUID AS doc_id)"
        mine = f"SELECT * FROM {self._mine} JOIN {tagged} USING (doc_id)"
        every = f"SELECT doc_id, name FROM {self._every} JOIN {tagged} USING (doc_id)"
        return self._groups("tags", mine, every, [names, ids])

    def _groups(
        self, by: By, mine: str, every: str, parameters: list[Any] | None = None
    ) -> Iterator[Complaint]:
        sql = (
            f"WITH own AS ({mine}), theirs AS ({every}), "
            "totals AS (SELECT name, count(DISTINCT doc_id) AS n FROM theirs GROUP BY name) "
            "SELECT name, count(*) AS documents, avg(score) AS mean, any_value(n) AS n, "
            f"arg_min(doc_id, coalesce(score, 2), {MAX_EXAMPLES}) AS examples "
            "FROM (SELECT DISTINCT ON (name, doc_id) * FROM own) JOIN totals USING (name) "
            "GROUP BY name ORDER BY documents DESC, name"
        )
        for row in self._catalog.arrow(sql, parameters).to_pylist():
            share = row["documents"] / self.documents
            yield Complaint(
                by,
                row["name"],
                row["documents"],
                share,
                share / (row["n"] / self._all),
                row["mean"],
                [str(doc_id) for doc_id in row["examples"]],
            )

    def shards(self) -> list[str]:
        """Return text shards with documents that have spans."""
        sql = f"SELECT DISTINCT text_shard AS path FROM {self._every} WHERE n_spans > 0"
        return list(self._catalog.arrow(sql)["path"].to_pylist())

    def texts(self, max_texts: int) -> list[dict[str, Any]]:
        """Return doc_id, score and critique of up to `max_texts` documents, always the same."""
        sql = (
            f"SELECT DISTINCT ON (doc_id) doc_id, score, critique FROM {self._mine} "
            f"WHERE critique <> '' ORDER BY doc_id LIMIT {max_texts}"
        )
        return list(self._catalog.arrow(sql).to_pylist())


def _tags(
    store: Store,
    snapshot: Snapshot,
    critic: str,
    text_shards: Sequence[str],
    progress: ProgressCallback,
) -> dict[str, set[bytes]]:
    """Return doc_ids by the tags of their spans, of the latest critique of each text shard."""
    ids_by_tag: dict[str, set[bytes]] = {}
    for done, path in enumerate(text_shards, 1):
        by_id = critic in snapshot.critics
        family = f"critique/{critic}"
        info = snapshot.aligned(path, family) if by_id else snapshot.newest_critique(path, critic)
        if info is not None:
            shard = store.shard(info)
            columns = zip(shard.column("doc_id"), shard.column("spans"), strict=True)
            for doc_id, spans in columns:
                for tag in {span[3] for span in spans if span[3]}:
                    ids_by_tag.setdefault(tag, set()).add(doc_id)
        progress(done, len(text_shards))
    return ids_by_tag


def group_by_words(rows: Sequence[Mapping[str, Any]], groups: int) -> Iterator[Complaint]:
    """Yield groups of critiques with similar words, the largest first.

    Raises:
        StoreError: the critiques have too few words in common.
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import NMF
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise MissingExtra("scikit-learn", "curate") from None
    if not rows:
        raise StoreError("no critique has a text to group")
    n = len(rows)
    vectorizer = TfidfVectorizer(
        stop_words="english",
        ngram_range=(1, 2),
        max_features=_FEATURES,
        min_df=2 if n < 1000 else 5,
        max_df=0.9,
        sublinear_tf=True,
    )
    try:
        matrix = vectorizer.fit_transform([row["critique"] for row in rows])
    except ValueError:
        raise StoreError(f"{n:,} critiques have no words in common: nothing to group") from None
    count = max(1, min(groups, n // 2, matrix.shape[1]))
    model = NMF(count, init="nndsvda", random_state=_SEED, max_iter=300, tol=1e-3)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # Groups are stable long before convergence; a perfect fit takes the root of -1e-17.
        warnings.simplefilter("ignore", ConvergenceWarning)
        weights = model.fit_transform(matrix)
    terms = vectorizer.get_feature_names_out()
    best, found = weights.argmax(axis=1), []
    for group in range(count):
        members = [i for i in (best == group).nonzero()[0] if weights[i, group] > 0]
        if not members:
            continue
        members.sort(key=lambda i: -weights[i, group])
        heavy = model.components_[group].argsort()[::-1]
        scores = [rows[i]["score"] for i in members if rows[i]["score"] is not None]
        found.append(
            Complaint(
                "words",
                ", ".join(_distinct_terms(terms[i] for i in heavy)),
                len(members),
                len(members) / n,
                None,
                sum(scores) / len(scores) if scores else None,
                [str(rows[i]["doc_id"]) for i in members[:MAX_EXAMPLES]],
            )
        )
    yield from sorted(found, key=lambda one: -one.documents)


def _distinct_terms(terms: Iterable[str]) -> list[str]:
    """Return the first terms that share no word with an earlier term."""
    chosen: list[str] = []
    for term in terms:
        if not any(set(term.split()) & set(other.split()) for other in chosen):
            chosen.append(term)
        if len(chosen) == _TERMS:
            break
    return chosen
