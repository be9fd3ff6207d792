"""Critiques that say nothing."""

import pytest
from fake_vllm import Running
from judging import judged

from ixt_data.critics.rubric import load_rubric
from ixt_data.critics.vllm.degenerate import find_degeneracy

RUBRIC = load_rubric("web").system_message


@pytest.mark.parametrize(
    ("critique", "reason"),
    [
        (", ", "no sentence"),
        ("./Judge/Judge.json", "no sentence"),
        ("ok", "no sentence"),
        ("The page is good. " * 12, "repeats itself"),
        (" ".join(["spam"] * 40), "repeats itself"),
        ("两个两个两个两个两个两个两个两个两个", "repeats itself"),
        (RUBRIC[200:700], "rubric's own words"),
    ],
)
def test_critique_that_says_nothing_is_found(critique: str, reason: str) -> None:
    assert reason in (find_degeneracy(critique, RUBRIC) or "")


@pytest.mark.parametrize(
    "critique",
    [
        "Clear and correct, but without a source.",
        "Gut belegt.",
        "这个页面解释清楚。",
        "The page explains why water boils earlier in the mountains. It names the height, but it "
        "gives no source, and the last paragraph repeats the first one in other words.",
        "The overall score is 3: the page is correct, the prose is plain, and nothing is cited.",
    ],
)
def test_critique_with_a_judgement_is_kept(critique: str) -> None:
    assert find_degeneracy(critique, RUBRIC) is None


def test_degenerate_critique_is_retried_once() -> None:
    with Running() as fake:
        again, never = judged(fake, "[[once_parrot]] A page.", "[[parrot]] Another.")
        assert (again.status, again.attempts) == ("ok", 2)
        assert (never.status, never.attempts) == ("degenerate", 2)
        assert "repeats itself" in str(never.error)
