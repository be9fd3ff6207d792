"""Pairwise critique runs: a judge compares documents, and the results become one score each.

Each comparison is journaled when it arrives. When all are there, the Bradley-Terry model gives
each document a strength, and the scores are published like those of any critic. The critic's id is
a hash of the judge, the pairs and the results, so a score never mixes two sets of comparisons.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ixt_data.conversation import build_excerpt, parse_conversation
from ixt_data.critics import (
    Rubric,
    VllmCritic,
    comparison_document,
    comparison_id,
    excerpt,
)
from ixt_data.critique_runs.annotation import CritiqueReport, annotate, pending_shards
from ixt_data.critique_runs.bradley_terry import design_pairs, fit_strengths, largest_component
from ixt_data.critique_runs.journal import Journal, journal_folder
from ixt_data.critique_runs.leases import LeaseHeld, Leases
from ixt_data.errors import CriticError, StoreError
from ixt_data.log import Snapshot
from ixt_data.records import OK, Critique, Document, content_id, format_id
from ixt_data.store import Store

MAX_DOCUMENTS = 20_000
"""Documents of a run: their texts are in memory. Train a scorer on them for a larger corpus."""

MAX_DOCUMENT_BYTES = 1 << 14
"""Bytes of each document in a comparison, or less where the judge's context is short."""

NO_COMPARISON = "no_comparison"
"""Status of a document that no comparison connects with the others."""

KIND = "pairwise"
_MARK_BYTES = 256

Pair = tuple[int, int]


@dataclass(frozen=True)
class PairwiseOptions:
    """Which pairs a judge compares.

    Attributes:
        rubric: of single documents; its task and questions decide.
        pairs_per_document: pairs that each document is in, each compared in both orders.
        seed: of the pairs.
    """

    rubric: Rubric
    pairs_per_document: int = 8
    seed: int = 0


@dataclass
class PairwiseReport:
    """Result of a pairwise run.

    Attributes:
        scored: report of the critique run that published the scores.
        documents: number of documents.
        pairs: number of pairs.
        requested: number of comparisons in this run; two per pair, without those of a journal.
        failed: number of comparisons without a result, with those of a journal.
        statuses: comparisons by status.
        consistent: pairs that have the same winner in both orders.
        inconsistent: pairs that have another winner in the other order.
        tied: pairs whose two orders together have no winner; most of them are inconsistent.
        first_wins: comparisons that the first document won.
        second_wins: comparisons that the second document won.
        excerpted: documents of which the judge saw an excerpt.
        errors: one message per status of failed comparisons.
    """

    scored: CritiqueReport
    documents: int
    pairs: int
    requested: int = 0
    failed: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    consistent: int = 0
    inconsistent: int = 0
    tied: int = 0
    first_wins: int = 0
    second_wins: int = 0
    excerpted: int = 0
    errors: dict[str, str] = field(default_factory=dict)


class PairwiseCritic:
    """Critic that gives each document the score that its comparisons have made; no text.

    Args:
        name: name of the critic.
        config: its config.
        critiques: by doc_id.
    """

    def __init__(
        self, name: str, config: dict[str, Any], critiques: Mapping[bytes, Critique]
    ) -> None:
        self.name, self._config, self._critiques = name, config, critiques

    def config(self) -> dict[str, Any]:
        """Return the judge, the pairs and a hash of the results."""
        return self._config

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield the critiques in the order of the documents; see `Critic.run`."""
        for document in documents:
            yield self._critiques[document.doc_id]


def run_pairwise(
    store: Store,
    corpus: str,
    judge: VllmCritic,
    options: PairwiseOptions,
    *,
    name: str = KIND,
    retry_failed: bool = False,
    on_start: Callable[[int, int, int], None] = lambda documents, pairs, requests: None,
    progress: Callable[[int], None] = lambda done: None,
) -> PairwiseReport:
    """Compare documents of a corpus in pairs, fit a score to each, and publish the scores.

    It continues an interrupted run: comparisons that arrived are in a journal.

    Args:
        store: contains the corpus.
        corpus: its name.
        judge: applies `comparison_rubric` of the rubric.
        options: the pairs.
        name: name of the critic.
        retry_failed: request comparisons again that failed; the result is another critic.
        on_start: called with the documents, the pairs, and the comparisons to request.
        progress: called after each comparison with the number of finished ones.

    Raises:
        StoreError: the corpus does not exist, or has too few or too many documents.
        CriticError: see `VllmCritic.run`; no comparison succeeded; or another process compares.
    """
    snapshot = store.snapshot()
    snapshot.check_corpora([corpus], store.root)
    places = _places(store, snapshot, corpus)
    doc_ids = sorted(places)
    pairs = design_pairs(len(doc_ids), options.pairs_per_document, options.seed)
    judge_config = judge.config()
    config = {
        "critic": KIND,
        "judge": judge_config,
        "rubric_id": options.rubric.id,
        "pairs_per_document": options.pairs_per_document,
        "seed": options.seed,
        "documents": content_id([doc_id.hex() for doc_id in doc_ids]),
    }
    report = PairwiseReport(CritiqueReport(""), len(doc_ids), len(pairs))
    done = _published(snapshot, corpus, name, config)
    if done is not None and not retry_failed:
        shards = snapshot.corpora[corpus].shards
        report.scored = CritiqueReport(done, skipped=shards, snapshot=snapshot.version)
        return report
    own = f"{KIND}-{content_id(judge_config)}"
    unit = f"{KIND}/{corpus}"
    leases = Leases(store.storage, own)
    leases.refresh()
    try:
        lease = leases.acquire(unit)
    except LeaseHeld:
        raise CriticError(f"another process compares documents of {corpus} by this judge") from None
    with lease, Journal(_folder(store), own, unit) as journal:
        known = journal.critiques
        games = [order for pair in pairs for order in (pair, pair[::-1])]
        missing = [
            game
            for game in games
            if (found := known.get(_game_id(doc_ids, game))) is None
            or (retry_failed and found.status != OK)
        ]
        on_start(len(doc_ids), len(pairs), len(missing))
        if missing:
            texts = _texts(store, snapshot, places, options.rubric, judge.document_bytes)
            report.excerpted = sum(coverage < 1 for _, coverage in texts.values())
            requests = (
                comparison_document(*(Document(one, texts[one][0]) for one in _ids(doc_ids, game)))
                for game in missing
            )
            for critique in judge.run(requests):
                journal.append(critique)
                known[critique.doc_id] = critique
                report.requested += 1
                progress(report.requested)
                lease.check()
        results = [known.get(_game_id(doc_ids, game)) for game in games]
        _count(report, results)
        critiques, outcomes = _score(doc_ids, games, results)
        critic = PairwiseCritic(name, config | {"comparisons": outcomes}, critiques)
        report.scored = annotate(store, corpus, critic)
    return report


def write_comparisons(
    store: Store, corpus: str, judge: VllmCritic, options: PairwiseOptions, file: Any
) -> int:
    """Write the comparisons of a run as JSON lines; return their number.

    Args:
        store: contains the corpus.
        corpus: its name.
        judge: the judge of the run.
        options: the pairs of the run.
        file: binary file.
    """
    snapshot = store.snapshot()
    doc_ids = sorted(_places(store, snapshot, corpus))
    pairs = design_pairs(len(doc_ids), options.pairs_per_document, options.seed)
    own, written = f"{KIND}-{content_id(judge.config())}", 0
    with Journal(_folder(store), own, f"{KIND}/{corpus}") as journal:
        for game in (order for pair in pairs for order in (pair, pair[::-1])):
            found = journal.critiques.get(_game_id(doc_ids, game))
            if found is None:
                continue
            first, second = (format_id(one) for one in _ids(doc_ids, game))
            record = {
                "first": first,
                "second": second,
                "status": found.status,
                "second_wins": _second_wins(found),
                "critique": found.critique,
                "error": found.error,
            }
            file.write(orjson.dumps(record) + b"\n")
            written += 1
    return written


def _folder(store: Store) -> Path:
    """Return the folder of journals of comparisons; they stay after the scores are published."""
    return journal_folder(store) / KIND


def _places(store: Store, snapshot: Snapshot, corpus: str) -> dict[bytes, tuple[str, int]]:
    """Return shard and row of each document of a corpus."""
    rows = store.sql(
        "SELECT doc_id, min(shard), min_by(row, shard) FROM documents WHERE corpus = ? "
        f"GROUP BY doc_id ORDER BY doc_id LIMIT {MAX_DOCUMENTS + 1}",
        at=snapshot.version,
        parameters=[corpus],
    ).fetchall()
    if len(rows) > MAX_DOCUMENTS:
        raise StoreError(
            f"corpus {corpus} has more than {MAX_DOCUMENTS:,} documents: compare a sample as a "
            "corpus of its own (ixt export --where), and let ixt distill score the rest"
        )
    if len(rows) < 2:
        raise StoreError(f"corpus {corpus} has {len(rows)} document: a comparison needs two")
    return {doc_id.bytes: (shard, row) for doc_id, shard, row in rows}


def _published(snapshot: Snapshot, corpus: str, name: str, config: Mapping[str, Any]) -> str | None:
    """Return the id of a critic that has published scores of these comparisons, None without."""
    for info in snapshot.critics.values():
        same = {key: value for key, value in info.config.items() if key != "comparisons"}
        if info.name == name and same == config and not pending_shards(snapshot, corpus, info.id):
            return info.id
    return None


def _texts(
    store: Store,
    snapshot: Snapshot,
    places: Mapping[bytes, tuple[str, int]],
    rubric: Rubric,
    prompt_bytes: int | None,
) -> dict[bytes, tuple[str, float]]:
    """Return what a judge sees of each document, and its share of the document."""
    size = MAX_DOCUMENT_BYTES
    if prompt_bytes is not None:
        size = min(size, prompt_bytes // 2 - _MARK_BYTES)
    by_shard: dict[str, list[tuple[int, bytes]]] = {}
    for doc_id, (shard, row) in places.items():
        by_shard.setdefault(shard, []).append((row, doc_id))
    texts = {}
    for path, members in by_shard.items():
        column = store.shard(snapshot.shards_by_path[path]).column("text")
        for row, doc_id in members:
            text = column[row]
            conversation = parse_conversation(text)
            if conversation is not None:
                text = build_excerpt(conversation, doc_id.hex()[-8:]).text
            encoded = len(text.encode())
            if encoded <= size:
                texts[doc_id] = text, 1.0
            else:
                texts[doc_id] = excerpt(text, len(text) * size // encoded, rubric.long)
    return texts


def _ids(doc_ids: Sequence[bytes], game: Pair) -> tuple[bytes, bytes]:
    return doc_ids[game[0]], doc_ids[game[1]]


def _game_id(doc_ids: Sequence[bytes], game: Pair) -> bytes:
    return comparison_id(*_ids(doc_ids, game))


def _second_wins(critique: Critique | None) -> float | None:
    """Return the share of a game that the second document wins, None for a failed comparison."""
    if critique is None or critique.status != OK:
        return None
    return critique.score if critique.expected is None else critique.expected


def _count(report: PairwiseReport, results: Sequence[Critique | None]) -> None:
    """Count statuses, winners and contradictions; two results in turn are of one pair."""
    for result in results:
        status = "missing" if result is None else result.status
        report.statuses[status] = report.statuses.get(status, 0) + 1
        if result is not None and result.status != OK:
            report.errors.setdefault(status, result.error or "")
    shares = [_second_wins(result) for result in results]
    report.failed = sum(share is None for share in shares)
    report.first_wins = sum(share is not None and share < 0.5 for share in shares)
    report.second_wins = sum(share is not None and share > 0.5 for share in shares)
    for one, other in zip(shares[::2], shares[1::2], strict=True):
        if one is None or other is None:
            continue
        report.tied += one == other
        if (one - 0.5) * (other - 0.5) < 0:
            report.consistent += 1
        elif (one - 0.5) * (other - 0.5) > 0:
            report.inconsistent += 1


def _score(
    doc_ids: Sequence[bytes], games: Sequence[Pair], results: Sequence[Critique | None]
) -> tuple[dict[bytes, Critique], str]:
    """Return the critique of each document, and a hash of the results.

    Raises:
        CriticError: no comparison succeeded.
    """
    shares = [_second_wins(result) for result in results]
    played = [
        (a, b, share) for (a, b), share in zip(games, shares, strict=True) if share is not None
    ]
    if not played:
        failed = next((one for one in results if one is not None), None)
        reason = f"; the first one: {failed.status}: {failed.error}" if failed else ""
        raise CriticError(f"no comparison of {len(results):,} succeeded{reason}")
    first = np.array([game[0] for game in played])
    second = np.array([game[1] for game in played])
    share = np.array([game[2] for game in played])
    n = len(doc_ids)
    strengths = fit_strengths(n, first, second, share)
    is_connected = largest_component(n, first, second)
    columns = {
        "strength": strengths,
        "games": np.bincount(first, minlength=n) + np.bincount(second, minlength=n),
        "wins_as_first": np.bincount(first, share < 0.5, n),
        "wins_as_second": np.bincount(second, share > 0.5, n),
    }
    scores = 1 / (1 + np.exp(-strengths))
    critiques = {}
    for row, doc_id in enumerate(doc_ids):
        values = {key: round(float(column[row]), 6) for key, column in columns.items()}
        if is_connected[row]:
            score = round(float(scores[row]), 6)
            critiques[doc_id] = Critique(doc_id, score=score, scores=values)
        else:
            error = "no comparison connects it with the other documents"
            critiques[doc_id] = Critique(doc_id, NO_COMPARISON, error=error)
    return critiques, content_id([[a, b, round(share, 6)] for a, b, share in played])
