"""Ensembles: a critic out of the scores of several critics.

The ensemble's config has the ids of its critics, so a new version of one of them is another
ensemble. A hash of seed and doc_id decides which documents are held out, as in a distillation.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ixt_data.errors import MissingExtra, StoreError
from ixt_data.log import Snapshot
from ixt_data.records import OK, content_id, format_id
from ixt_data.sql import choose_critic, critiques_query, sql_literal
from ixt_data.store import Store
from ixt_tools.curate.distillation import held_out_place
from ixt_tools.curate.ensemble_critic import KIND
from ixt_tools.curate.score_agreement import ScoreAgreement, measure_agreement, middle_cut
from ixt_tools.curate.score_combination import (
    Method,
    ScoreCombination,
    fit_combination,
    score_means,
)
from ixt_tools.curate.text_scorer import Floats

MIN_GOLD = 30
"""Fewest documents with gold scores that a combination is fitted to, held-out ones included."""
MAX_ROWS = 1_000_000
"""Most documents that a combination is fitted to: those with the first doc_ids."""


@dataclass(frozen=True)
class Ensemble:
    """An ensemble before it scores.

    Attributes:
        name: name of the critic.
        config: config of the critic.
        members: ids of its critics.
        missing: number of documents of the corpus without a score, by id of a critic.
        agreement: with the gold scores; None without them.
        member_agreements: agreement of each member with the gold scores, on the same documents.
    """

    name: str
    config: dict[str, Any]
    members: tuple[str, ...]
    missing: dict[str, int]
    agreement: ScoreAgreement | None
    member_agreements: tuple[ScoreAgreement, ...]


@dataclass(frozen=True)
class GoldScores:
    """Gold scores with the members' scores on the same documents.

    Attributes:
        critics: ids of the critics of the gold scores.
        doc_ids: 16 bytes each, in order.
        gold: 0 to 1.
        scores: a row per document and a column per member, NaN where a score is missing.
    """

    critics: tuple[str, ...]
    doc_ids: list[bytes]
    gold: Floats
    scores: Floats


def build_ensemble(
    store: Store,
    corpus: str,
    critics: Sequence[str],
    *,
    method: Method = "mean",
    gold: str | None = None,
    cut: float | None = None,
    min_scores: int | None = None,
    name: str = KIND,
    share_held_out: float = 0.2,
    seed: int = 0,
) -> Ensemble:
    """Combine critics, and measure the combination on gold scores if there are any.

    Args:
        store: contains the critiques.
        corpus: corpus that the ensemble will score.
        critics: names or ids; a name means its latest critic.
        method: see `ScoreCombination`; all but `mean` are fitted to the gold scores.
        gold: name or id of the critic of the gold scores, such as people's labels.
        cut: gold score from which a document is good; by default the one that divides the documents
            most evenly.
        min_scores: fewest scores that a document needs; all by default.
        name: name of the ensemble.
        share_held_out: share of the gold documents that a fit does not see; the agreement is
            measured on them. Without a fit, it is measured on all.
        seed: decides which documents are held out.

    Raises:
        StoreError: a critic or the corpus does not exist, the critics do not fit together, another
            critic has this name, or the gold scores are too few or all equal.
        MissingExtra: scikit-learn is not installed, and gold scores need it.
    """
    snapshot = store.snapshot()
    snapshot.check_corpora([corpus], store.root)
    members = _members(store, snapshot, critics, method)
    wanted = len(members) if min_scores is None else min_scores
    if not 1 <= wanted <= len(members):
        raise StoreError(f"{wanted} scores of {len(members)} critics: give 1 to {len(members)}")
    others = [info for info in snapshot.critics.values() if info.name == name]
    if any(info.config.get("critic") != KIND for info in others):
        raise StoreError(f"critic {name!r} exists and is not an ensemble; give another --name")
    missing = _missing(store, snapshot, corpus, members)
    config: dict[str, Any] = {"critic": KIND, "members": list(members), "gold": None}
    if gold is None:
        combination = _mean(store, snapshot, corpus, members, wanted)
        config |= {"combination": combination.to_json(), "agreement": None}
        return Ensemble(name, config, members, missing, None, ())
    MissingExtra.require("curate", "sklearn")
    known = _read_gold(store, snapshot, gold, members, wanted)
    rng, level = np.random.default_rng(seed), middle_cut(known.gold) if cut is None else cut
    if method == "mean":
        combination = _mean(store, snapshot, corpus, members, wanted)
        measured = np.ones(len(known.gold), bool)
    else:
        measured = np.array([held_out_place(seed, one) < share_held_out for one in known.doc_ids])
        _check_parts(known.gold, measured, method, level)
        combination = fit_combination(
            method, wanted, known.scores[~measured], known.gold[~measured], level
        )
    judged = known.gold[measured]
    agreement = measure_agreement(combination.combine(known.scores[measured]), judged, level, rng)
    each = tuple(
        _agreement(known.scores[measured, column], judged, level, rng)
        for column in range(len(members))
    )
    config |= {"combination": combination.to_json(), "agreement": None}
    if method != "mean":
        # A mean does not depend on gold scores, so its id does not either.
        labels = dict(zip(map(format_id, known.doc_ids), known.gold.tolist(), strict=True))
        config["agreement"] = asdict(agreement)
        config["gold"] = {
            "critics": list(known.critics),
            "documents": len(known.doc_ids),
            "scores": content_id(labels),
            "cut": level,
            "share_held_out": share_held_out,
            "seed": seed,
        }
    return Ensemble(name, config, members, missing, agreement, each)


def _members(
    store: Store, snapshot: Snapshot, critics: Sequence[str], method: Method
) -> tuple[str, ...]:
    """Return the ids of the critics."""
    found = []
    for critic in critics:
        choose_critic(snapshot, critic, store.root)
        found.append(critic if critic in snapshot.critics else snapshot.critic_ids(critic)[-1])
    if len(set(found)) < len(found):
        raise StoreError(f"the same critic twice: {', '.join(found)}")
    if len(found) < (2 if method == "mean" else 1):
        raise StoreError(f"a mean needs two critics or more; given: {', '.join(found)}")
    return tuple(found)


def _missing(
    store: Store, snapshot: Snapshot, corpus: str, members: Sequence[str]
) -> dict[str, int]:
    counts = ", ".join(f"count(*) FILTER (s{i} IS NULL)" for i in range(len(members)))
    (row,) = store.sql(
        f"SELECT {counts} FROM ({_scores_query(snapshot, members, _documents(corpus))})",
        at=snapshot.version,
    ).fetchall()
    return dict(zip(members, row, strict=True))


def _mean(
    store: Store, snapshot: Snapshot, corpus: str, members: Sequence[str], min_scores: int
) -> ScoreCombination:
    if min_scores == len(members):
        return ScoreCombination("mean", min_scores)
    rows = store.sql(
        f"SELECT * FROM ({_scores_query(snapshot, members, _documents(corpus))}) "
        f"ORDER BY doc_id LIMIT {MAX_ROWS}",
        at=snapshot.version,
    ).arrow()
    scores = _matrix(rows, len(members))
    for critic, column in zip(members, scores.T, strict=True):
        if np.isnan(column).all():
            raise StoreError(
                f"{critic} has scored no document of {corpus}: its mean, which estimates a missing "
                "score, is not known"
            )
    return ScoreCombination("mean", min_scores, score_means(scores))


def _read_gold(
    store: Store, snapshot: Snapshot, gold: str, members: Sequence[str], min_scores: int
) -> GoldScores:
    """Return the gold scores of documents with enough scores by members."""
    choose_critic(snapshot, gold, store.root)
    labels = (
        "SELECT doc_id, any_value(score) AS gold, any_value(critic_id) AS gold_critic FROM "
        f"({critiques_query(snapshot, gold)}) WHERE status = '{OK}' AND score IS NOT NULL "
        "GROUP BY doc_id"
    )
    known = " + ".join(f"(s{i} IS NOT NULL)::INT" for i in range(len(members)))
    rows = store.sql(
        f"SELECT * FROM ({_scores_query(snapshot, members, labels)}) WHERE {known} >= "
        f"{min_scores} ORDER BY doc_id LIMIT {MAX_ROWS}",
        at=snapshot.version,
    ).arrow()
    critics = tuple(sorted(set(rows["gold_critic"].to_pylist())))
    if taken := {*critics} & {*members}:
        raise StoreError(f"{min(taken)} is a critic of the ensemble and the gold: choose one")
    if rows.num_rows < MIN_GOLD:
        raise StoreError(
            f"{rows.num_rows:,} documents have a score by {gold} and {min_scores} or more by "
            f"{', '.join(members)}; an ensemble needs at least {MIN_GOLD}"
        )
    labelled = rows["gold"].to_numpy()
    if np.ptp(labelled) == 0:
        raise StoreError(f"all {len(labelled):,} scores by {gold} are {labelled[0]:g}")
    doc_ids = [doc_id.bytes for doc_id in rows["doc_id"].to_pylist()]
    return GoldScores(critics, doc_ids, labelled, _matrix(rows, len(members)))


def _documents(corpus: str) -> str:
    return f"SELECT DISTINCT doc_id FROM documents WHERE corpus = {sql_literal(corpus)}"


def _scores_query(snapshot: Snapshot, members: Sequence[str], documents: str) -> str:
    """Return a SELECT of the rows of `documents` with the members' scores as s0, s1."""
    columns = ", ".join(f"m{i}.score AS s{i}" for i in range(len(members)))
    joins = " ".join(
        f"LEFT JOIN (SELECT doc_id, score FROM ({critiques_query(snapshot, critic)}) "
        f"WHERE status = '{OK}') AS m{i} USING (doc_id)"
        for i, critic in enumerate(members)
    )
    return f"SELECT given.*, {columns} FROM ({documents}) AS given {joins}"


def _matrix(rows: Any, n: int) -> Floats:
    columns = [rows[f"s{i}"].to_numpy(zero_copy_only=False) for i in range(n)]
    matrix: Floats = np.stack(columns, axis=1).astype(np.float64)
    return matrix


def _check_parts(gold: Floats, held_out: Any, method: Method, cut: float) -> None:
    for part, what in ((gold[held_out], "held-out"), (gold[~held_out], "other")):
        values = part >= cut if method == "logistic" else part
        if len(np.unique(values)) < 2:
            kinds = f"scores on both sides of {cut:g}" if method == "logistic" else "two scores"
            raise StoreError(
                f"the {what} documents ({len(part):,}) do not have {kinds}: give more gold "
                "documents, another --cut or another --share-held-out"
            )


def _agreement(
    scores: Floats, gold: Floats, cut: float, rng: np.random.Generator
) -> ScoreAgreement:
    known = ~np.isnan(scores)
    return measure_agreement(scores[known], gold[known], cut, rng)
