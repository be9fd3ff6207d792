"""Check of a rubric before a judge applies it: its scales, its prompt, its examples, its size.

A rubric that loads has the right keys. It may still say what no judge can apply: a point without a
meaning, a statement that counts twice, a range other than that of the answer. An error makes
scores wrong; a warning makes them worse or dearer.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations
from typing import Literal

from ixt_data.critics import BYTES_PER_TOKEN, TOP, Dimension, Rubric, instructs_judge

MIN_EXAMPLES = 6
"""Good and bad examples that `check_judge` needs to tell a good judge from a poor one."""

MAX_PROMPT_TOKENS = 3072
"""Tokens of a prompt without a document above which a context of 4,096 has no room for both."""

SIMILAR = 0.9
"""Share of equal characters from which two points are the same statement."""

_COMMENT_CHARS = 200
_SPAN_CHARS = 60
_NUMBER_CHARS = 40
_RANGES = (
    r"\bfrom (\d+)(?: ?\([^)]*\))? to (\d+)\b",
    r"\bbetween (\d+) and (\d+)\b",
    r"\bscales? of (\d+)(?: ?to |[-–])(\d+)\b",
)
_OUT_OF = re.compile(r"\bout of (\d+)\b|\b\d+ ?/ ?(\d+)\b", re.I)
_DEGREES = (
    "adequate(?:ly)? appropriate(?:ly)? decent fairly properly quite rather(?!,? than) "
    "reasonabl[ey] relatively somewhat sufficient(?:ly)? suitabl[ey] very well-written "
    "high-quality etc"
).split()
_VAGUE = re.compile(rf"\b(?:{'|'.join(_DEGREES)}|good enough|high quality|and so on)\b", re.I)


@dataclass(frozen=True, slots=True)
class RubricFinding:
    """One fault of a rubric.

    Attributes:
        level: `error` or `warning`.
        place: key in the rubric.
        problem: what is wrong, and what to do.
    """

    level: Literal["error", "warning"]
    place: str
    problem: str


@dataclass(frozen=True, slots=True)
class RubricCheck:
    """Result of `check_rubric`.

    Attributes:
        rubric: its name.
        rubric_id: hash of its content.
        dimensions: number of scales.
        good_examples, bad_examples: number of documents for `check_judge`.
        prompt_tokens: of each request besides the document, estimated from the bytes.
        answer_tokens: maximum of an answer without thinking, estimated from the characters.
        findings: errors first.
    """

    rubric: str
    rubric_id: str
    dimensions: int
    good_examples: int
    bad_examples: int
    prompt_tokens: int
    answer_tokens: int
    findings: tuple[RubricFinding, ...]

    @property
    def has_passed(self) -> bool:
        """True without an error; warnings may remain."""
        return all(one.level != "error" for one in self.findings)


def check_rubric(rubric: Rubric) -> RubricCheck:
    """Check a rubric that has loaded; no judge is needed.

    Args:
        rubric: the rubric.
    """
    prompt = rubric.system_message + rubric.empty_message
    prompt_tokens = round(len(prompt.encode()) / BYTES_PER_TOKEN)
    found = [
        *_range_findings(rubric),
        *_anchor_findings(rubric),
        *_statement_findings(rubric),
        *_prompt_findings(rubric),
        *_example_findings(rubric),
        *_size_findings(prompt_tokens),
    ]
    n_good = sum(one.good for one in rubric.examples)
    return RubricCheck(
        rubric.name,
        rubric.id,
        len(rubric.dimensions),
        n_good,
        len(rubric.examples) - n_good,
        prompt_tokens,
        round(_answer_chars(rubric) / BYTES_PER_TOKEN),
        tuple(sorted(found, key=lambda one: one.level)),
    )


def _error(place: str, problem: str) -> RubricFinding:
    return RubricFinding("error", place, problem)


def _warning(place: str, problem: str) -> RubricFinding:
    return RubricFinding("warning", place, problem)


def _range_findings(rubric: Rubric) -> Iterator[RubricFinding]:
    texts = [("task", rubric.task), ("overall", rubric.overall)]
    texts += [(f"dimensions.{one.name}.question", one.question) for one in rubric.dimensions]
    for place, text in texts:
        for match in (match for pattern in _RANGES for match in re.finditer(pattern, text, re.I)):
            if (int(match[1]), int(match[2])) != (0, TOP):
                yield _error(place, f"{match[0]!r} is another scale; scores are 0 to {TOP}")
        for match in _OUT_OF.finditer(text):
            if int(match[1] or match[2]) != TOP:
                yield _error(place, f"{match[0]!r} is another scale; scores are 0 to {TOP}")


def _anchor_findings(rubric: Rubric) -> Iterator[RubricFinding]:
    for place, text in _statements(rubric.dimensions):
        if len(text.split()) < 2:
            yield _error(
                place, f"{text!r} says nothing a judge can look for; write a statement of the text"
            )
    for dimension in rubric.dimensions:
        if len(dimension.question.split()) < 2:
            place = f"dimensions.{dimension.name}.question"
            yield _error(place, f"{dimension.question!r} is not a question that a scale answers")
    missing = [str(end) for end in (0, TOP) if not re.search(rf"\b{end}\b", rubric.overall)]
    if missing:
        yield _warning("overall", f"does not say what {' and '.join(missing)} mean")


def _statement_findings(rubric: Rubric) -> Iterator[RubricFinding]:
    statements = list(_statements(rubric.dimensions))
    for place, text in statements:
        for match in _VAGUE.finditer(text):
            yield _warning(
                place, f"{match[0]!r} leaves the scale to the judge's taste; say what must be true"
            )
    for (first, one), (second, other) in combinations(statements, 2):
        if _is_same(one, other):
            inside = first.split(".")[1] == second.split(".")[1]
            what = f"{other!r} is also {first}: the same statement counts twice"
            yield _error(second, what) if inside else _warning(second, what)


def _is_same(one: str, other: str) -> bool:
    matcher = SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False)
    return matcher.quick_ratio() >= SIMILAR and matcher.ratio() >= SIMILAR


def _statements(dimensions: tuple[Dimension, ...]) -> Iterator[tuple[str, str]]:
    """Yield the key and the text of the statements that give points, and of their absence."""
    for dimension in dimensions:
        yield f"dimensions.{dimension.name}.zero", dimension.zero
        for number, point in enumerate(dimension.points, 1):
            yield f"dimensions.{dimension.name}.points.{number}", point


def _prompt_findings(rubric: Rubric) -> Iterator[RubricFinding]:
    """Yield what a custom template leaves out."""
    needed = [("task", rubric.task), ("overall", rubric.overall), *_statements(rubric.dimensions)]
    needed += [(f"flags.{flag}", flag) for flag in rubric.flags]
    if rubric.spans is not None:
        needed += [(f"spans.tags.{tag}", tag) for tag in rubric.spans.tags]
    for place, text in needed:
        if text.strip() and text.strip() not in rubric.system_message:
            yield _error(place, "is not in the prompt: the template `system` leaves it out")
    if "0" * 12 not in rubric.empty_message:
        yield _warning(
            "document",
            "the template does not contain {{ mark }}: a document can imitate its own end",
        )


def _example_findings(rubric: Rubric) -> Iterator[RubricFinding]:
    sides: dict[str, set[bool]] = {}
    for example in rubric.examples:
        sides.setdefault(example.document_text, set()).add(example.good)
    counts = Counter(one.document_text for one in rubric.examples)
    for text, good in sides.items():
        start = " ".join(text.split())[:40]
        if len(good) > 1:
            yield _error("examples", f"{start!r} is both a good and a bad example")
        elif counts[text] > 1:
            yield _warning("examples", f"{start!r} is there {counts[text]} times")
        if True in good and instructs_judge(text):
            yield _warning("examples", f"{start!r} tells the judge what to do, and is a good one")
    for word, n in (
        ("good", sum(True in good for good in sides.values())),
        ("bad", sum(False in good for good in sides.values())),
    ):
        if n < MIN_EXAMPLES:
            yield _warning(
                "examples",
                f"{n} {word} ones: `ixt critique --check` needs {MIN_EXAMPLES} good and "
                f"{MIN_EXAMPLES} bad ones, or canaries",
            )


def _size_findings(prompt_tokens: int) -> Iterator[RubricFinding]:
    if prompt_tokens > MAX_PROMPT_TOKENS:
        yield _warning(
            "system",
            f"takes about {prompt_tokens:,} tokens of each request: over {MAX_PROMPT_TOKENS:,}, "
            "a context of 4,096 has no room for a document and its critique",
        )


def _answer_chars(rubric: Rubric) -> int:
    """Return the characters of the longest answer that the schema allows."""
    chars = rubric.critique_chars + _NUMBER_CHARS * (len(rubric.dimensions) + 1)
    chars += sum(map(len, rubric.flags))
    if rubric.spans is not None:
        per_span = rubric.spans.quote_chars + _COMMENT_CHARS + _SPAN_CHARS
        chars += rubric.spans.most * per_span
    return chars
