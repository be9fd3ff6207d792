"""Comparison of two rubrics: one judge applies both to the same documents.

Two rubrics that rank documents alike are one rubric: the cheaper one is enough. Where they differ,
the documents with the largest differences show which one says what is meant.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ixt_data.analysis.rank_statistics import Floats, rank_correlation, rank_interval
from ixt_data.critics import COST, TOP, Critic
from ixt_data.critique_runs import usage_of
from ixt_data.errors import CriticError
from ixt_data.records import OK, Critique, Document, format_id

MIN_DOCUMENTS = 4
"""Documents with both scores below which a correlation has no interval."""

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class RubricResult:
    """Scores and use of one rubric.

    Attributes:
        rubric: name or file.
        critic: id that a critique run with this rubric and judge has.
        ok: number of documents with a score.
        statuses: number of documents by status.
        mean, deviation: of the scores on the compared documents.
        tokens_in, tokens_out, thinking_tokens, seconds: per document.
        cost: per document in the unit of the prices; None without prices.
    """

    rubric: str
    critic: str
    ok: int
    statuses: dict[str, int]
    mean: float
    deviation: float
    tokens_in: float
    tokens_out: float
    thinking_tokens: float
    seconds: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class DifferentScores:
    """A document with its scores and critiques by both rubrics.

    Attributes:
        doc_id: as text.
        text: its start.
        first, second: scores.
        first_critique, second_critique: texts.
    """

    doc_id: str
    text: str
    first: float
    second: float
    first_critique: str
    second_critique: str


@dataclass(frozen=True, slots=True)
class RubricComparison:
    """Result of `compare_rubrics`; undefined values are None.

    Attributes:
        documents: number of documents that the judge saw.
        compared: number of documents with both scores.
        spearman: rank correlation, -1 to 1.
        spearman_low, spearman_high: its 95% interval.
        kappa: quadratic weighted kappa on 0 to 5.
        exact: share of documents with the same score on 0 to 5.
        mean_difference: of the first score minus the second.
        results: of the first rubric, and of the second.
        most_different: documents by falling difference of their scores.
    """

    documents: int
    compared: int
    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None
    kappa: float | None
    exact: float
    mean_difference: float
    results: tuple[RubricResult, RubricResult]
    most_different: tuple[DifferentScores, ...]


@dataclass(frozen=True, slots=True)
class JudgedByRubric:
    """The critiques of a sample by one rubric, see `judge_sample`.

    Attributes:
        rubric: name or file.
        critic: id of the critic.
        critiques: by doc_id.
        usage: of the judge.
        seconds: until the last critique.
    """

    rubric: str
    critic: str
    critiques: dict[bytes, Critique]
    usage: Counter[str]
    seconds: float


def judge_sample(
    rubric: str,
    critic: Critic,
    critic_id: str,
    documents: Sequence[Document],
    progress: Callable[[int], None] = lambda done: None,
) -> JudgedByRubric:
    """Judge documents; nothing is stored.

    Args:
        rubric: name of the rubric, for the result.
        critic: applies it.
        critic_id: its id.
        documents: the sample.
        progress: called after each document with the number of finished ones.

    Raises:
        CriticError: see `Critic.run`.
    """
    before, start = usage_of(critic), time.monotonic()
    critiques = dict[bytes, Critique]()
    for done, critique in enumerate(critic.run(documents), 1):
        critiques[critique.doc_id] = critique
        progress(done)
    usage = usage_of(critic) - before
    return JudgedByRubric(rubric, critic_id, critiques, usage, time.monotonic() - start)


def compare_rubrics(
    documents: Sequence[Document], first: JudgedByRubric, second: JudgedByRubric, most: int = 10
) -> RubricComparison:
    """Compare the scores of two rubrics.

    Args:
        documents: the sample.
        first: critiques of it by one rubric.
        second: critiques of it by the other one.
        most: maximum of documents in `most_different`.

    Raises:
        CriticError: fewer than four documents have both scores.
    """
    pairs = []
    for document in documents:
        one, other = first.critiques.get(document.doc_id), second.critiques.get(document.doc_id)
        if one is None or other is None or one.status != OK or other.status != OK:
            continue
        if one.score is not None and other.score is not None:
            pairs.append((document, one, other, one.score, other.score))
    if len(pairs) < MIN_DOCUMENTS:
        raise CriticError(_failure(len(documents), len(pairs), first, second))
    a = np.array([pair[3] for pair in pairs])
    b = np.array([pair[4] for pair in pairs])
    x, y = np.round(a * TOP), np.round(b * TOP)
    spearman = rank_correlation(a, b)
    low, high = rank_interval(spearman, len(pairs))
    pairs.sort(key=lambda pair: (-abs(pair[3] - pair[4]), pair[0].doc_id))
    return RubricComparison(
        len(documents),
        len(pairs),
        _rounded(spearman),
        _rounded(low),
        _rounded(high),
        _rounded(_kappa(x, y)),
        round(float(np.mean(x == y)), _DIGITS),
        round(float(np.mean(a - b)), _DIGITS),
        (_result(first, a), _result(second, b)),
        tuple(
            DifferentScores(
                format_id(document.doc_id),
                " ".join(document.text[:400].split())[:120],
                round(score, _DIGITS),
                round(other_score, _DIGITS),
                one.critique,
                other.critique,
            )
            for document, one, other, score, other_score in pairs[:most]
            if score != other_score
        ),
    )


def _kappa(x: Floats, y: Floats) -> float | None:
    by_chance = float(np.var(x) + np.var(y) + (np.mean(x) - np.mean(y)) ** 2)
    return 1 - float(np.mean((x - y) ** 2)) / by_chance if by_chance else None


def _result(judged: JudgedByRubric, scores: Floats) -> RubricResult:
    statuses, n = Counter(one.status for one in judged.critiques.values()), len(judged.critiques)
    usage = judged.usage
    return RubricResult(
        judged.rubric,
        judged.critic,
        statuses[OK],
        dict(statuses),
        round(float(np.mean(scores)), _DIGITS),
        round(float(np.std(scores)), _DIGITS),
        round(usage["tokens_in"] / n, 1),
        round(usage["tokens_out"] / n, 1),
        round(usage["thinking_tokens"] / n, 1),
        round(judged.seconds / n, _DIGITS),
        usage[COST] / 1e6 / n if usage[COST] else None,
    )


def _failure(n: int, compared: int, *judged: JudgedByRubric) -> str:
    parts = []
    for one in judged:
        failed = [critique for critique in one.critiques.values() if critique.status != OK]
        reason = f", such as {failed[0].status}: {failed[0].error}" if failed else ""
        parts.append(f"{one.rubric}: {len(failed)} failed{reason}")
    return (
        f"{compared} of {n} documents have a score by both rubrics; a comparison needs "
        f"{MIN_DOCUMENTS} ({'; '.join(parts)})"
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
