"""Check of a judge before a critique run: can it tell good documents from bad ones?

It judges the golden examples of a rubric, and canaries. The measure is the AUC: the probability
that a good document has a higher score than a bad one, where equal scores count half. A document
without a score counts as the wrong answer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ixt_data.analysis.canaries import Canary
from ixt_data.critics import Critic, Rubric
from ixt_data.errors import ConfigError
from ixt_data.records import OK, Document, document_id

MIN_AUC = 0.7
"""Below this lower bound of the AUC, a judge cannot tell good from bad."""

CONFIDENCE_Z = 1.645
"""Normal quantile of the interval: 5% of judges are below its lower bound."""


@dataclass(frozen=True, slots=True)
class CheckedDocument:
    """One document of the check.

    Attributes:
        text: its start.
        is_good: whether a good judge gives it a high score.
        status: of its critique.
        score: None without one.
    """

    text: str
    is_good: bool
    status: str
    score: float | None


@dataclass(frozen=True)
class JudgeCheck:
    """Result of the check.

    Attributes:
        documents: the good ones first, each kind by falling score.
        auc: probability that a good document has a higher score than a bad one.
        low, high: 90% interval of the AUC.
        min_auc: lower bound that the judge needs.
    """

    documents: tuple[CheckedDocument, ...]
    auc: float
    low: float
    high: float
    min_auc: float

    @property
    def has_passed(self) -> bool:
        """True if the judge can tell good from bad."""
        return self.low >= self.min_auc

    @property
    def failures(self) -> int:
        """Number of documents without a score."""
        return sum(one.score is None for one in self.documents)


def check_judge(
    critic: Critic,
    rubric: Rubric,
    canaries: Sequence[Canary] = (),
    min_auc: float = MIN_AUC,
    progress: Callable[[int], None] = lambda done: None,
) -> JudgeCheck:
    """Let a judge score golden examples and canaries; nothing is stored.

    Args:
        critic: the judge.
        rubric: contains the examples.
        canaries: with texts; one is good if the middle of its range is 0.5 or more.
        min_auc: lower bound of the AUC that the judge needs.
        progress: called after each document with the number of finished ones.

    Raises:
        ConfigError: good or bad documents are missing, or a canary has no text.
        CriticError: see `Critic.run`.
    """
    expected = {one.document_text: one.good for one in rubric.examples}
    for canary in canaries:
        if canary.text is None:
            raise ConfigError(f"canary {canary.doc_id}: --check needs its text, not its doc_id")
        expected[canary.text] = sum(canary.score) >= 1
    n_good = sum(expected.values())
    if not 0 < n_good < len(expected):
        raise ConfigError(
            f"--check needs good and bad documents, but the rubric {rubric.name!r} and the "
            f"canaries have {n_good} good and {len(expected) - n_good} bad ones: add `examples:` "
            "to the rubric, each with `good` and `text`, or give --canaries"
        )
    texts = {document_id(text): text for text in expected}
    checked = list[CheckedDocument]()
    for done, critique in enumerate(critic.run(Document(*pair) for pair in texts.items()), 1):
        text = texts[critique.doc_id]
        score = critique.score if critique.status == OK else None
        start = " ".join(text.split())[:60]
        checked.append(CheckedDocument(start, expected[text], critique.status, score))
        progress(done)
    checked.sort(key=lambda one: (not one.is_good, -_rank(one), one.text))
    good = [_rank(one) for one in checked if one.is_good]
    bad = [_rank(one) for one in checked if not one.is_good]
    auc = sum((a > b) + (a == b) / 2 for a in good for b in bad) / (len(good) * len(bad))
    return JudgeCheck(tuple(checked), auc, *auc_interval(auc, len(good), len(bad)), min_auc)


def _rank(document: CheckedDocument) -> float:
    if document.score is not None:
        return document.score
    return -1.0 if document.is_good else 2.0


def auc_interval(auc: float, n_good: int, n_bad: int) -> tuple[float, float]:
    """Return the 90% interval of an AUC.

    It is method 5 of Newcombe 2006 (doi 10.1002/sim.2324). A bootstrap or DeLong's method gives
    [1, 1] when few documents are separated without an error.

    Args:
        auc: measured.
        n_good: number of good documents.
        n_bad: number of bad documents.
    """
    extra = (n_good + n_bad) / 2 - 1

    def is_outside(value: float) -> bool:
        spread = 1 + extra * ((1 - value) / (2 - value) + value / (1 + value))
        error = math.sqrt(value * (1 - value) * spread / (n_good * n_bad))
        return abs(value - auc) > CONFIDENCE_Z * error

    def bound(outside: float) -> float:
        inside = auc
        for _ in range(50):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if is_outside(middle) else (middle, outside)
        return inside

    return bound(0.0), bound(1.0)
