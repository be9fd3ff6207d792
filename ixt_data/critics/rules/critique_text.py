"""Critique texts from verdicts: the defects, worst first, and the strengths."""

from collections.abc import Sequence
from typing import TypeVar

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
    ("{}.", "{}, and {}.", "{}; {}, and {}."),
    ("{}.", "{}; also, {}.", "{}; also, {}, and {}."),
    ("{}.", "{}; besides, {}.", "{}; besides, {}, and {}."),
)
_GOOD_JOINTS = (("{}.", "{}, and {}."), ("{}.", "{}; {}."))
_COMPLAINT_OPENINGS = ("", "Above all, ", "The main fault: ", "It suffers most in that ")
_TURNS = ("But ", "However, ", "On the other hand, ", "Against it: ")
_CREDITS = ("Still, ", "In its favour, ", "To its credit, ", "On the good side, ")


def write_critique(verdict: Verdict, seed: int) -> str:
    """Return a critique of one or two sentences.

    Args:
        verdict: the findings.
        seed: chooses among equivalent wordings; the same document gets the same one.
    """
    wrong = [_complaint(finding) for finding in _complaints(verdict)]
    good = _praises(verdict, seed)
    opening = _pick(_COMPLAINT_OPENINGS, seed // 7)
    if wrong and good and verdict.score >= PRAISE_FIRST_SCORE:
        opening = _pick(_TURNS, seed // 7)
    parts = [
        _sentence(opening, wrong, _pick(_WRONG_JOINTS, seed)) if wrong else _overall(verdict, seed)
    ]
    if good:
        credit = _pick(_CREDITS, seed // 11) if wrong and verdict.score < PRAISE_FIRST_SCORE else ""
        parts.append(_sentence(credit, good, _pick(_GOOD_JOINTS, seed)))
    return " ".join(reversed(parts) if wrong and verdict.score >= PRAISE_FIRST_SCORE else parts)


def _pick(choices: Sequence[T], seed: int) -> T:
    return choices[seed % len(choices)]


def _complaints(verdict: Verdict) -> list[Finding]:
    relevant = [finding for finding in verdict.findings if finding.loss >= MIN_LOSS]
    return sorted(relevant, key=lambda finding: -finding.loss)[:MAX_COMPLAINTS]


def _complaint(finding: Finding) -> str:
    much, many = next((much, many) for low, much, many in _DEGREES if finding.severity >= low)
    return finding.rule.complaint.format(value=finding.value, much=much, many=many)


def _praises(verdict: Verdict, seed: int) -> list[str]:
    """Return up to two praises, from different dimensions where possible."""
    candidates = [f.rule for f in verdict.findings if f.rule.praise and f.severity == 0]
    shift = seed % max(1, len(candidates))
    rotated = candidates[shift:] + candidates[:shift]
    chosen = {rule.dimension: rule.praise for rule in reversed(rotated)}
    return list(chosen.values())[-MAX_PRAISES:]


def _overall(verdict: Verdict, seed: int) -> str:
    word = next(word for low, word in _OVERALL if verdict.score >= low)
    endings = ("nothing stands against it", "no rule finds fault with it", "it has no clear fault")
    return f"This is {word} {verdict.kind}: {_pick(endings, seed // 5)}."


def _sentence(opening: str, clauses: Sequence[str], joint: Sequence[str]) -> str:
    text = opening + joint[len(clauses) - 1].format(*clauses)
    return text[0].upper() + text[1:]
