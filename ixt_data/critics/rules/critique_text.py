"""Critique texts from verdicts: the defects, worst first, and the strengths."""

from collections.abc import Sequence
from typing import TypeVar

from ixt_data.critics.rules.quantity import Quantity
from ixt_data.critics.rules.rule import Finding, Verdict

T = TypeVar("T")

MAX_COMPLAINTS = 3
"""Maximum of complaints in a critique."""
MIN_LOSS = 0.06
"""Share of a dimension's score that a finding must cost to be named."""
MAX_PRAISES = 2
PRAISE_FIRST_SCORE = 0.5
"""From this score on, the critique starts with the strengths."""

_DEGREES = ((0.8, "far too", "very many"), (0.5, "too", "many"), (0.0, "rather", "some"))
_OVERALL = ((0.85, "good"), (0.65, "decent"), (0.4, "mixed"), (0.2, "weak"), (0.0, "poor"))
_WRONG_JOINTS = (
    ("{}.", "{}, and {}.", "{}. Also, {}, and {}."),
    ("{}.", "{}. Also, {}.", "{}; {}, and {}."),
    ("{}.", "{}. Besides, {}.", "{}. Besides, {}, and {}."),
)
_GOOD_JOINTS = (("{}.", "{}, and {}."), ("{}.", "{}; {}."))
_COMPLAINT_OPENINGS = ("", "", "Above all, ", "Most of all, ")
_TURNS = ("But ", "However, ", "", "On the other hand, ")
_CREDITS = ("Still, ", "At least ", "", "On the positive side, ")


def write_critique(verdict: Verdict, seed: int) -> str:
    """Return a critique of one to three sentences.

    Args:
        verdict: the findings.
        seed: chooses among equivalent wordings; the same document gets the same one.
    """
    wrong = [
        _complaint(finding, seed // 13 + place)
        for place, finding in enumerate(_complaints(verdict))
    ]
    good = _praises(verdict, seed)
    praises_first = bool(wrong) and verdict.score >= PRAISE_FIRST_SCORE
    if not wrong:
        parts = [_overall(verdict, seed)]
    else:
        openings = _TURNS if good and praises_first else _COMPLAINT_OPENINGS
        parts = [_sentence(_pick(openings, seed // 7), wrong, _pick(_WRONG_JOINTS, seed))]
    if good:
        credit = _pick(_CREDITS, seed // 11) if wrong and not praises_first else ""
        parts.append(_sentence(credit, good, _pick(_GOOD_JOINTS, seed)))
    return " ".join(reversed(parts) if praises_first else parts)


def _pick(choices: Sequence[T], seed: int) -> T:
    return choices[seed % len(choices)]


def _complaints(verdict: Verdict) -> list[Finding]:
    relevant = [finding for finding in verdict.findings if finding.loss >= MIN_LOSS]
    return sorted(relevant, key=lambda finding: -finding.loss)[:MAX_COMPLAINTS]


def _complaint(finding: Finding, seed: int) -> str:
    much, many = next((much, many) for low, much, many in _DEGREES if finding.severity >= low)
    wording = _pick(finding.rule.complaints, seed)
    return wording.format(value=Quantity(finding.value), much=much, many=many)


def _praises(verdict: Verdict, seed: int) -> list[str]:
    """Return up to two praises, from different dimensions where possible."""
    candidates = [f.rule for f in verdict.findings if f.rule.praises and f.severity == 0]
    shift = seed % max(1, len(candidates))
    rotated = candidates[shift:] + candidates[:shift]
    chosen = {rule.dimension: _pick(rule.praises, seed // 3) for rule in reversed(rotated)}
    return list(chosen.values())[-MAX_PRAISES:]


def _overall(verdict: Verdict, seed: int) -> str:
    word = next(word for low, word in _OVERALL if verdict.score >= low)
    endings = ("nothing speaks against it", "no rule finds a fault", "it has no clear fault")
    return f"This is {word} {verdict.kind}: {_pick(endings, seed // 5)}."


def _sentence(opening: str, clauses: Sequence[str], joint: Sequence[str]) -> str:
    text = opening + joint[len(clauses) - 1].format(*clauses)
    return text[0].upper() + text[1:]
