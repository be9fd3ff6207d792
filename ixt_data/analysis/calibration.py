"""Calibration: agreement of critics with one another, and of each critic with itself.

Everything is an aggregate that DuckDB computes over the rows of a snapshot, so memory does not grow
with the corpus. Definitions:

- weighted kappa: quadratic weights, Cohen 1968, on scores rounded to a scale from 0 to `scale`. As
  1 - E[(x - y)^2] / (var x + var y + (mean x - mean y)^2), which is the same.
- Spearman: Pearson's correlation of ranks; equal scores share their mean rank.
- score against length: least squares of the score on the natural logarithm of the characters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from ixt_data.critics import TOP
from ixt_data.errors import StoreError
from ixt_data.records import OK
from ixt_data.sql import Catalog, critiques_query
from ixt_data.store import Store

MAX_SOURCES = 20
"""Number of sources with separate agreement: those with the most documents."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two scores on the same documents; undefined values are None.

    Attributes:
        documents: number of documents with both scores.
        kappa: quadratic weighted kappa; 1 for equal scores, 0 for chance.
        spearman: rank correlation, -1 to 1.
        mean_difference: of the first score minus the second.
        exact: share of documents with the same value on the scale.
        source: source of the documents, None for all sources.
    """

    documents: int
    kappa: float | None
    spearman: float | None
    mean_difference: float | None
    exact: float | None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class ThinkingSamples:
    """Thinking samples of one critic on the same documents.

    Attributes:
        documents: number of documents with two samples or more.
        max_samples: maximum of samples per document.
        spread: mean of the samples' standard deviation, as a share of the scale.
        kappa, spearman: of two samples, as the mean over all pairs.
    """

    documents: int
    max_samples: int
    spread: float | None
    kappa: float | None
    spearman: float | None


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one critic.

    Attributes:
        critic: name or id.
        documents: number of documents in the corpora.
        scored: number of documents with a score; `coverage` is their share.
        coverage: share of the documents with a score, 0 to 1.
        failed: number of documents with a critique that is not `ok`.
        mean, deviation: of the scores.
        slope, intercept: of the score on the logarithm of the length.
        r2: share of the scores' variance that the length explains.
        histogram: number of documents by value on the scale, from 0.
        lengths: (lower end of an octave of characters, documents, mean score).
        samples: None where documents were judged once.
    """

    critic: str
    documents: int
    scored: int
    coverage: float
    failed: int
    mean: float | None
    deviation: float | None
    slope: float | None
    intercept: float | None
    r2: float | None
    histogram: tuple[int, ...]
    lengths: tuple[tuple[int, int, float], ...]
    samples: ThinkingSamples | None


@dataclass(frozen=True, slots=True)
class CriticPair:
    """Two critics on the documents that both scored.

    Attributes:
        first, second: names or ids.
        all: agreement on all documents.
        by_source: agreement on the sources with the most documents.
        confusion: number of documents by the first's value on the scale, then by the second's.
    """

    first: str
    second: str
    all: Agreement
    by_source: tuple[Agreement, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Result of `calibrate`.

    Attributes:
        snapshot: version of the snapshot.
        corpora: names of the corpora.
        scale: highest value of the scale for kappa.
        critics: scores of each critic.
        pairs: agreement of each pair of critics.
    """

    snapshot: int
    corpora: tuple[str, ...]
    scale: int
    critics: tuple[Scores, ...]
    pairs: tuple[CriticPair, ...]


def calibrate(
    store: Store,
    critics: Sequence[str] = (),
    *,
    corpora: Sequence[str] = (),
    at: int | str | None = None,
    scale: int = TOP,
    sources: int = MAX_SOURCES,
) -> Calibration:
    """Compare critics: all pairs of them, and the samples of each.

    Args:
        store: contains the critiques.
        critics: ids, or names for the latest critiques by that name; all names by default.
        corpora: names of corpora; all by default.
        at: version or tag; the latest version by default.
        scale: highest value that scores are rounded to for kappa.
        sources: number of sources with separate agreement.

    Raises:
        StoreError: a corpus or a critic does not exist.
    """
    snapshot = store.snapshot(at)
    names = list(dict.fromkeys(info.name for info in snapshot.critics.values()))
    if not names:
        raise StoreError(
            f"no critiques in snapshot {snapshot.version} of {store.root}. Run ixt critique first"
        )
    for critic in critics:
        if critic not in names and critic not in snapshot.critics:
            known = ", ".join(names) or "none"
            raise StoreError(f"no critiques by {critic!r} in {store.root}; critics: {known}")
    snapshot.check_corpora(corpora, store.root)
    chosen = list(dict.fromkeys(critics)) or names
    catalog = store.catalog(snapshot.version)
    try:
        queries = _CalibrationQueries(catalog, corpora, scale, sources)
        return Calibration(
            snapshot.version,
            tuple(corpora or snapshot.corpora),
            scale,
            tuple(queries.scores(critic) for critic in chosen),
            tuple(queries.pair(*both) for both in combinations(chosen, 2)),
        )
    finally:
        catalog.close()


class _CalibrationQueries:
    """The queries, over one catalog and some corpora."""

    def __init__(self, catalog: Catalog, corpora: Sequence[str], scale: int, sources: int) -> None:
        self._catalog, self._scale, self._sources = catalog, scale, sources
        self._only = "true"
        if corpora:
            named = ", ".join("'" + name.replace("'", "''") + "'" for name in corpora)
            self._only = f"documents.corpus IN ({named})"

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._catalog.arrow(sql).to_pylist()
        return [{name: _defined(value) for name, value in row.items()} for row in rows]

    def _from(self, *critics: str) -> str:
        """Return a FROM clause: documents, each with its critique by every critic as c0, c1."""
        joins = (
            f"LEFT JOIN ({critiques_query(self._catalog.snapshot, critic)}) AS c{i} USING (doc_id)"
            for i, critic in enumerate(critics)
        )
        return f"FROM documents {' '.join(joins)} WHERE {self._only}"

    def scores(self, critic: str) -> Scores:
        """Return the scores of one critic."""
        critiqued = (
            f"SELECT *, CASE WHEN status = '{OK}' THEN score END AS good {self._from(critic)}"
        )
        length = "ln(greatest(n_chars, 1))"
        (row,) = self._rows(
            f"SELECT count(*) AS documents, count(good) AS scored, avg(good) AS mean, "
            f"count(*) FILTER (status <> '{OK}') AS failed, stddev_pop(good) AS deviation, "
            f"regr_slope(good, {length}) AS slope, regr_intercept(good, {length}) AS intercept, "
            f"regr_r2(good, {length}) AS r2 FROM ({critiqued})"
        )
        values = self._rows(
            f"SELECT round(good * {self._scale})::INT AS value, count(*) AS n FROM ({critiqued}) "
            "WHERE good IS NOT NULL GROUP BY 1"
        )
        by_value = {bucket["value"]: bucket["n"] for bucket in values}
        lengths = self._rows(
            "SELECT (2 ** floor(log2(greatest(n_chars, 1))))::BIGINT AS chars, count(*) AS n, "
            f"avg(good) AS mean FROM ({critiqued}) WHERE good IS NOT NULL GROUP BY 1 ORDER BY 1"
        )
        return Scores(
            critic,
            **row,
            coverage=row["scored"] / row["documents"] if row["documents"] else 0.0,
            histogram=tuple(by_value.get(value, 0) for value in range(self._scale + 1)),
            lengths=tuple((bucket["chars"], bucket["n"], bucket["mean"]) for bucket in lengths),
            samples=self._samples(critic),
        )

    def _samples(self, critic: str) -> ThinkingSamples | None:
        sampled = f"{self._from(critic)} AND status = '{OK}' AND scores['samples'] > 1"
        (row,) = self._rows(
            "SELECT count(*) AS documents, max(scores['samples'])::INT AS max_samples, "
            f"avg(scores['spread']) / {TOP} AS spread {sampled}"
        )
        if not row["documents"]:
            return None
        pairs = [
            self._agreement(
                f"SELECT source, scores['sample_{i}'] / {TOP} AS a, scores['sample_{j}'] / {TOP} "
                f"AS b {sampled}"
            )[0]
            for i, j in combinations(range(1, row["max_samples"] + 1), 2)
        ]
        return ThinkingSamples(
            **row,
            kappa=_mean([pair.kappa for pair in pairs]),
            spearman=_mean([pair.spearman for pair in pairs]),
        )

    def pair(self, first: str, second: str) -> CriticPair:
        """Return the agreement of two critics."""
        both = (
            f"SELECT documents.source AS source, c0.score AS a, c1.score AS b "
            f"{self._from(first, second)} AND c0.status = '{OK}' AND c1.status = '{OK}'"
        )
        whole, *by_source = self._agreement(both)
        cells = self._rows(
            f"SELECT round(a * {self._scale})::INT AS x, round(b * {self._scale})::INT AS y, "
            f"count(*) AS n FROM ({both}) WHERE a IS NOT NULL AND b IS NOT NULL GROUP BY 1, 2"
        )
        counts = {(cell["x"], cell["y"]): cell["n"] for cell in cells}
        values = range(self._scale + 1)
        confusion = tuple(tuple(counts.get((x, y), 0) for y in values) for x in values)
        return CriticPair(first, second, whole, tuple(by_source), confusion)

    def _agreement(self, both: str) -> list[Agreement]:
        """Return the agreement over all rows of `source, a, b`, then over each large source."""
        ranks = ", ".join(
            f"rank() OVER (PARTITION BY {of} ORDER BY {value}) "
            f"+ (count(*) OVER (PARTITION BY {of}, {value}) - 1) / 2.0 AS {value}{name}"
            for name, of in (("_all", "true"), ("_own", "source"))
            for value in ("a", "b")
        )
        rows = self._rows(
            f"WITH given AS (SELECT source, round(a, 9) AS a, round(b, 9) AS b FROM ({both})), "
            f"ranked AS (SELECT *, round(a * {self._scale}) AS x, round(b * {self._scale}) AS y, "
            f"{ranks} FROM given WHERE a IS NOT NULL AND b IS NOT NULL) "
            "SELECT source, count(*) AS documents, avg(a - b) AS mean_difference, "
            "avg((x = y)::INT) AS exact, CASE WHEN grouping(source) = 1 THEN corr(a_all, b_all) "
            "ELSE corr(a_own, b_own) END AS spearman, 1 - avg((x - y) ** 2) "
            "/ nullif(var_pop(x) + var_pop(y) + (avg(x) - avg(y)) ** 2, 0) AS kappa "
            "FROM ranked GROUP BY GROUPING SETS ((), (source)) "
            f"ORDER BY grouping(source) DESC, documents DESC, source LIMIT {self._sources + 1}"
        )
        return [Agreement(**row) for row in rows]


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
