"""Whether a judge can tell good documents from bad ones: the AUC, its interval, the bar."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from fake_vllm import Running
from judging import PLAIN, QUICK

from ixt_data.analysis.canaries import Canary
from ixt_data.analysis.judge_check import JudgeCheck, auc_interval, check_judge
from ixt_data.critics.rubric import Example, Rubric, load_rubric, shipped_rubrics
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.errors import ConfigError
from ixt_data.records import Critique, Document

MARKED = tuple(
    Example(good=i % 2 == 0, text=f"[[{'good' if i % 2 == 0 else 'bad'}]] page {i}")
    for i in range(12)
)


class LengthCritic:
    """Scores by the length of a text; a text without a space fails."""

    name = "length"

    def config(self) -> dict[str, str]:
        return {"critic": "length"}

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        for document in documents:
            if " " in document.text:
                score = min(1.0, len(document.text) / 20)
                yield Critique(document.doc_id, "ok", critique="long", score=score)
            else:
                yield Critique(document.doc_id, "invalid", error="no space")


def rubric(examples: Iterable[Example]) -> Rubric:
    return load_rubric("web").model_copy(update={"examples": tuple(examples)})


def checked(plan: dict[str, object], examples: Iterable[Example]) -> JudgeCheck:
    with Running(plan) as fake:
        options = {"model": "judge", "sampling": PLAIN, "timeouts": QUICK}
        with VllmCritic(fake.url, rubric=rubric(examples), **options) as critic:
            return check_judge(critic, critic.rubric)


def test_judge_that_scores_by_quality_passes() -> None:
    result = checked({}, MARKED)
    assert (result.auc, result.high) == (1.0, 1.0)
    assert result.low == pytest.approx(0.763, abs=0.001)
    assert result.has_passed
    assert [one.is_good for one in result.documents] == [True] * 6 + [False] * 6


@pytest.mark.parametrize("name", shipped_rubrics())
def test_judge_that_scores_at_random_fails_on_shipped_examples(name: str) -> None:
    examples = load_rubric(name).examples
    assert sum(one.good for one in examples) == 6
    result = checked({}, examples)
    assert len(result.documents) == 12
    assert not result.has_passed
    assert result.low < result.auc < result.high


def test_document_without_a_score_counts_as_wrong() -> None:
    texts = {"a good long page here": True, "nospace": True, "a b": False, "nospacetoo": False}
    examples = [Example(good=good, text=text) for text, good in texts.items()]
    result = check_judge(LengthCritic(), rubric(examples))
    assert result.auc == 0.25
    assert result.failures == 2


def test_canaries_count_by_the_middle_of_their_range() -> None:
    canaries = [
        Canary(text="a long good page, this", score=(0.5, 0.9)),
        Canary(text="a b", score=(0, 0.6)),
    ]
    result = check_judge(LengthCritic(), rubric(()), canaries)
    assert [(one.is_good, one.score) for one in result.documents] == [(True, 1.0), (False, 0.15)]
    with pytest.raises(ConfigError, match="needs its text"):
        check_judge(LengthCritic(), rubric(()), [Canary(doc_id="00" * 16, score=(0, 1))])
    with pytest.raises(ConfigError, match="1 good and 0 bad"):
        check_judge(LengthCritic(), rubric(MARKED[:1]))


def test_interval_contains_the_true_auc_as_often_as_it_says() -> None:
    dice, hits, rounds = random.Random(5), 0, 1000
    true_auc = 0.8557  # of two normals, 1.5 deviations apart: Phi(1.5 / sqrt(2))
    for _ in range(rounds):
        good = [dice.gauss(1.5) for _ in range(6)]
        bad = [dice.gauss() for _ in range(6)]
        auc = sum(a > b for a in good for b in bad) / 36
        low, high = auc_interval(auc, 6, 6)
        hits += low <= true_auc <= high
    assert 0.86 < hits / rounds < 0.96


def test_examples_change_neither_prompt_nor_id(tmp_path: Path) -> None:
    plain, with_examples = rubric(()), rubric(MARKED)
    assert plain.id == with_examples.id
    assert plain.system_message == with_examples.system_message
    assert "examples" not in plain.content
