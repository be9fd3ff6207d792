"""Distillation: a small scorer learns the scores of a judge from the documents it has judged.

A hash of seed and doc_id decides which documents are held out, so a document keeps its part when
more documents are judged. The scorer is in the config of its critic. So it is in the log, its
critic's id is the hash of it, and a command that is repeated trains and continues the same critic.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ixt_data.errors import MissingExtra, StoreError
from ixt_data.log import CriticInfo, Snapshot
from ixt_data.records import OK, ProgressCallback, content_id, format_id
from ixt_data.sql import choose_critic, critiques_query, sql_literal
from ixt_data.store import Store
from ixt_tools.curate.distilled_critic import KIND
from ixt_tools.curate.score_agreement import ScoreAgreement, measure_agreement, middle_cut
from ixt_tools.curate.text_scorer import (
    FEATURES,
    Floats,
    TextScorer,
    fit_ridge,
    fit_scorer,
    vectorize,
)

MIN_JUDGED = 100
"""Fewest judged documents that a scorer is trained on, held-out documents included."""
MAX_JUDGED = 50_000
"""Most judged documents that a scorer is trained on: those with the first doc_ids."""
MAX_CANDIDATES = 20_000
"""Most documents that are compared to choose the next ones to judge."""
ENSEMBLE = 5
RANDOM_SHARE = 0.25
"""Share of the next documents that is random, so that no kind of document is left out."""
RISE = 0.01
"""Smallest difference of the rank correlation that counts as a rise."""


@dataclass(frozen=True)
class JudgedSample:
    """The documents that a judge has scored.

    Attributes:
        name: name of the judge.
        critics: ids of the judge's critics that gave the scores.
        doc_ids: 16 bytes each, in order.
        matrix: one row of `vectorize` per document.
        scores: 0 to 1.
        snapshot: version that was read.
    """

    name: str
    critics: tuple[str, ...]
    doc_ids: list[bytes]
    matrix: Any
    scores: Floats
    snapshot: int


@dataclass(frozen=True)
class Distillation:
    """A trained scorer.

    Attributes:
        name: name of the critic.
        config: config of the critic.
        agreement: with the judge, on the held-out documents.
        rounds: agreement of the earlier scorers by this name, oldest first.
        snapshot: version that was read.
    """

    name: str
    config: dict[str, Any]
    agreement: ScoreAgreement
    rounds: tuple[ScoreAgreement, ...]
    snapshot: int

    @property
    def has_converged(self) -> bool:
        """Whether the agreement did not rise over an earlier round."""
        known = [one.spearman for one in self.rounds if one.spearman is not None]
        return bool(known) and (self.agreement.spearman or 0.0) < max(known) + RISE


def read_judged(
    store: Store,
    critic: str,
    corpora: Sequence[str] = (),
    progress: ProgressCallback = lambda done, total: None,
) -> JudgedSample:
    """Read the documents that a judge has scored.

    Args:
        store: contains them.
        critic: name or id of the judge.
        corpora: corpora of the documents; all by default.
        progress: function that receives the shards read so far and in total.

    Raises:
        StoreError: the judge or a corpus does not exist, or too few documents are judged.
        MissingExtra: scikit-learn is not installed.
    """
    MissingExtra.require("curate", "sklearn")
    snapshot = store.snapshot()
    choose_critic(snapshot, critic, store.root)
    snapshot.check_corpora(corpora, store.root)
    name = snapshot.critics[critic].name if critic in snapshot.critics else critic
    if any(info.config.get("critic") == KIND for info in _critics(snapshot, name)):
        raise StoreError(f"critic {critic!r} is a scorer itself; give --critic the judge")
    rows = store.sql(
        "SELECT doc_id, any_value(score) AS score, any_value(critic_id) AS critic_id, "
        "min(documents.shard) AS shard, "
        "min_by(documents.row, documents.shard) AS row "
        f"FROM documents JOIN ({critiques_query(snapshot, critic)}) AS judged USING (doc_id) "
        f"WHERE status = '{OK}' AND score IS NOT NULL AND {_inside(corpora)} "
        f"GROUP BY doc_id ORDER BY doc_id LIMIT {MAX_JUDGED}",
        at=snapshot.version,
    ).arrow()
    if rows.num_rows < MIN_JUDGED:
        raise StoreError(
            f"{rows.num_rows:,} documents have a score by {critic}; a scorer needs at least "
            f"{MIN_JUDGED}. Judge more: ixt critique --corpus NAME --critic ..."
        )
    records = rows.to_pylist()
    if len({record["score"] for record in records}) == 1:
        raise StoreError(
            f"all {len(records):,} scores by {critic} are {records[0]['score']:g}: nothing to learn"
        )
    matrix = _vectorize_rows(store, snapshot, records, progress)
    return JudgedSample(
        name,
        tuple(sorted({record["critic_id"] for record in records})),
        [record["doc_id"].bytes for record in records],
        matrix,
        np.array([record["score"] for record in records]),
        snapshot.version,
    )


def distill(
    store: Store,
    sample: JudgedSample,
    *,
    name: str | None = None,
    share_held_out: float = 0.2,
    cut: float | None = None,
    seed: int = 0,
) -> Distillation:
    """Train a scorer on judged documents, and measure it on those that are held out.

    Args:
        store: store of the sample.
        sample: see `read_judged`.
        name: name of the critic; by default that of the judge and `-distilled`.
        share_held_out: share of the documents that the agreement is measured on.
        cut: score from which a document is good, for the AUC; by default the one that divides the
            documents most evenly.
        seed: decides which documents are held out.

    Raises:
        StoreError: another critic has this name, or all scores of one part are equal.
    """
    name = name or f"{sample.name}-distilled"
    snapshot = store.snapshot(sample.snapshot)
    namesakes = _critics(snapshot, name)
    if any(info.config.get("critic") != KIND for info in namesakes):
        raise StoreError(f"critic {name!r} exists and is not a scorer; give another --name")
    held_out = np.array(
        [held_out_place(seed, doc_id) < share_held_out for doc_id in sample.doc_ids]
    )
    for part, what in ((sample.scores[held_out], "held-out"), (sample.scores[~held_out], "other")):
        if len(np.unique(part)) < 2:
            raise StoreError(
                f"the {what} documents ({len(part):,}) have fewer than two different scores. Judge "
                "more documents, or change --share-held-out"
            )
    rng = np.random.default_rng(seed)
    scorer = fit_scorer(sample.matrix[~held_out], sample.scores[~held_out], rng)
    agreement = measure_agreement(
        scorer.predict(sample.matrix[held_out]),
        sample.scores[held_out],
        middle_cut(sample.scores) if cut is None else cut,
        rng,
    )
    scores = dict(zip(map(format_id, sample.doc_ids), sample.scores.tolist(), strict=True))
    config = {
        "critic": KIND,
        "features": FEATURES,
        "sample": {
            "judge": list(sample.critics),
            "documents": len(sample.doc_ids),
            "scores": content_id(scores),
            "share_held_out": share_held_out,
            "seed": seed,
        },
        "scorer": scorer.to_json(),
        "agreement": asdict(agreement),
    }
    own = f"{name}-{content_id(config)}"
    rounds = tuple(
        ScoreAgreement(**info.config["agreement"]) for info in namesakes if info.id != own
    )
    return Distillation(name, config, agreement, rounds, sample.snapshot)


def scorer_info(store: Store, scorer: str) -> CriticInfo:
    """Return a distilled critic of a store by id, or the latest by name.

    Raises:
        StoreError: the store has no scorer of this name or id.
    """
    known = [i for i in store.snapshot().critics.values() if i.config.get("critic") == KIND]
    for info in reversed(known):
        if scorer in (info.id, info.name):
            return info
    names = ", ".join(dict.fromkeys(info.name for info in known)) or "none"
    raise StoreError(f"no scorer {scorer!r} in {store.root}; scorers: {names}")


def choose_next(
    store: Store,
    corpus: str,
    sample: JudgedSample,
    n: int,
    *,
    seed: int = 0,
    progress: ProgressCallback = lambda done, total: None,
) -> list[bytes]:
    """Choose documents that the judge should see next.

    Scorers that are trained on different random draws of the sample disagree most where the sample
    says little. A quarter of the documents is random.

    Args:
        store: store of the sample.
        corpus: corpus of the documents; judged documents are not chosen.
        sample: see `read_judged`.
        n: number of documents; fewer if the corpus has fewer.
        seed: decides the draws.
        progress: function that receives the shards read so far and in total.

    Returns:
        Their doc_ids, those with the largest disagreement first, then the random ones.
    """
    snapshot = store.snapshot(sample.snapshot)
    snapshot.check_corpora([corpus], store.root)
    ids = ", ".join(map(sql_literal, sample.critics))
    records = (
        store.sql(
            "SELECT doc_id, min(shard) AS shard, min_by(row, shard) AS row "
            f"FROM documents WHERE {_inside([corpus])} AND doc_id NOT IN "
            f"(SELECT doc_id FROM critiques_all WHERE critic_id IN ({ids})) "
            f"GROUP BY doc_id ORDER BY doc_id LIMIT {MAX_CANDIDATES}",
            at=snapshot.version,
        )
        .arrow()
        .to_pylist()
    )
    if not records:
        raise StoreError(f"{sample.name} has judged all documents of {corpus}: none is left")
    matrix, rng = _vectorize_rows(store, snapshot, records, progress), np.random.default_rng(seed)
    predicted = [_resampled(sample, rng).predict(matrix) for _ in range(ENSEMBLE)]
    order = np.argsort(-np.std(predicted, axis=0), kind="stable")
    n_random = round(min(n, len(order)) * RANDOM_SHARE)
    first, rest = np.split(order, [min(n, len(order)) - n_random])
    chosen = [*first, *rng.permutation(rest)[:n_random]]
    return [records[i]["doc_id"].bytes for i in chosen]


def _resampled(sample: JudgedSample, rng: np.random.Generator) -> TextScorer:
    drawn = rng.integers(len(sample.scores), size=len(sample.scores))
    return fit_ridge(sample.matrix[drawn], sample.scores[drawn], 0.3)


def _vectorize_rows(
    store: Store,
    snapshot: Snapshot,
    records: Sequence[Mapping[str, Any]],
    progress: ProgressCallback,
) -> Any:
    """Return the rows of `vectorize` for records with `shard` and `row`; one shard at a time."""
    from scipy.sparse import vstack

    by_shard: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        by_shard.setdefault(record["shard"], []).append(i)
    parts, places = [], []
    for done, (path, members) in enumerate(by_shard.items(), 1):
        texts = store.shard(snapshot.shards_by_path[path]).column("text")
        parts.append(vectorize([texts[records[i]["row"]] for i in members]))
        places += members
        progress(done, len(by_shard))
    return vstack(parts, format="csr")[np.argsort(places)]


def _critics(snapshot: Snapshot, name: str) -> list[CriticInfo]:
    return [info for info in snapshot.critics.values() if info.name == name]


def _inside(corpora: Sequence[str]) -> str:
    return f"corpus IN ({', '.join(map(sql_literal, corpora))})" if corpora else "true"


def held_out_place(seed: int, doc_id: bytes) -> float:
    """Return a number from 0 to 1 that depends on seed and doc_id only."""
    digest = hashlib.blake2b(doc_id, digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest) / 2**64


def documents_predicate(doc_ids: Sequence[bytes]) -> str:
    """Return the predicate of a selection of documents."""
    return f"doc_id IN ({', '.join(sql_literal(format_id(doc_id)) for doc_id in doc_ids)})"
