"""Agreement of two rubrics on the same documents, and the documents where they differ."""

from collections.abc import Sequence

import numpy as np
import pytest

from ixt_data.analysis.rubric_comparison import (
    JudgedByRubric,
    compare_rubrics,
    judge_sample,
)
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.errors import CriticError
from ixt_data.records import Critique, Document, document_id

TEXTS = [f"{i} page" for i in range(40)]
DOCUMENTS = [Document(document_id(text), text) for text in TEXTS]


class Scored(EmbeddedCritic):
    """Scores the n-th document by the n-th of some numbers; None fails."""

    name = "scored"

    def __init__(self, scores: Sequence[float | None]) -> None:
        self.scores = scores

    def config(self):
        return {}

    def judge(self, document: Document) -> Critique:
        score = self.scores[int(document.text.split()[0])]
        if score is None:
            return Critique(document.doc_id, "refused", error="it was declined")
        return Critique(document.doc_id, critique=f"worth {score}", score=score)


def judged(name: str, scores: Sequence[float | None]) -> JudgedByRubric:
    return judge_sample(name, Scored(scores), f"{name}-1", DOCUMENTS)


def test_comparison_measures_documents_with_both_scores() -> None:
    scores = [i % 6 / 5 for i in range(40)]
    lower = [None if i < 4 else max(0.0, score - 0.2) for i, score in enumerate(scores)]
    lower[10] = 0.0  # was 0.8
    found = compare_rubrics(DOCUMENTS, judged("a", scores), judged("b", lower), most=3)
    assert (found.documents, found.compared) == (40, 36)
    assert found.spearman is not None
    assert found.spearman_low is not None
    assert found.spearman_low < found.spearman < (found.spearman_high or 0)
    assert 0.8 < found.spearman < 1
    differences = [a - b for a, b in zip(scores, lower, strict=True) if b is not None]
    assert found.mean_difference == pytest.approx(np.mean(differences), abs=1e-4)
    assert found.kappa is not None
    assert 0 < found.kappa < 1
    first, second = found.results
    assert (first.ok, second.ok, second.statuses) == (40, 36, {"refused": 4, "ok": 36})
    assert first.cost is None
    worst = found.most_different[0]
    assert (worst.text, worst.first, worst.second) == ("10 page", 0.8, 0.0)
    assert (worst.first_critique, worst.second_critique) == ("worth 0.8", "worth 0.0")
    assert len(found.most_different) == 3


def test_equal_scores_differ_nowhere() -> None:
    scores = [i % 6 / 5 for i in range(40)]
    found = compare_rubrics(DOCUMENTS, judged("a", scores), judged("b", scores))
    assert (found.spearman, found.spearman_low, found.kappa, found.exact) == (1, 1, 1, 1)
    assert found.most_different == ()
    constant = compare_rubrics(DOCUMENTS, judged("a", scores), judged("b", [0.5] * 40))
    assert (constant.spearman, constant.spearman_low) == (None, None)


def test_comparison_without_scores_names_the_reason() -> None:
    with pytest.raises(CriticError, match=r"0 of 40 .*b: 40 failed, such as refused: it was decl"):
        compare_rubrics(DOCUMENTS, judged("a", [0.5] * 40), judged("b", [None] * 40))
