"""What the check of a rubric finds, and that the shipped rubrics are free of it."""

from typing import Any

import pytest

from ixt_data.analysis.rubric_check import RubricCheck, check_rubric
from ixt_data.critics.rubric import Rubric, load_rubric, shipped_rubrics


def checked(**changes: Any) -> RubricCheck:
    return check_rubric(Rubric.model_validate(load_rubric("web").model_dump() | changes))


def with_scale(**changes: Any) -> RubricCheck:
    """Return the check of `web` with a changed first scale."""
    dimensions = [one.model_dump() for one in load_rubric("web").dimensions]
    dimensions[0] |= changes
    return checked(dimensions=dimensions)


def findings(check: RubricCheck) -> list[tuple[str, str]]:
    return [(one.level, one.place) for one in check.findings]


@pytest.mark.parametrize("name", shipped_rubrics())
def test_shipped_rubric_has_no_finding(name: str) -> None:
    check = check_rubric(load_rubric(name))
    assert check.findings == ()
    assert check.has_passed
    assert (check.good_examples, check.bad_examples, check.dimensions) == (6, 6, 4)
    assert 900 < check.prompt_tokens < 2000
    assert 800 < check.answer_tokens < 3000


def test_range_of_another_scale_is_an_error() -> None:
    for overall in (
        "A score from 1 to 10, 0 or 5.",
        "Give 7 out of 10 or so, 0 to 5.",
        "8/10 for 0, 5",
    ):
        check = checked(overall=overall)
        assert findings(check) == [("error", "overall")]
        assert not check.has_passed
    assert "'from 1 to 10' is another scale; scores are 0 to 5" in (
        checked(overall="0 or 5, from 1 to 10").findings[0].problem
    )
    assert checked(overall="From 0 (bad), from 0 (leave it) to 5 (repeat it).").has_passed
    both = checked(overall="How good it is.").findings
    assert [(one.level, one.problem) for one in both] == [
        ("warning", "does not say what 0 and 5 mean")
    ]


def test_anchor_without_a_statement_is_an_error() -> None:
    points = [*load_rubric("web").dimensions[0].points]
    check = with_scale(points=[*points[:4], "good"], zero="", question="why")
    assert findings(check) == [
        ("error", "dimensions.education.zero"),
        ("error", "dimensions.education.points.5"),
        ("error", "dimensions.education.question"),
    ]


def test_statement_of_degree_is_a_warning() -> None:
    points = [*load_rubric("web").dimensions[0].points]
    check = with_scale(points=["it is very well made", *points[1:]])
    assert findings(check) == [("warning", "dimensions.education.points.1")]
    assert "'very'" in check.findings[0].problem
    assert check.has_passed


def test_statement_that_counts_twice_is_found() -> None:
    rubric = load_rubric("web")
    points = [*rubric.dimensions[0].points]
    twice = with_scale(points=[*points[:4], points[1].upper()])
    assert findings(twice) == [("error", "dimensions.education.points.5")]
    other = with_scale(points=[*points[:4], rubric.dimensions[1].points[2]])
    assert findings(other) == [("warning", "dimensions.writing.points.3")]


def test_template_without_an_anchor_is_an_error() -> None:
    system = load_rubric("web").system.replace("0: {{ dimension.zero }}\n", "")
    check = checked(system=system, document="{{ text }}")
    assert {level for level, _ in findings(check)} == {"error", "warning"}
    assert ("error", "dimensions.facts.zero") in findings(check)
    assert findings(check)[-1] == ("warning", "document")


def test_examples_are_checked() -> None:
    def example(text: str, *, good: bool) -> dict[str, Any]:
        return {"good": good, "text": text, "messages": None}

    assert [one.problem[:6] for one in checked(examples=()).findings] == ["0 good", "0 bad "]
    good = [example(f"a good page {i}", good=True) for i in range(6)]
    bad = [example(f"a bad page {i}", good=False) for i in range(6)]
    assert checked(examples=good + bad).findings == ()
    assert "is there 2 times" in checked(examples=[*good, *bad, good[0]]).findings[0].problem
    both = checked(examples=[*good, *bad, example("a good page 1", good=False)])
    assert "is both a good and a bad example" in both.findings[0].problem
    assert not both.has_passed


def test_prompt_that_leaves_no_room_is_a_warning() -> None:
    check = checked(task="It is a page. " + "It treats a subject. " * 400)
    assert findings(check) == [("warning", "system")]
    assert "a context of 4,096 has no room" in check.findings[0].problem
